"""Scores of one mask, and of the masks that follow one another as clicks are added."""

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from monai.metrics import compute_surface_dice
from scipy.integrate import trapezoid

from lib.evaluation.simulated_user import Mask, SimulatedClick, bounding_box

TOLERANCES_MM = (2.0, 5.0)
NOC_TARGETS = (80, 85, 90)
"""Dice, in percent, whose number of clicks is counted."""
AUC_CLICKS = 5
NSD_COUNTS_ABOVE_DICE = 0.2
"""At or below it a surface that happens to be near says nothing, so NSD_AUC takes it as 0."""
FAR_MM = 30.0
"""A click is to change the mask around it; what lies farther from it than this is far."""
FAR_CHANGE_LIMIT = 0.01
"""Share of the far voxels that one click may change."""
_SAME_DICE = 1e-6
_LARGE_DROP = 0.01


def dice(mask: Mask, truth: Mask) -> float:
    """Dice overlap of two masks of one shape; 1 if both are empty."""
    total = int(np.count_nonzero(mask)) + int(np.count_nonzero(truth))
    return 2 * int(np.count_nonzero(mask & truth)) / total if total else 1.0


def surface_dice(
    mask: Mask, truth: Mask, spacing: Sequence[float], tolerances_mm: Sequence[float] = TOLERANCES_MM
) -> tuple[float, ...]:
    """Normalised surface Dice (NSD), by area of the surface elements.

    Args:
        mask: (i, j, k) bool.
        truth: (i, j, k) bool, not empty.
        spacing: mm along i, j, k.
        tolerances_mm: how far from the other surface an element may lie, mm.

    Returns:
        One share of the area for each tolerance; 0 where the mask is empty.
    """
    if not mask.any():
        return (0.0,) * len(tolerances_mm)
    box = bounding_box(mask | truth)
    assert box is not None  # the mask is not empty
    # What lies around both surfaces changes nothing and would cost a pass over the whole image.
    cropped = [torch.from_numpy(np.pad(array[box], 1)) for array in (mask, truth)]
    shown = [tensor[None, None].expand(1, len(tolerances_mm), -1, -1, -1) for tensor in cropped]
    with warnings.catch_warnings():
        # MONAI 1.6 passes itself an argument that it has deprecated.
        warnings.filterwarnings("ignore", message=".*always_return_as_numpy")
        scores = compute_surface_dice(
            shown[0],
            shown[1],
            class_thresholds=[float(tolerance) for tolerance in tolerances_mm],
            include_background=True,
            spacing=tuple(float(length) for length in spacing),
            use_subvoxels=True,
        )
    return tuple(float(score) for score in scores[0])


def auc(scores: Sequence[float]) -> float:
    """Area under the scores of clicks 1 to 5, one click apart: 0 to 4."""
    return float(trapezoid(scores[:AUC_CLICKS]))


def counted_nsd(nsd: Sequence[float], scores: Sequence[float]) -> list[float]:
    """What of the NSD enters an area: 0 at every step whose Dice is 0.2 or less.

    Args:
        nsd: at 2 mm, after each click.
        scores: Dice after each click.
    """
    return [value if overlap > NSD_COUNTS_ABOVE_DICE else 0.0 for value, overlap in zip(nsd, scores, strict=True)]


def normalised_auc(scores: Sequence[float]) -> float:
    """Area under the scores of all clicks, one click apart, divided by its largest value: 0 to 1."""
    return float(trapezoid(scores)) / (len(scores) - 1)


def number_of_clicks(scores: Sequence[float], target_percent: int) -> int | None:
    """The first click, from 1, after which Dice reaches a target; None where it never does."""
    return next((step for step, score in enumerate(scores, start=1) if score >= target_percent / 100), None)


def drops(scores: Sequence[float], clicked: Sequence[bool]) -> tuple[float | None, float | None]:
    """Shares of the further clicks after which Dice fell at all, and by more than 0.01; None without further clicks.

    Args:
        scores: Dice after each click.
        clicked: whether a click was placed at each step.
    """
    falls = [scores[step - 1] - scores[step] for step in range(1, len(scores)) if clicked[step]]
    if not falls:
        return None, None
    return sum(fall > _SAME_DICE for fall in falls) / len(falls), sum(fall > _LARGE_DROP for fall in falls) / len(falls)


def far_change(before: Mask, after: Mask, clicks: Sequence[SimulatedClick], spacing: Sequence[float]) -> float | None:
    """How much of the mask changed far from where the user clicked.

    Looked at are the voxels of the union of both masks whose centres lie more than ``FAR_MM`` from every click that
    made the difference.

    Args:
        before: the mask without these clicks, (i, j, k) bool.
        after: the mask with them.
        clicks: that were added, or taken back, between the two.
        spacing: mm along i, j, k.

    Returns:
        The share of those voxels that belong to one of the two masks alone; None where there is no such voxel.
    """
    box = bounding_box(before | after)
    if box is None:
        return None
    old, new = before[box], after[box]
    far = old | new
    axes = [np.arange(side.start, side.stop) for side in box]
    for click in clicks:
        squared = [((axis - at) * mm) ** 2 for axis, at, mm in zip(axes, click.ijk, spacing, strict=True)]
        far &= squared[0][:, None, None] + squared[1][:, None] + squared[2] > FAR_MM**2
    count = int(np.count_nonzero(far))
    return int(np.count_nonzero(far & (old ^ new))) / count if count else None


def obeyed(mask: Mask, clicks: Sequence[SimulatedClick]) -> list[bool]:
    """For each click, whether its own voxel has the label that was asked for."""
    return [bool(mask[click.ijk]) == click.positive for click in clicks]
