"""Which of a preset's weights are evaluated: a version that is kept, those that are served, or the preset's own."""

from lib.presets import Preset
from lib.registry.errors import RegistryError
from lib.registry.reader import VersionsReader
from lib.registry.version import SHIPPED

SERVED = "served"
"""In place of an id: whichever version the server answers with."""


def with_version(preset: Preset, versions: VersionsReader, wanted: str) -> tuple[Preset, str]:
    """The preset with the weights of a version, which are checked, in place of its own; and the id of that version.

    Args:
        preset: of any family.
        versions: of this preset.
        wanted: an id, `SHIPPED` for the preset's own weights, or `SERVED`.

    Raises:
        RegistryError: there is no such version, then with those that there are; it is damaged; or which one is served
            cannot be told.
        OSError: the folder of the versions cannot be read.
    """
    if wanted != SERVED:
        return _with(preset, versions, wanted), wanted
    # A server would answer with another one and a warning; figures under a wrong name would be worse than none.
    try:
        served = versions.state().served
        return _with(preset, versions, served), served
    except RegistryError as error:
        raise RegistryError(
            f"What preset '{preset.name}' serves cannot be evaluated: {error} "
            f"Name another version, or {SHIPPED} for the preset's own weights."
        ) from error


def _with(preset: Preset, versions: VersionsReader, version_id: str) -> Preset:
    if version_id == SHIPPED:
        return preset
    versions.verify(version_id)
    return preset.with_weights(versions.weights(version_id))
