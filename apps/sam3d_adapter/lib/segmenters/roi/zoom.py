"""The initial prediction at its zoom level, which the first click alone or a box chooses."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from lib.geometry.box import ellipsoid_in_roi, place_roi_on_box
from lib.geometry.paste import BACKGROUND, MASK_LOGIT, LogitPatch
from lib.geometry.roi import Roi, place_roi, roi_at
from lib.geometry.tiles import shifted, tile_offset
from lib.prompts.box import Box
from lib.prompts.click import Click
from lib.segmenters.roi.boundary_refinement import refine_along_surface
from lib.segmenters.roi.clicked_component import holds_any, is_small, keep_clicked, leaves_roi, outgrows_roi
from lib.segmenters.roi.enforce_clicks import enforce_clicks
from lib.segmenters.roi.prediction import MAX_ENCODES, RoiPredictions
from lib.segmenters.roi.settings import RoiSettings
from lib.segmenters.roi.test_time_augmentation import rotated_back
from lib.volumes.volume import Volume

FOR_FURTHER_CLICKS = 2
"""Image encoder passes that are left for further clicks: one region of each kind at least."""


@dataclass(frozen=True)
class ZoomedPrediction:
    """The prediction for the first foreground click, for it and those that opened it anew, or for the box and a click.

    Attributes:
        roi: at the zoom level that was chosen.
        logit: (D, H, W) float32 of the foreground: the click enforced, and only the piece of the mask that holds it.
        clicks: that were answered, foreground.
        obeyed: whether the network itself obeyed each of them.
        patch: the same as it is shown; at half the spacing where its boundary was refined.
        regions: keys of the regions that were predicted.
    """

    roi: Roi
    logit: Tensor
    clicks: tuple[Click, ...]
    obeyed: tuple[bool, ...]
    patch: LogitPatch
    regions: frozenset[Hashable]

    @property
    def encodes(self) -> int:
        """Image encoder passes where no embedding is cached."""
        return len(self.regions)

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors."""
        return self.logit.nbytes + self.patch.logit.nbytes


@dataclass(frozen=True)
class _ZoomLevel:
    """The prediction for a click at one zoom level.

    Attributes:
        roi: around the click.
        seen: (2, D, H, W) logits, the network's own.
        logits: the same with the click enforced.
        clicks_dhw: (N, 3), the clicks in the ROI.
        obeyed: whether the network itself obeyed each of them.
    """

    roi: Roi
    seen: Tensor
    logits: Tensor
    clicks_dhw: np.ndarray
    obeyed: tuple[bool, ...]


def predict_first_click(
    predictions: RoiPredictions, settings: RoiSettings, click: Click, threshold: float
) -> ZoomedPrediction:
    """Predicts around the click, zooms out while the mask outgrows the region, then refines the boundary.

    If the settings say so, it zooms in on a small mask, and averages over further axes (test-time augmentation).

    Args:
        predictions: of the image.
        settings: size, axes and spacings of the zoom levels.
        click: the first one, foreground.
        threshold: foreground probability.
    """
    spacings_mm, closer_mm = zoom_spacings_mm(settings), settings.closer_spacing_mm
    level, regions = _zoomed_out(predictions, settings, [click], threshold, spacings_mm)
    is_first = level.roi.spacing_mm == spacings_mm[0]
    if is_first and closer_mm and is_small(level.logits, level.clicks_dhw, threshold, settings.small_share):
        nearer = _predict_at(predictions, settings, [click], threshold, closer_mm)
        regions |= {nearer.roi.key()}
        # A mask that outgrows the nearer region is taken from the wider one.
        if not outgrows_roi(nearer.logits, nearer.clicks_dhw, threshold, settings.large_share):
            level = nearer
    if settings.further_axes:
        level, rotated = _augmented(predictions, settings, level, click, threshold)
        regions |= rotated
    with predictions.stages.time("paste"):
        settled = _settled(level.logits, level.clicks_dhw, threshold)
    answer = ZoomedPrediction(level.roi, settled, (click,), level.obeyed, LogitPatch(level.roi, settled), regions)
    if is_first:
        return answer
    # With the presets that ship, the region of half the spacing is one of those before.
    near = _placed(predictions, settings, [click], level.roi.spacing_mm / 2)
    return _refined(predictions, answer, near, threshold)


def predict_anew(
    predictions: RoiPredictions,
    settings: RoiSettings,
    clicks: tuple[Click, ...],
    threshold: float,
    answer: ZoomedPrediction,
) -> ZoomedPrediction:
    """Predicts all clicks together at a wider zoom level, if the last one belongs to the same structure.

    It does if the network, shown that click alone at the zoom level of the answer, sees a structure that holds an
    earlier click or outgrows the region. Otherwise it lies on another structure, such as a second lesion.

    Args:
        predictions: of the image.
        settings: size, axes and spacings of the zoom levels.
        clicks: foreground; the last one lies far outside the answer.
        threshold: foreground probability.
        answer: to fewer clicks, with the regions that were predicted so far, that of the last click among them.

    Returns:
        The new answer; the old one also where no wider zoom level holds all clicks, or the request may not encode it.
    """
    region = shifted(answer.roi, tile_offset(answer.roi, clicks[-1]))
    # One encode is for the boundary; the wider zoom levels need none for it, as each is the finer one's double.
    room = max(0, MAX_ENCODES - FOR_FURTHER_CLICKS - 1 - answer.encodes)
    spacings_mm = [
        mm
        for mm in zoom_spacings_mm(settings)
        if mm > answer.roi.spacing_mm and all(map(_placed(predictions, settings, clicks, mm).holds, clicks))
    ][:room]
    if not spacings_mm:
        return answer
    alone = _enforced(predictions, region, predictions(region, clicks[-1:]), clicks[-1:], threshold)
    joined = [click for click in clicks[:-1] if region.holds(click)]
    is_one = bool(joined) and holds_any(alone.logits, alone.clicks_dhw, region.clicks_to_dhw(joined), threshold)
    if not is_one and not outgrows_roi(alone.logits, alone.clicks_dhw, threshold, settings.large_share):
        return answer
    level, further = _zoomed_out(predictions, settings, clicks, threshold, spacings_mm)
    with predictions.stages.time("paste"):
        settled = _settled(level.logits, level.clicks_dhw, threshold)
    wider = ZoomedPrediction(
        level.roi, settled, clicks, level.obeyed, LogitPatch(level.roi, settled), answer.regions | further
    )
    near = _placed(predictions, settings, clicks, level.roi.spacing_mm / 2)
    return _refined(predictions, wider, near, threshold)


def _zoomed_out(
    predictions: RoiPredictions,
    settings: RoiSettings,
    clicks: Sequence[Click],
    threshold: float,
    spacings_mm: Sequence[float],
) -> tuple[_ZoomLevel, frozenset[Hashable]]:
    """The first of the zoom levels that the mask does not outgrow, or the last; and the regions that were predicted."""
    regions = frozenset[Hashable]()
    for spacing_mm in spacings_mm:
        level = _predict_at(predictions, settings, clicks, threshold, spacing_mm)
        regions |= {level.roi.key()}
        with predictions.stages.time("paste"):
            if spacing_mm == spacings_mm[-1]:
                break
            if spacing_mm < settings.wider_spacings_mm[-1]:
                goes_on = outgrows_roi(level.logits, level.clicks_dhw, threshold, settings.large_share)
            else:
                goes_on = leaves_roi(level.logits, level.clicks_dhw, level.roi, threshold)
            if not goes_on:
                break
    return level, regions


def _predict_at(
    predictions: RoiPredictions, settings: RoiSettings, clicks: Sequence[Click], threshold: float, spacing_mm: float
) -> _ZoomLevel:
    roi = _placed(predictions, settings, clicks, spacing_mm)
    return _enforced(predictions, roi, predictions(roi, clicks), clicks, threshold)


def _enforced(
    predictions: RoiPredictions, roi: Roi, seen: Tensor, clicks: Sequence[Click], threshold: float
) -> _ZoomLevel:
    with predictions.stages.time("paste"):
        clicks_dhw = roi.clicks_to_dhw(clicks)
        logits, obeyed = enforce_clicks(seen, clicks_dhw, [True] * len(clicks), roi.spacing_mm, threshold)
    return _ZoomLevel(roi, seen, logits, clicks_dhw, tuple(obeyed))


def _augmented(
    predictions: RoiPredictions, settings: RoiSettings, level: _ZoomLevel, click: Click, threshold: float
) -> tuple[_ZoomLevel, set[Hashable]]:
    """The zoom level with the mean of the probabilities along its own axes and further ones, and their regions."""
    plain = (level.seen[1] - level.seen[0]).sigmoid()
    seen, regions = [plain], set()
    for axes in settings.further_axes:
        rotated = _placed(predictions, replace(settings, axes=axes), [click], level.roi.spacing_mm)
        regions.add(rotated.key())
        asked = predictions(rotated, [click])
        with predictions.stages.time("paste"):
            seen.append(rotated_back((asked[1] - asked[0]).sigmoid(), rotated, level.roi, outside=plain))
    with predictions.stages.time("paste"):
        logit = torch.logit(torch.stack(seen).mean(dim=0), eps=1e-6)
    pair = torch.stack([torch.zeros_like(logit), logit])
    return _enforced(predictions, level.roi, pair, [click], threshold), regions


def predict_box(
    predictions: RoiPredictions, settings: RoiSettings, box: Box, click: Click, threshold: float, *, is_pseudo: bool
) -> ZoomedPrediction:
    """Predicts the box at the zoom level that it fits, then refines the boundary of a wide one.

    The box is shown twice, to networks that read it and their previous answer: as a box, and as the ellipsoid in it, in
    place of the answer that the click corrects. Without the second the network makes less of the box.

    Args:
        predictions: of the image.
        settings: size, axes and spacings of the zoom levels.
        box: around the structure.
        click: the first foreground click in it.
        threshold: foreground probability.
        is_pseudo: whether the click is not the user's, and so is not enforced.
    """
    roi = roi_of_box(predictions.volume, settings, box, click)
    prior = None
    if predictions.predictor.takes_box and predictions.predictor.takes_previous:
        prior = MASK_LOGIT * (2 * torch.from_numpy(ellipsoid_in_roi(box, roi)).float() - 1)
    logits = predictions(roi, [click], prior, box)
    with predictions.stages.time("paste"):
        clicks_dhw = roi.clicks_to_dhw([click])
        enforced, obeyed = enforce_clicks(logits, clicks_dhw, [True], roi.spacing_mm, threshold)
        settled = _settled(logits if is_pseudo else enforced, clicks_dhw, threshold)
    coarse = LogitPatch(roi, settled)
    answer = ZoomedPrediction(roi, settled, (click,), tuple(obeyed), coarse, frozenset([roi.key()]))
    if roi.spacing_mm == settings.spacing_mm:
        return answer
    shape, affine = predictions.volume.voxels.shape, predictions.volume.affine
    middle = roi.dhw_to_ijk([[size // 2 for size in roi.size_dhw]])[0]
    near = roi_at(middle, shape, affine, settings.size, roi.spacing_mm / 2, settings.axes)
    return _refined(predictions, answer, near, threshold, is_enforced=not is_pseudo)


def _refined(
    predictions: RoiPredictions,
    answer: ZoomedPrediction,
    near: Roi,
    threshold: float,
    *,
    is_enforced: bool = True,
) -> ZoomedPrediction:
    """The answer with its boundary refined, and only the clicks' pieces of it.

    Args:
        predictions: of the image.
        answer: at a wide zoom level.
        near: the region in its middle, at half the spacing.
        threshold: foreground probability.
        is_enforced: whether its clicks are the user's, and so are enforced.
    """
    clicks = answer.clicks
    room = max(0, MAX_ENCODES - FOR_FURTHER_CLICKS - len(answer.regions | {near.key()}))
    patch, regions = refine_along_surface(predictions, answer.patch, near, clicks, threshold, room)
    with predictions.stages.time("paste"):
        pair = torch.stack([torch.zeros_like(patch.logit), patch.logit])
        clicks_dhw = patch.roi.clicks_to_dhw(clicks)
        if is_enforced:
            pair, _ = enforce_clicks(pair, clicks_dhw, [True] * len(clicks), patch.roi.spacing_mm, threshold)
        fine = LogitPatch(patch.roi, _settled(pair, clicks_dhw, threshold))
    coarse = fine.logit[::2, ::2, ::2].clone()
    return replace(answer, logit=coarse, patch=fine, regions=answer.regions | regions)


def _placed(predictions: RoiPredictions, settings: RoiSettings, clicks: Sequence[Click], spacing_mm: float) -> Roi:
    """The region in the middle of the clicks, which it may be too narrow to hold."""
    places = np.array([click.ijk for click in clicks])
    middle = (places.min(axis=0) + places.max(axis=0)) / 2
    shape, affine = predictions.volume.voxels.shape, predictions.volume.affine
    return roi_at(middle, shape, affine, settings.size, spacing_mm, settings.axes)


def roi_of_box(volume: Volume, settings: RoiSettings, box: Box, click: Click) -> Roi:
    """The region of a box, or of the click in it where the box fits into none."""
    return place_roi_on_box(
        box,
        [click],
        volume.voxels.shape,
        volume.affine,
        size=settings.size,
        spacings_mm=zoom_spacings_mm(settings),
        roi_axes=settings.axes,
    )


def zoom_spacings_mm(settings: RoiSettings) -> tuple[float, ...]:
    """Spacings of the zoom levels, mm; where there are several, twice the widest is one more."""
    wider = settings.wider_spacings_mm
    return (settings.spacing_mm, *wider, *([2 * wider[-1]] if wider else []))


def require_within_reach(clicks: Sequence[Click], volume: Volume, settings: RoiSettings) -> None:
    """Passes if the foreground clicks fit into the widest region.

    Raises:
        ClickError: they are farther apart.
    """
    place_roi(
        clicks,
        volume.voxels.shape,
        volume.affine,
        size=settings.size,
        spacing_mm=zoom_spacings_mm(settings)[-1],
        roi_axes=settings.axes,
    )


def _settled(logits: Tensor, clicks_dhw: np.ndarray, threshold: float) -> Tensor:
    # Bounded, because a later click must be able to win a voxel over.
    kept = keep_clicked(logits, clicks_dhw, threshold)
    return torch.clamp(kept[1] - kept[0], BACKGROUND, -BACKGROUND)
