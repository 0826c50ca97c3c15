"""What the clicks of a dialogue correct: the network's first answer, or a mask that the user started from."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from lib.geometry.roi import Roi, roi_at
from lib.presets import RoiPreset
from lib.prompts.box import Box
from lib.prompts.click import Click, on_structure
from lib.prompts.mask_prompt import StartMask
from lib.segmenters.roi.prediction import MAX_ENCODES, Looks
from lib.segmenters.roi.zoom import (
    FirstAnswer,
    answer_box,
    answer_first,
    require_within_reach,
    roi_of_box,
)


@dataclass(frozen=True)
class Opening:
    """The state before a dialogue's further clicks.

    Attributes:
        roi: its grid is that of all corrections, its place the first of their regions.
        key: identifies all that the answer depends on but for the further clicks.
        tiles: how many regions are looked at because of clicks of each kind.
        box: around the structure.
        head: the click that was answered first; None with a start mask, which all clicks correct.
        is_implied: whether ``head`` is not the user's.
        first: the answer to it; None with a start mask.
        start: mask that the user started from.
    """

    roi: Roi
    key: Hashable
    tiles: int
    box: Box | None
    head: Click | None = None
    is_implied: bool = False
    first: FirstAnswer | None = None
    start: StartMask | None = None


def open_dialogue(
    looks: Looks,
    preset: RoiPreset,
    clicks: Sequence[Click],
    threshold: float,
    *,
    implied: Click | None = None,
    box: Box | None = None,
    start: StartMask | None = None,
) -> Opening:
    """Gives the first answer, unless it is at hand.

    Args:
        looks: at the image.
        preset: size, axes and spacings of the views.
        clicks: of the user, foreground clicks first.
        threshold: foreground probability.
        implied: stands for the first foreground click where there is none.
        box: around the structure.
        start: mask that the clicks correct.

    Raises:
        ClickError: foreground clicks farther apart than the widest view; not with a start mask, which goes on beyond.
    """
    if start is not None:
        started = ("start", looks.key, preset, start.hash, box, threshold)
        return Opening(_roi_of_start(looks, preset, start, box), started, MAX_ENCODES // 2, box, start=start)
    head = clicks[0] if implied is None else implied
    require_within_reach((head, *on_structure(clicks)), looks.volume, preset)
    is_implied = implied is not None
    key = ("first", looks.key, preset, head.ijk, is_implied, box, threshold)
    first: FirstAnswer | None = looks.embeddings.get(key)
    if first is None:
        if box is None:
            first = answer_first(looks, preset, head, threshold)
        else:
            first = answer_box(looks, preset, box, head, threshold, is_implied=is_implied)
        looks.embeddings.put(key, first)
    return Opening(first.roi, key, (MAX_ENCODES - first.encodes) // 2, box, head, is_implied, first)


def _roi_of_start(looks: Looks, preset: RoiPreset, start: StartMask, box: Box | None) -> Roi:
    """A region that no click moves, so that none moves what others changed."""
    if box is not None:
        return roi_of_box(looks.volume, preset, box, Click(box.centre))
    shape, affine = looks.volume.voxels.shape, looks.volume.affine
    return roi_at(start.centre, shape, affine, preset.size, preset.spacing_mm, preset.axes)
