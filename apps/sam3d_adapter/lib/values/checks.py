"""Does this image look like what the preset expects? What does not is said in words, before anybody trusts the mask.

Thresholds were chosen on half of the volumes of docs/experiments/value-checks.md and hold on the others.
"""

import math

import numpy as np
import torch

from lib.answer_warnings import answer_warning
from lib.geometry.axes import spacing_of
from lib.presets import Preset
from lib.prompts.prompts import Prompts
from lib.segmenters.contract import Segmentation
from lib.segmenters.intensity import intensity_window
from lib.segmenters.intensity_settings import PercentileIntensity, WindowIntensity
from lib.values.image_values import ImageValues, image_values
from lib.volumes.volume import Volume

LEAST_SPAN_HU = 20.0
"""Noise alone is wider in a CT; z-scores and values from 0 to 1 are narrower."""
TISSUE_HU = (-200.0, 300.0)
"""Fat, muscle, organs, blood with contrast medium."""
LEAST_TISSUE = 0.03
"""Share of the voxels in ``TISSUE_HU``: 0.30 in the CT of a lung."""
NEGATIVE_HU = -20.0
LEAST_NEGATIVE = 0.01
"""Share of the voxels below ``NEGATIVE_HU``: air, lung and fat; only a field of view within an organ has fewer."""
DENSE_HU = 600.0
MOST_DENSE, MOST_DENSE_WITHOUT_FAT = 0.2, 0.05
"""Share of the voxels above ``DENSE_HU``, which bone and contrast medium are; hardly any where there is no fat."""
SCALED_HU, LEAST_SCALED = -3100.0, 0.02
"""Below, scanners write one value alone, around what they saw."""
ZERO_SHARE = 0.05
"""Share of the voxels in the lowest 3 % of values that begin at 0: air in a CT that was shifted or scaled."""
AIR_HU, LEAST_AIR = (-1100.0, -850.0), 0.02
FAT_HU, LEAST_FAT = (-200.0, -50.0), 0.02
"""What a CT has and images without a unit do not, and the share of the voxels; MR has a few negative ones."""
WINDOWED_HU = (-900.0, 1000.0)
"""Where display windows end; beyond, values are cut by scanners as well."""
WINDOWED_LOW, WINDOWED_HIGH = 0.01, 0.001
"""Share of the voxels at the very end of a CT, from which on it is no noise."""
END, BESIDE, END_RATIO = 0.002, 10, 3.0
"""Width of an end of the values, as a share of their range; how many steps of that width beside it are looked at; how
many times as many voxels as in any of these must be there."""
LEAST_LEVELS = 17
"""An image with fewer different values is drawn, not taken."""
REGION_MM = 64.0
OUTSIDE_SHARE = {"above": 0.95, "below": 0.995}
"""Share of the region's voxels beyond the window. Below it is more, for lungs hold vessels alone."""
FILLED = 0.7
"""Share of the body, or of the region, that no structure takes."""
BODY_HU, BODY_OF_RANGE = -400.0, 0.05
_MAX_REGION_SAMPLES = 40_000


def value_warnings(preset: Preset, image: Volume, prompts: Prompts, source: str | None) -> list[str]:
    """What of the image's values is not as the preset expects; nothing where the preset does not say.

    Args:
        preset: of the task.
        image: the whole image.
        prompts: of the request.
        source: modality that the source of the image names; None where none does.

    Raises:
        ImageError: values in which nothing can be segmented.
    """
    values = image_values(image)
    found = [_other_modality(preset, source)]
    intensity = getattr(preset.settings, "intensity", None)
    if isinstance(intensity, WindowIntensity):
        not_hu = _not_hu(preset, values)
        found += [not_hu, _clipped_at_both_ends(values) if not_hu else _clipped_ct(values, intensity)]
    elif isinstance(intensity, PercentileIntensity):
        found += [_looks_like_ct(preset, values, source), _clipped_at_the_top(values, intensity)]
    if isinstance(intensity, WindowIntensity | PercentileIntensity):
        found.append(_region(image, prompts, intensity_window(intensity, image)))
    return [warning for warning in found if warning]


def mask_warnings(preset: Preset, image: Volume, segmentation: Segmentation) -> list[str]:
    """Whether a mask takes nearly all there is.

    Args:
        preset: of the task.
        image: that was segmented.
        segmentation: the answer.
    """
    voxels = int(np.count_nonzero(segmentation.mask))
    intensity = getattr(preset.settings, "intensity", None)
    if not voxels or not isinstance(intensity, WindowIntensity | PercentileIntensity):
        return []
    of_body = voxels / max(1.0, _body_share(image_values(image)) * image.voxels.numel())
    if of_body >= FILLED:
        return [
            answer_warning(
                "fills-body",
                f"The mask takes {min(of_body, 1):.0%} of the body in this image; the structure was lost. Undo the "
                "click, set it in the middle of the structure, add background clicks, or check image and preset.",
            )
        ]
    roi = segmentation.details.get("roi")
    if not roi:
        return []
    region = math.prod(roi["size_dhw"]) * float(roi["spacing_mm"]) ** 3 / math.prod(spacing_of(image.affine))
    of_region = voxels / min(region, image.voxels.numel())
    if of_region >= FILLED:
        return [
            answer_warning(
                "fills-region",
                f"The mask takes {min(of_region, 1):.0%} of the region that the network saw, so its border there was "
                "not found. Add background clicks outside of the structure, or check image and preset.",
            )
        ]
    return []


def _body_share(values: ImageValues) -> float:
    low, high = values.percentile(0.1), values.percentile(95)
    return values.share(low=BODY_HU if _guess(values) is None else low + BODY_OF_RANGE * (high - low))


def _other_modality(preset: Preset, source: str | None) -> str | None:
    if source is None or preset.modality is None or source == preset.modality:
        return None
    return answer_warning(
        "other-modality",
        f"The image is a {source} by its DICOM header; preset {preset.name} expects {preset.modality}, and its masks "
        f"of other images mean nothing. Choose a preset for {source}.",
    )


def _not_hu(preset: Preset, values: ImageValues) -> str | None:
    guess = _guess(values)
    if guess is None:
        return None
    return answer_warning(
        "not-hu",
        f"Preset {preset.name} expects a CT in Hounsfield units (air -1000, fat -100, organs 0 to 100 HU). This image "
        f"has values from {values.low:g} to {values.high:g}, half of them from {values.percentile(25):g} to "
        f"{values.percentile(75):g}: {guess} The mask cannot be trusted.",
    )


def _guess(values: ImageValues) -> str | None:
    """What values that cannot be HU may be, and what to do; None for values that may be HU."""
    low, high = values.low, values.high
    if values.percentile(99.9) - values.percentile(0.1) < LEAST_SPAN_HU:
        kind = "z-scores" if low < 0 else "values scaled to a small range"
        return f"they look like {kind}. Load the CT before it was normalised."
    has_negative = values.share(high=NEGATIVE_HU) >= LEAST_NEGATIVE
    if values.share(low=DENSE_HU) > (MOST_DENSE if has_negative else MOST_DENSE_WITHOUT_FAT):
        if values.share(900, 1300) > 0.15 and values.share(low=1700) < 0.1:
            return "they look like HU + 1024. Subtract 1024 (the RescaleIntercept of DICOM), and load it again."
        return "they look like another modality, or a CT without its rescaling. Choose the preset of the image."
    if values.share(high=SCALED_HU) - values.share(high=low) >= LEAST_SCALED:
        return "nothing in a body is so far below air. Export it again, with its RescaleSlope applied once."
    if not has_negative:
        if abs(low) < 0.5 and abs(high - 255) < 0.5:
            return "they look scaled to 0 to 255. Load the CT before it was scaled."
        top = values.percentile(99.9)
        if low > -0.05 * top and values.share(high=0.03 * top) >= ZERO_SHARE and not _is_windowed(values):
            return "they look like another modality, or a CT that was scaled. Choose the preset of the image."
    elif values.share(*TISSUE_HU) < LEAST_TISSUE:
        return (
            f"only {values.share(*TISSUE_HU):.1%} of them lie from {TISSUE_HU[0]:g} to {TISSUE_HU[1]:g}. Export it "
            "again, with its RescaleIntercept applied once."
        )
    return None


def _looks_like_ct(preset: Preset, values: ImageValues, source: str | None) -> str | None:
    if source is not None:
        return None
    has_air = values.share(*AIR_HU) >= LEAST_AIR
    has_fat = values.share(*FAT_HU) >= LEAST_FAT
    if not (has_air or has_fat) or values.share(*TISSUE_HU) < 0.1 or values.percentile(99.9) > 5000:
        return None
    return answer_warning(
        "looks-like-ct",
        f"Preset {preset.name} expects {preset.modality or 'images without a unit, such as MR'}. This image has "
        f"values from {values.low:g} to {values.high:g}, {values.share(high=-50):.0%} of them below -50, as a CT in "
        "Hounsfield units has. Choose a preset for CT if it is one.",
    )


def _is_cut(values: ImageValues, *, at_top: bool, least: float, above: float = -math.inf) -> bool:
    """Whether voxels pile up at an end of the values.

    Args:
        values: of the image.
        at_top: which end.
        least: share of the voxels that must lie there.
        above: only voxels above this value count.
    """
    if values.levels < LEAST_LEVELS:
        return False
    ordered = values.ordered if at_top else -values.ordered[::-1]
    distance = (ordered[-1] - ordered) / (ordered[-1] - ordered[0])
    there, *beside = np.histogram(distance, BESIDE + 1, (0, END * (BESIDE + 1)))[0]
    counted = np.count_nonzero(values.ordered > above)
    return bool(there > least * counted and there >= END_RATIO * max(beside))


def _is_windowed(values: ImageValues) -> bool:
    return all(_is_cut(values, at_top=at_top, least=WINDOWED_LOW) for at_top in (False, True))


def _clipped_ct(values: ImageValues, intensity: WindowIntensity) -> str | None:
    low, high = values.low, values.high
    at_low = low > WINDOWED_HU[0] and _is_cut(values, at_top=False, least=WINDOWED_LOW)
    at_high = high < WINDOWED_HU[1] and _is_cut(values, at_top=True, least=WINDOWED_HIGH)
    if not (at_low or at_high):
        return None
    first, last = intensity.clip_hu
    is_lossless = (not at_low or low <= first) and (not at_high or high >= last)
    what = (
        "The preset reads nothing beyond it, so this mask is as it would be of the whole; others may not be"
        if is_lossless
        else f"The preset reads from {first:g} to {last:g} HU, so the mask may differ from that of the whole"
    )
    return _clipped(values, at_low, at_high, what, " HU")


def _clipped_at_both_ends(values: ImageValues) -> str | None:
    if not _is_windowed(values):
        return None
    return _clipped(values, True, True, "The mask may differ from that of the whole", "")


def _clipped_at_the_top(values: ImageValues, intensity: PercentileIntensity) -> str | None:
    """Zeros are a mask or the air; what is lost at the top counts where it is more than the preset cuts itself."""
    least = max(0.001, (100 - intensity.high) / 100)
    if not _is_cut(values, at_top=True, least=least, above=values.low):
        return None
    at_low = values.low != 0 and _is_cut(values, at_top=False, least=WINDOWED_LOW)
    return _clipped(values, at_low, True, "The preset reads more than is left", "")


def _clipped(values: ImageValues, at_low: bool, at_high: bool, what: str, unit: str) -> str:
    ends = [
        *([f"{_share_at(values, values.low):.1%} of its voxels at {values.low:g}{unit}"] if at_low else []),
        *([f"{_share_at(values, values.high):.1%} of its voxels at {values.high:g}{unit}"] if at_high else []),
    ]
    return answer_warning(
        "clipped-window",
        f"The image looks clipped to a display window: it has {' and '.join(ends)}, its last value there. {what}. Send "
        "the image as it was stored, without a window.",
    )


def _share_at(values: ImageValues, end: float) -> float:
    tolerance = END * (values.high - values.low)
    return values.share(end - tolerance, end + tolerance)


def _region(image: Volume, prompts: Prompts, window: WindowIntensity) -> str | None:
    """Whether the preset can tell anything apart around the first prompt."""
    centre = _centre(prompts)
    if centre is None:
        return None
    half = np.ceil(REGION_MM / 2 / spacing_of(image.affine)).astype(int)
    box = tuple(slice(max(0, at - int(n)), at + int(n) + 1) for at, n in zip(centre, half, strict=True))
    inside = image.voxels[box]
    step = math.ceil((inside.numel() / _MAX_REGION_SAMPLES) ** (1 / 3))
    region = inside[::step, ::step, ::step].to(torch.float32)
    region = region[torch.isfinite(region)]
    around = f"within {REGION_MM / 2:.0f} mm of voxel {list(centre)}"
    if not len(region) or (least := float(region.min())) == float(region.max()):
        what = "no voxel is finite" if not len(region) else f"all voxels have the value {least:g}"
        return answer_warning(
            "flat-region", f"There is nothing to tell apart: {around} {what}. Click on a structure inside the body."
        )
    low, high = window.clip_hu
    shares = {"above": float((region >= high).float().mean()), "below": float((region <= low).float().mean())}
    for side, share in shares.items():
        if share >= OUTSIDE_SHARE[side]:
            return answer_warning(
                "outside-window",
                f"{around.capitalize()} {share:.1%} of the voxels lie {side} the window of the preset ({low:g} to "
                f"{high:g}); they have values from {least:g} to {float(region.max()):g}. The network sees next to "
                "nothing there. Check the unit of the image, the preset, and the place of the click.",
            )
    return None


def _centre(prompts: Prompts) -> tuple[int, ...] | None:
    if prompts.foreground:
        return prompts.foreground[0].ijk
    if prompts.box is not None:
        return tuple(int(part) for part in prompts.box.centre)
    return prompts.clicks[0].ijk if prompts.clicks else None
