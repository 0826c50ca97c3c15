"""How a click corrects: which part of the network's new prediction replaces the answer before it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import label

from lib.geometry.click_influence import (
    LEAST_VOXELS,
    Floats,
    Mask,
    border_distance,
    correction_radius_mm,
    near_in_roi,
    unclicked,
)
from lib.geometry.paste import BACKGROUND
from lib.geometry.roi import Roi
from lib.prompts.click import Click
from lib.prompts.mask import MaskPrompt
from lib.segmenters.roi.enforce_clicks import enforce_clicks

START_LEAST_MM = 5.0
"""Least correction radius in a mask of the user, mm."""
_LEAST = 0.5
"""Distance from the threshold's logit at which the click's own voxel is set, where nothing else supports it."""

Obeyed = tuple[tuple[Click, bool], ...]
"""Clicks that the network was shown, and whether it obeyed them."""


@dataclass(frozen=True)
class CorrectionContext:
    """Where clicks may correct the answer, and which clicks.

    Attributes:
        roi: around it.
        new: clicks of one kind that correct here.
        told: the user's clicks in the ROI that the answer follows from, the new ones included.
        pseudo: at most one pseudo-click that the network was shown.
        support: (D, H, W), voxels that may change.
        before: (D, H, W) foreground logit that is corrected.
        threshold: foreground probability.
    """

    roi: Roi
    new: tuple[Click, ...]
    told: tuple[Click, ...]
    pseudo: tuple[Click, ...]
    support: Mask
    before: Floats
    threshold: float

    @property
    def level(self) -> float:
        """The logit above which a voxel belongs to the mask."""
        return math.log(self.threshold / (1 - self.threshold))

    def voxel(self, click: Click) -> tuple[int, int, int]:
        """The ROI's voxel of a click that lies in the ROI."""
        index = np.clip(np.rint(self.roi.clicks_to_dhw([click])[0]), 0, np.array(self.roi.size_dhw) - 1)
        d, h, w = index.astype(int).tolist()
        return d, h, w

    def enforced(self, logit: Floats) -> tuple[Floats, Obeyed]:
        """The logit with all clicks enforced, and whether the new ones were obeyed before that."""
        dhw, signs = self.roi.clicks_to_dhw(self.told), [click.is_foreground for click in self.told]
        pair = torch.from_numpy(np.stack([np.zeros_like(logit), logit]))
        anchors = self.roi.clicks_to_dhw(self.pseudo)
        settled, obeyed = enforce_clicks(pair, dhw, signs, self.roi.spacing_mm, self.threshold, anchors_dhw=anchors)
        concerned = zip(self.told, obeyed, strict=True)
        new = ((click, good) for click, good in concerned if click in self.new and self.support[self.voxel(click)])
        return settled[1].numpy(), tuple(new)

    def influence(self, clicks: Sequence[Click], least_mm: float) -> Mask:
        """Voxels that the clicks may correct: the farther a click lies from the border of the mask, the wider."""
        mask = self.before > self.level
        influenced = np.zeros_like(mask)
        for click in clicks:
            wrong_mm = border_distance(mask, self.roi.clicks_to_dhw([click])[0], click.is_foreground)
            extent_mm = correction_radius_mm(wrong_mm * self.roi.spacing_mm, least_mm, click)
            influenced |= near_in_roi(self.roi, [click], extent_mm)
        return influenced


def may_correct(context: CorrectionContext) -> bool:
    """Whether the clicks can change anything: background clicks need a mask to remove something from."""
    if not context.support.any():
        return False
    return context.new[0].is_foreground or bool((context.before[context.support] > context.level).any())


def correct(context: CorrectionContext, predicted: Floats | None) -> tuple[Floats, Obeyed]:
    """The logit of an ROI, corrected near the new clicks, with all clicks enforced there.

    Args:
        context: where.
        predicted: (D, H, W) the network's new foreground logit; None where it was not run.
    """
    now = context.before.copy()
    if predicted is not None:
        new = [click for click in context.new if context.roi.holds(click)]
        taken = context.support & context.influence(new, LEAST_VOXELS * context.roi.spacing_mm)
        # Foreground clicks only add, background clicks only remove.
        taken &= (predicted > context.before) == context.new[0].is_foreground
        now[taken] = predicted[taken]
    enforced, obeyed = context.enforced(now)
    now[context.support] = enforced[context.support]
    clicked = [*(click for click in context.told if click.is_foreground), *context.pseudo]
    pieces = unclicked(now > context.level, context.support, context.roi.clicks_to_dhw(clicked))
    now[pieces] = BACKGROUND
    return now, obeyed


def contradicting(context: CorrectionContext, start: MaskPrompt, untouched: Floats) -> list[Click]:
    """The new clicks in the ROI that the mask contradicts; the others ask for nothing.

    Args:
        context: where.
        start: the mask.
        untouched: (D, H, W), its logit before any click.
    """
    asking = []
    for click in context.new:
        if not context.roi.holds(click) or not context.support[context.voxel(click)]:
            continue
        now, then = (float(logit[context.voxel(click)]) for logit in (context.before, untouched))
        # Where nothing has changed, the mask on the image's grid is exact.
        says = bool(start.mask[click.ijk]) if now == then else now > context.level
        if says != click.is_foreground:
            asking.append(click)
    return asking


def correct_mask_prompt(
    context: CorrectionContext, asking: list[Click], predicted: Floats | None
) -> tuple[Floats, Obeyed]:
    """The logit of an ROI with what clicks ask for, and nothing else.

    A foreground click adds, and a background click removes, the voxels that the prediction with all clicks enforced
    changes in that direction, if they are connected with the click and within its influence. Without a prediction, only
    the click's voxel changes.

    Args:
        context: where.
        asking: see `contradicting`.
        predicted: (D, H, W) the network's new foreground logit; None where it was not run.
    """
    now, mask = context.before.copy(), context.before > context.level
    answer, obeyed = (predicted, ()) if predicted is None else context.enforced(predicted)
    for click in asking:
        voxel, sign = context.voxel(click), click.is_foreground
        if answer is not None:
            wanted = ((answer > context.level) == sign) & (mask != sign) & context.support
            wanted &= context.influence([click], START_LEAST_MM)
            wanted[voxel] = True
            pieces, _ = label(wanted)
            piece = pieces == pieces[voxel]
            now[piece] = answer[piece]
        side = 1 if sign else -1
        now[voxel] = context.level + side * max(side * (float(now[voxel]) - context.level), _LEAST)
    return now, obeyed if predicted is not None else tuple((click, False) for click in asking)
