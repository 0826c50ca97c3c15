"""What of the network's answer to further clicks is taken over into the answer that it gave before."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from lib.geometry.click_influence import Floats, Mask, border_distance, near_in_roi, reach_of, unclicked
from lib.geometry.paste import BACKGROUND
from lib.geometry.roi import Roi
from lib.prompts.click import Click
from lib.segmenters.roi.enforce_clicks import obey

EXTENT = 2.0
"""Correction radius, as a multiple of the click's distance to the nearest correctly labelled voxel."""
LEAST_VOXELS = 2.0
"""How far a click corrects an answer of the network at least, in voxels of its ROI: that border may be wrong itself."""

Obeyed = tuple[tuple[Click, bool], ...]
"""Clicks that were asked about, and whether the network itself obeyed them."""


@dataclass(frozen=True)
class Spot:
    """Where something may be corrected, and because of which clicks.

    Attributes:
        roi: around it.
        new: clicks that it may change because of.
        told: all of the user's clicks up to these that lie in the ROI, the new ones included.
        implied: a place, at most one, that the network was shown as a foreground click without being the user's.
        support: (D, H, W), voxels that may change.
        before: (D, H, W) foreground logit that is corrected.
        threshold: foreground probability.
    """

    roi: Roi
    new: tuple[Click, ...]
    told: tuple[Click, ...]
    implied: tuple[Click, ...]
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
        """A logit in which the clicks that were told are obeyed; what `obey` says of the new ones, before that."""
        dhw, signs = self.roi.clicks_to_dhw(self.told), [click.is_foreground for click in self.told]
        pair = torch.from_numpy(np.stack([np.zeros_like(logit), logit]))
        anchors = self.roi.clicks_to_dhw(self.implied)
        settled, obeyed = obey(pair, dhw, signs, self.roi.spacing_mm, self.threshold, anchors_dhw=anchors)
        concerned = zip(self.told, obeyed, strict=True)
        new = ((click, good) for click, good in concerned if click in self.new and self.support[self.voxel(click)])
        return settled[1].numpy(), tuple(new)

    def meant(self, clicks: Sequence[Click], least_mm: float) -> Mask:
        """Where clicks are meant: near each, the farther it lies from the border of the mask that it corrects."""
        mask = self.before > self.level
        meant = np.zeros_like(mask)
        for click in clicks:
            wrong_mm = border_distance(mask, self.roi.clicks_to_dhw([click])[0], click.is_foreground)
            extent_mm = np.clip(EXTENT * wrong_mm * self.roi.spacing_mm, least_mm, reach_of([click]))
            meant |= near_in_roi(self.roi, [click], float(extent_mm))
        return meant


def may_correct(spot: Spot) -> bool:
    """Whether there is anything to ask: what is not in the mask cannot be taken out of it."""
    if not spot.support.any():
        return False
    adds = all(click.is_foreground for click in spot.new)
    return adds or bool((spot.before[spot.support] > spot.level).any())


def correct(spot: Spot, asked: Floats | None) -> tuple[Floats, Obeyed]:
    """The logit of an ROI with what the network corrects near the new clicks, and all clicks enforced there.

    Args:
        spot: where.
        asked: (D, H, W) the network's answer; None where it was not asked.
    """
    now = spot.before.copy()
    if asked is not None:
        new = [click for click in spot.new if spot.roi.holds(click)]
        taken = spot.support & spot.meant(new, LEAST_VOXELS * spot.roi.spacing_mm)
        kinds = {click.is_foreground for click in spot.new}
        if len(kinds) == 1:
            # What is missing is added, what is too much taken away: not both because of clicks of one kind.
            taken &= (asked > spot.before) == kinds.pop()
        now[taken] = asked[taken]
    enforced, obeyed = spot.enforced(now)
    now[spot.support] = enforced[spot.support]
    clicked = [*(click for click in spot.told if click.is_foreground), *spot.implied]
    pieces = unclicked(now > spot.level, spot.support, spot.roi.clicks_to_dhw(clicked))
    now[pieces] = BACKGROUND
    return now, obeyed
