"""How a preset cuts regions of interest: at which spacings, along which axes, and when it looks again."""

from dataclasses import dataclass

from lib.models.config import ConfigError
from lib.presets.section import Section
from lib.segmenters import FAMILIES

# One letter per anatomical line: the direction in which the index of that ROI axis grows.
AXIS_PAIRS = ("SI", "AP", "RL")
MAX_FURTHER_AXES = 2
"""Beyond it, too few encodes of a request were left for clicks elsewhere."""
OPTIONAL_ROI = ("wider_spacings_mm", "large_share", "closer_spacing_mm", "small_share", "further_axes")
LARGE_SHARE = 0.42
"""Where a preset says nothing: chosen on sarcomas of 2 to 30 cm and on lesions of phantoms together."""
SMALL_SHARE = 0.35
"""Likewise: chosen on lesions of phantoms 1-20."""


@dataclass(frozen=True)
class RoiPreset:
    """How the ROI is cut.

    Attributes:
        size: voxels along each side of the cube.
        spacing_mm: isotropic voxel spacing of the ROI, mm.
        axes: anatomical directions in which the ROI indices (D, H, W) grow, e.g. ``"SAR"``.
        wider_spacings_mm: ascending spacings, mm, at which to look again while the mask outgrows the ROI.
        large_share: of the ROI's side; a mask whose sphere of equal volume is wider outgrows it even where it reaches
            no face.
        closer_spacing_mm: spacing, mm, at which to look again where the mask is small; None for not at all.
        small_share: of the ROI's side; a mask whose sphere of equal volume is narrower is small.
        further_axes: the same as ``axes``: other directions along which the view of a first click is looked at as well,
            for the mean of the probabilities.
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
        """Ascending, mm: the spacings at which structures are looked at, for training to draw from."""
        closer = () if self.closer_spacing_mm is None else (self.closer_spacing_mm,)
        return (*closer, self.spacing_mm, *self.wider_spacings_mm)


def read_roi(section: Section, family: str, model_size: str) -> RoiPreset:
    """The mapping ``roi`` of a preset, for a network of this family and size.

    Raises:
        PresetError: a value that cannot be used.
    """
    axes = section.text("axes")
    _require_axes(section, "axes", axes)
    spacing_mm = section.number("spacing_mm", low=0.05, high=20.0)
    size = section.whole_number("size", low=8, high=512)
    try:
        FAMILIES[family].check_roi(model_size, size)
    except ConfigError as error:
        raise section.error("size", f"is {size}. {error}") from error
    return RoiPreset(
        size=size,
        spacing_mm=spacing_mm,
        axes=axes,
        wider_spacings_mm=section.ascending("wider_spacings_mm", low=spacing_mm, high=20.0),
        large_share=_read_share(section, "large_share", LARGE_SHARE),
        closer_spacing_mm=_read_closer(section, spacing_mm),
        small_share=_read_share(section, "small_share", SMALL_SHARE),
        further_axes=_read_further_axes(section, axes),
    )


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
