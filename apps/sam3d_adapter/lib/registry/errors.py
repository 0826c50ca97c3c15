"""What can be wrong with a registry of versions."""


class RegistryError(ValueError):
    """Something that cannot be done with the versions, and why."""


class UnknownVersion(RegistryError):
    """An id that names no version; says which there are."""


class DamagedFile(RegistryError):
    """A file of the registry, or weights in it, that are not what was written."""


class ChangedMeanwhile(RegistryError):
    """What was to be decided rests on something that is no longer in force."""


class NewerFormat(RegistryError):
    """Files of a later release of this app, which this one must neither read nor touch."""


class RegistryBusy(RegistryError):
    """Another process keeps the versions locked."""
