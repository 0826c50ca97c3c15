"""How a preset cuts regions of interest and normalises their intensities."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lib.files.yaml_section import Section, SettingsError
from lib.models.config import ConfigError

# One letter per anatomical line: the direction in which the index of that ROI axis grows.
AXIS_PAIRS = ("SI", "AP", "RL")
MAX_FURTHER_AXES = 2
"""More would leave too few encodes of a request for clicks elsewhere."""
OPTIONAL_ROI = ("wider_spacings_mm", "large_share", "closer_spacing_mm", "small_share", "further_axes")
LARGE_SHARE = 0.42
"""Default; tuned on sarcomas of 2 to 30 cm together with lesions of phantoms."""
SMALL_SHARE = 0.35
"""Default; tuned on lesions of phantoms 1 to 20."""
INTENSITY_MODES = ("window", "percentile")


@dataclass(frozen=True)
class WindowIntensity:
    """``(clip(x, *clip_hu) - mean) / std``, all in Hounsfield units.

    Attributes:
        clip_hu: lowest and highest value kept, HU.
        mean: subtracted after clipping, HU.
        std: divided by after clipping, HU.
    """

    clip_hu: tuple[float, float]
    mean: float
    std: float
    mode: str = "window"


@dataclass(frozen=True)
class PercentileIntensity:
    """Clip to percentiles of the non-zero voxels of the whole volume, then z-score with what is left of them.

    Attributes:
        low: lower percentile, 0 to 100.
        high: upper percentile, 0 to 100.
    """

    low: float
    high: float
    mode: str = "percentile"


IntensitySettings = WindowIntensity | PercentileIntensity


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
    return RoiNetworkSettings(roi, _read_intensity(preset))


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


def _read_intensity(preset: Section) -> IntensitySettings:
    path, content = preset.path, preset.values["intensity"]
    mode = content.get("mode") if isinstance(content, Mapping) else None
    if mode == "window":
        section = Section(path, "intensity", content, required=("mode", "clip_hu", "mean", "std"))
        low, high = section.pair("clip_hu", low=-32768, high=32767)
        return WindowIntensity(
            clip_hu=(low, high),
            mean=section.number("mean", low=low, high=high),
            std=section.number("std", low=1e-6, high=1e6),
        )
    # A wrong mode is the reason for its foreign keys, so it is named first.
    if isinstance(content, Mapping) and mode not in INTENSITY_MODES:
        raise SettingsError(f"{path}: intensity.mode is {mode!r}; choose from: {', '.join(INTENSITY_MODES)}.")
    section = Section(path, "intensity", content, required=("mode", "low", "high"))
    low, high = section.number("low", low=0, high=100), section.number("high", low=0, high=100)
    if low >= high:
        raise section.error("low", f"is {low:g}; it must be below high, which is {high:g}")
    return PercentileIntensity(low=low, high=high)
