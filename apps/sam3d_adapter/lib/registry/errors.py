"""What can be wrong with a registry of versions."""


class RegistryError(ValueError):
    """Something that cannot be done with the versions, and why."""


class UnknownVersion(RegistryError):
    """No version has this id; the text lists those that exist."""


class DamagedFile(RegistryError):
    """A file of the registry, or a weights file in it, is not what was written."""


class ChangedMeanwhile(RegistryError):
    """A decision rests on a version that is no longer served, or no longer the best."""


class NewerFormat(RegistryError):
    """A later release of this app wrote the files; this one must neither read nor change them."""


class RegistryBusy(RegistryError):
    """Another process keeps the versions locked."""
