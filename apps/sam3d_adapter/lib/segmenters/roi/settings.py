"""How a preset cuts regions of interest and normalises their intensities."""

from collections.abc import Callable
from dataclasses import dataclass

from lib.files.yaml_section import Section
from lib.models.config import ConfigError
from lib.segmenters.intensity_settings import IntensitySettings, read_intensity

# One letter per anatomical line: the direction in which the index of that ROI axis grows.
AXIS_PAIRS = ("SI", "AP", "RL")
MAX_FURTHER_AXES = 2
"""More would leave too few encodes of a request for clicks elsewhere."""
OPTIONAL_ROI = ("wider_spacings_mm", "large_share", "closer_spacing_mm", "small_share", "further_axes")
LARGE_SHARE = 0.42
"""Default; tuned on sarcomas of 2 to 30 cm together with lesions of phantoms."""
SMALL_SHARE = 0.35
"""Default; tuned on lesions of phantoms 1 to 20."""


@dataclass(frozen=True)
class RoiSettings:
    """How the ROI is cut.

    Attributes:
        size: voxels along each side of the cube.
        spacing_mm: isotropic voxel spacing of the ROI, mm.
        axes: anatomical directions in which the ROI indices (D, H, W) grow, e.g. ``"SAR"``.
        wider_spacings_mm: ascending spacings, mm, to zoom out to while the mask outgrows the ROI.
        large_share: share of the ROI's side; a mask whose sphere of equal volume is wider outgrows the ROI even where
            it touches no face.
        closer_spacing_mm: spacing, mm, to zoom in to where the mask is small; None for never.
        small_share: share of the ROI's side; a mask whose sphere of equal volume is narrower is small.
        further_axes: further values of ``axes`` for test-time augmentation: the region of a first click is predicted
            along each of them too, and the probabilities are averaged.
    """

    size: int
    spacing_mm: float
    axes: str
    wider_spacings_mm: tuple[float, ...] = ()
    large_share: float = LARGE_SHARE
    closer_spacing_mm: float | None = None
    small_share: float = SMALL_SHARE
    further_axes: tuple[str, ...] = ()

    @property
    def seen_spacings_mm(self) -> tuple[float, ...]:
        """Spacings of all zoom levels, ascending, mm; training draws from them."""
        closer = () if self.closer_spacing_mm is None else (self.closer_spacing_mm,)
        return (*closer, self.spacing_mm, *self.wider_spacings_mm)


@dataclass(frozen=True)
class RoiNetworkSettings:
    """The sections of a preset for a network that sees a cube.

    Attributes:
        roi: how regions are cut.
        intensity: how their intensities are normalised.
    """

    roi: RoiSettings
    intensity: IntensitySettings


def read_roi_settings(preset: Section, check_size: Callable[[int], None]) -> RoiNetworkSettings:
    """The sections ``roi`` and ``intensity`` of a preset.

    Args:
        preset: the file.
        check_size: raises ConfigError where the network cannot take a cube of so many voxels a side.

    Raises:
        SettingsError: a value that cannot be used.
    """
    section = preset.section("roi", required=("size", "spacing_mm", "axes"), optional=OPTIONAL_ROI)
    axes = section.text("axes")
    _require_axes(section, "axes", axes)
    spacing_mm = section.number("spacing_mm", low=0.05, high=20.0)
    size = section.whole_number("size", low=8, high=512)
    try:
        check_size(size)
    except ConfigError as error:
        raise section.error("size", f"is {size}. {error}") from error
    roi = RoiSettings(
        size=size,
        spacing_mm=spacing_mm,
        axes=axes,
        wider_spacings_mm=section.ascending("wider_spacings_mm", low=spacing_mm, high=20.0),
        large_share=_read_share(section, "large_share", LARGE_SHARE),
        closer_spacing_mm=_read_closer(section, spacing_mm),
        small_share=_read_share(section, "small_share", SMALL_SHARE),
        further_axes=_read_further_axes(section, axes),
    )
    return RoiNetworkSettings(roi, read_intensity(preset))


def _require_axes(section: Section, key: str, axes: str) -> None:
    if sorted(map(_axis_line, axes)) != sorted(AXIS_PAIRS):
        raise section.error(key, f"is {axes!r}; give three letters, one each of {', '.join(AXIS_PAIRS)}, e.g. SAR")


def _read_further_axes(section: Section, axes: str) -> tuple[str, ...]:
    further = section.values.get("further_axes", [])
    if not isinstance(further, list) or len(further) > MAX_FURTHER_AXES or not all(isinstance(a, str) for a in further):
        wanted = f"a list of at most {MAX_FURTHER_AXES}, e.g. [IPL], is needed"
        raise section.error("further_axes", f"is {further!r}; {wanted}")
    for letters in further:
        _require_axes(section, "further_axes", letters)
    if len({axes, *further}) != 1 + len(further):
        raise section.error("further_axes", f"is {further!r}; all must differ, also from axes (={axes})")
    return tuple(further)


def _read_share(section: Section, key: str, default: float) -> float:
    return section.number(key, low=0.05, high=1.5) if key in section.values else default


def _read_closer(section: Section, spacing_mm: float) -> float | None:
    if "closer_spacing_mm" not in section.values:
        return None
    closer_mm = section.number("closer_spacing_mm", low=0.05, high=20.0)
    if closer_mm >= spacing_mm:
        raise section.error("closer_spacing_mm", f"is {closer_mm:g}; it must be below spacing_mm (={spacing_mm:g})")
    return closer_mm


def _axis_line(letter: str) -> str:
    return next((pair for pair in AXIS_PAIRS if letter in pair), "")
