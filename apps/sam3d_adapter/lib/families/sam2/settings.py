"""What a preset says of slices."""

from dataclasses import dataclass

from lib.files.yaml_section import Section
from lib.segmenters.intensity_settings import IntensitySettings, read_intensity

CHANNELS = ("same", "neighbours")


@dataclass(frozen=True)
class SliceSettings:
    """The sections ``slices`` and ``intensity`` of a preset.

    Attributes:
        channels: what the three channels show: three times the ``same`` slice, or the ``neighbours``: the slice
            before, the slice, the slice after.
        stop_after: slices in a row without the object after which tracking ends.
        intensity: the window; percentiles are those of the whole image. Mean and deviation have no effect.
    """

    channels: str
    stop_after: int
    intensity: IntensitySettings


def read_slice_settings(preset: Section) -> SliceSettings:
    """The sections of a preset.

    Raises:
        SettingsError: a value that cannot be used.
    """
    section = preset.section("slices", required=("channels", "stop_after"))
    return SliceSettings(
        channels=section.choice("channels", CHANNELS),
        stop_after=section.whole_number("stop_after", low=1, high=1000),
        intensity=read_intensity(preset),
    )
