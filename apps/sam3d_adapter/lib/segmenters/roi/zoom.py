"""The first answer, which later clicks correct: the view it is given at, by the first click alone or by a box."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from lib.geometry.paste import BACKGROUND, Part
from lib.geometry.roi import Roi, place_roi, roi_at
from lib.presets import RoiPreset
from lib.prompts.box import Box, ellipsoid_in_roi, place_roi_on_box
from lib.prompts.click import Click
from lib.prompts.mask_prompt import LOGIT
from lib.segmenters.roi.boundary import look_along_surface
from lib.segmenters.roi.clicked_component import is_small, keep_clicked, leaves_roi, outgrows_roi
from lib.segmenters.roi.enforce_clicks import obey
from lib.segmenters.roi.prediction import MAX_ENCODES, Looks
from lib.segmenters.roi.test_time_augmentation import turned_back
from lib.volumes.volume import Volume


@dataclass(frozen=True)
class FirstAnswer:
    """What is segmented of the first foreground click alone, in its box where there is one.

    Attributes:
        roi: of the view that was chosen.
        logit: (D, H, W) float32 of the foreground, the first click obeyed and its piece of the mask alone.
        obeyed: whether the network itself obeyed the click.
        part: the same as it is shown, on a grid of half the spacing where its surface was looked at again.
        encodes: image encoder passes that it takes where none is at hand.
    """

    roi: Roi
    logit: Tensor
    obeyed: bool
    part: Part
    encodes: int

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors."""
        return self.logit.nbytes + self.part.logit.nbytes


@dataclass(frozen=True)
class _View:
    """What is seen of a click from one distance.

    Attributes:
        roi: around the click.
        seen: (2, D, H, W) logits, the network's own.
        logits: the same, the click obeyed.
        clicks_dhw: (1, 3), the click in the ROI.
        obeyed: whether the network itself obeyed it.
    """

    roi: Roi
    seen: Tensor
    logits: Tensor
    clicks_dhw: np.ndarray
    obeyed: bool


def answer_first(looks: Looks, preset: RoiPreset, click: Click, threshold: float) -> FirstAnswer:
    """Looks at the click, then from farther away while what was clicked on outgrows the view, then along its surface.

    If the preset says so, what is small in the first view is looked at from nearer instead, and the view that is chosen
    along further axes as well.

    Args:
        looks: at the image.
        preset: size, axes and spacings of the views.
        click: the first one, foreground.
        threshold: foreground probability.
    """
    spacings_mm = spacings_of(preset)
    for spacing_mm in spacings_mm:
        view = _look(looks, preset, click, threshold, spacing_mm)
        with looks.stages.time("paste"):
            if spacing_mm == spacings_mm[-1]:
                break
            if spacing_mm < preset.wider_spacings_mm[-1]:
                goes_on = outgrows_roi(view.logits, view.clicks_dhw, threshold, preset.large_share)
            else:
                goes_on = leaves_roi(view.logits, view.clicks_dhw, view.roi, threshold)
            if not goes_on:
                break
    looked_mm = {mm for mm in spacings_mm if mm <= spacing_mm}
    closer_mm, is_first = preset.closer_spacing_mm, spacing_mm == spacings_mm[0]
    if is_first and closer_mm and is_small(view.logits, view.clicks_dhw, threshold, preset.small_share):
        nearer = _look(looks, preset, click, threshold, closer_mm)
        looked_mm.add(closer_mm)
        # Where it does not fit into the nearer view, the one before stands.
        if not outgrows_roi(nearer.logits, nearer.clicks_dhw, threshold, preset.large_share):
            view = nearer
    if preset.further_axes:
        view = _turned_as_well(looks, preset, view, click, threshold)
    with looks.stages.time("paste"):
        settled = _settled(view.logits, view.clicks_dhw, threshold)
    coarse = Part(view.roi, settled)
    if is_first:
        return FirstAnswer(view.roi, settled, view.obeyed, coarse, len(looked_mm) + len(preset.further_axes))
    near = _placed(looks, preset, click, spacing_mm / 2)
    # With the presets that ship, the view of half the spacing is one of those before.
    encodes = len(looked_mm | {near.spacing_mm}) + len(preset.further_axes)
    part, further = _refined(looks, coarse, near, click, threshold, encodes, is_enforced=True)
    return FirstAnswer(view.roi, part.logit[::2, ::2, ::2].clone(), view.obeyed, part, encodes + further)


def _look(looks: Looks, preset: RoiPreset, click: Click, threshold: float, spacing_mm: float) -> _View:
    roi = _placed(looks, preset, click, spacing_mm)
    return _viewed(looks, roi, looks(roi, [click]), click, threshold)


def _viewed(looks: Looks, roi: Roi, seen: Tensor, click: Click, threshold: float) -> _View:
    with looks.stages.time("paste"):
        clicks_dhw = roi.clicks_to_dhw([click])
        logits, obeyed = obey(seen, clicks_dhw, [True], roi.spacing_mm, threshold)
    return _View(roi, seen, logits, clicks_dhw, obeyed[0])


def _turned_as_well(looks: Looks, preset: RoiPreset, view: _View, click: Click, threshold: float) -> _View:
    """The view with the mean of the probabilities that the network has along its axes and along further ones."""
    plain = (view.seen[1] - view.seen[0]).sigmoid()
    seen = [plain]
    for axes in preset.further_axes:
        turned = _placed(looks, replace(preset, axes=axes), click, view.roi.spacing_mm)
        asked = looks(turned, [click])
        with looks.stages.time("paste"):
            seen.append(turned_back((asked[1] - asked[0]).sigmoid(), turned, view.roi, outside=plain))
    with looks.stages.time("paste"):
        logit = torch.logit(torch.stack(seen).mean(dim=0), eps=1e-6)
    return _viewed(looks, view.roi, torch.stack([torch.zeros_like(logit), logit]), click, threshold)


def answer_box(
    looks: Looks, preset: RoiPreset, box: Box, click: Click, threshold: float, *, is_implied: bool
) -> FirstAnswer:
    """Looks at the box, once: it tells how large the structure is. Then along the surface of what is seen from afar.

    The box is shown twice, to networks that read it and their previous answer: as a box, and as the ellipsoid in it, in
    place of the answer that the click corrects. Without the second the network makes less of the box.

    Args:
        looks: at the image.
        preset: size, axes and spacings of the views.
        box: around the structure.
        click: the first foreground click in it.
        threshold: foreground probability.
        is_implied: whether the click is not the user's, and so is not enforced.
    """
    roi = roi_of_box(looks.volume, preset, box, click)
    prior = None
    if looks.predictor.uses_box and looks.predictor.feeds_back:
        prior = LOGIT * (2 * torch.from_numpy(ellipsoid_in_roi(box, roi)).float() - 1)
    logits = looks(roi, [click], prior, box)
    with looks.stages.time("paste"):
        clicks_dhw = roi.clicks_to_dhw([click])
        enforced, obeyed = obey(logits, clicks_dhw, [True], roi.spacing_mm, threshold)
        settled = _settled(logits if is_implied else enforced, clicks_dhw, threshold)
    if roi.spacing_mm == preset.spacing_mm:
        return FirstAnswer(roi, settled, obeyed[0], Part(roi, settled), encodes=1)
    shape, affine = looks.volume.voxels.shape, looks.volume.affine
    middle = roi.dhw_to_ijk([[size // 2 for size in roi.size_dhw]])[0]
    near = roi_at(middle, shape, affine, preset.size, roi.spacing_mm / 2, preset.axes)
    part, further = _refined(looks, Part(roi, settled), near, click, threshold, 2, is_enforced=not is_implied)
    return FirstAnswer(roi, part.logit[::2, ::2, ::2].clone(), obeyed[0], part, 2 + further)


def _refined(
    looks: Looks, coarse: Part, near: Roi, click: Click, threshold: float, encodes: int, *, is_enforced: bool
) -> tuple[Part, int]:
    """The answer after its surface was looked at again, the click's piece alone, and how many further regions it took.

    Args:
        looks: at the image.
        coarse: the answer from afar.
        near: the region in the middle of its view, at half the spacing.
        click: foreground.
        threshold: foreground probability.
        encodes: that it takes without further regions.
        is_enforced: whether the click is the user's, and so is to be obeyed.
    """
    # What is left is for further clicks, of each kind one region at least.
    room = max(0, MAX_ENCODES - encodes - 2)
    part, further = look_along_surface(looks, coarse, near, click, threshold, room)
    with looks.stages.time("paste"):
        pair = torch.stack([torch.zeros_like(part.logit), part.logit])
        clicks_dhw = part.roi.clicks_to_dhw([click])
        if is_enforced:
            pair, _ = obey(pair, clicks_dhw, [True], part.roi.spacing_mm, threshold)
        return Part(part.roi, _settled(pair, clicks_dhw, threshold)), further


def _placed(looks: Looks, preset: RoiPreset, click: Click, spacing_mm: float) -> Roi:
    return place_roi(
        [click],
        looks.volume.voxels.shape,
        looks.volume.affine,
        size=preset.size,
        spacing_mm=spacing_mm,
        roi_axes=preset.axes,
    )


def roi_of_box(volume: Volume, preset: RoiPreset, box: Box, click: Click) -> Roi:
    """The view of a box, or of the click in it where it fits into none."""
    return place_roi_on_box(
        box,
        [click],
        volume.voxels.shape,
        volume.affine,
        size=preset.size,
        spacings_mm=spacings_of(preset),
        roi_axes=preset.axes,
    )


def spacings_of(preset: RoiPreset) -> tuple[float, ...]:
    """Spacings of the views, mm: the preset's, and where it has several, twice the widest for what leaves even that."""
    wider = preset.wider_spacings_mm
    return (preset.spacing_mm, *wider, *([2 * wider[-1]] if wider else []))


def require_within_reach(clicks: Sequence[Click], volume: Volume, preset: RoiPreset) -> None:
    """Passes if the foreground clicks fit into the widest view.

    Raises:
        ClickError: they are farther apart.
    """
    place_roi(
        clicks,
        volume.voxels.shape,
        volume.affine,
        size=preset.size,
        spacing_mm=spacings_of(preset)[-1],
        roi_axes=preset.axes,
    )


def _settled(logits: Tensor, clicks_dhw: np.ndarray, threshold: float) -> Tensor:
    # Bounded, because a later click must be able to win a voxel over.
    kept = keep_clicked(logits, clicks_dhw, threshold)
    return torch.clamp(kept[1] - kept[0], BACKGROUND, -BACKGROUND)
