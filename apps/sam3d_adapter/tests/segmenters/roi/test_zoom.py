"""The initial prediction with the shipped weights: zooming, and its boundary refined at half the spacing."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lib.evaluation.evaluated_segmenter import SegmenterChoice
from lib.evaluation.metrics import dice
from lib.geometry.paste import LogitPatch, paste_patches
from lib.geometry.resample import resample_roi
from lib.presets import load_preset
from lib.prompts.box import Box
from lib.prompts.click import Click
from lib.segmenters.contract import Stages
from lib.segmenters.roi import boundary_refinement, zoom
from lib.segmenters.roi.boundary_refinement import doubled, near_surface
from lib.segmenters.roi.prediction import MAX_ENCODES, RoiPredictions
from lib.segmenters.roi.predictor import Predictor
from lib.segmenters.roi.zoom import ZoomedPrediction, predict_box, predict_first_click
from lib.volumes.volume import make_volume
from tests.support.one_thread import one_thread  # noqa: F401
from tests.support.server import APP_DIR

SPACING, SHAPE, SEMI_MM = (1.5, 1.2, 2.0), (100, 110, 70), (33, 24, 27)
CLICK = Click((50, 55, 35))
PRESET = load_preset(APP_DIR / "configs/ct.yaml")


def lesion(factor: float = 1.0) -> np.ndarray:
    """(i, j, k) bool, an ellipsoid."""
    off = [(np.arange(n) - n // 2) * mm / semi for n, mm, semi in zip(SHAPE, SPACING, SEMI_MM, strict=True)]
    return np.asarray(off[0][:, None, None] ** 2 + off[1][:, None] ** 2 + off[2] ** 2 < factor**2)


def predictions_of(factor: float) -> RoiPredictions:
    """Of an image of a lesion, so many times as large, with nothing cached."""
    segmenter = SegmenterChoice(APP_DIR, PRESET, "cpu").preset_segmenter()
    shared = segmenter.shared
    values = np.where(lesion(factor), 90, 30) + np.random.default_rng(3).normal(0, 15, SHAPE)
    volume = make_volume(values.astype(np.int16), np.diag([*SPACING, 1.0]), "test")
    predictor = Predictor(shared.models.get(segmenter.spec, "cpu"), shared.cache, "fp32")
    return RoiPredictions(volume, predictor, shared.cache, PRESET.intensity, Stages())


def mask_of(answer: ZoomedPrediction) -> np.ndarray:
    """(i, j, k) bool."""
    return paste_patches([answer.patch], 0.5) > 0


def test_a_large_lesion_is_seen_from_afar_and_its_surface_from_near(monkeypatch: pytest.MonkeyPatch) -> None:
    predictions = predictions_of(1.0)
    answer = predict_first_click(predictions, PRESET.roi, CLICK, 0.5)
    fine = answer.patch.logit
    assert answer.roi.spacing_mm == 2 * answer.patch.roi.spacing_mm > 1
    assert fine.shape == answer.patch.roi.size_dhw == (128, 128, 128) and fine.dtype == torch.float32
    assert predictions.encodes == answer.encodes <= MAX_ENCODES - 2
    # What is corrected is what is shown: the two grids share every other voxel.
    torch.testing.assert_close(answer.logit, fine[::2, ::2, ::2])
    voxels = np.argwhere(np.ones((3, 4, 5)))
    np.testing.assert_allclose(answer.roi.dhw_to_mm(voxels), answer.patch.roi.dhw_to_mm(2 * voxels))

    none = torch.zeros((64, 64, 64), dtype=torch.bool)
    monkeypatch.setattr(boundary_refinement, "near_surface", lambda logit, threshold: none)
    coarse = predict_first_click(predictions, PRESET.roi, CLICK, 0.5)
    changed = (fine > 0) != (coarse.patch.logit > 0)
    # Pieces that the new surface cuts off would go as a whole; of this lesion there are none beyond it.
    assert changed.any() and not (changed & ~doubled(near_surface(coarse.logit, 0.5))).any()
    assert dice(mask_of(answer), lesion()) > 0.85


def test_a_lesion_clicked_near_its_edge_is_predicted_in_further_regions() -> None:
    """Most of its surface lies beyond the region around the click."""
    predictions = predictions_of(2.0)
    at = Click((50, 55, 35 + 20))
    coarse = zoom._placed(predictions, PRESET.roi, [at], 4.0)
    near = zoom._placed(predictions, PRESET.roi, [at], 2.0)
    distance = torch.from_numpy(np.where(lesion(2.0), 3.0, -3.0).astype(np.float32))
    logit = resample_roi(distance, coarse)[0][0]
    counts = []
    for room in (0, 1, 5):
        predictions.encodes = 0
        patch, regions = boundary_refinement.refine_along_surface(
            predictions, LogitPatch(coarse, logit), near, [at], 0.5, room
        )
        assert patch.logit.shape == (128, 128, 128) and len(regions) <= 1 + min(room, boundary_refinement.FURTHER)
        counts.append((len(regions), predictions.encodes))
    assert counts == [(1, 1), (2, 1), (3, 1)]


@pytest.mark.slow
def test_the_surface_in_a_box_is_predicted_at_half_the_spacing() -> None:
    predictions = predictions_of(1.0)
    where = np.argwhere(lesion())
    box = Box(tuple(where.min(0).tolist()), tuple(where.max(0).tolist()))
    answer = predict_box(predictions, PRESET.roi, box, Click(box.centre), 0.5, is_pseudo=True)
    assert answer.roi.spacing_mm == 2 * answer.patch.roi.spacing_mm > 1
    assert 2 <= predictions.encodes == answer.encodes <= MAX_ENCODES - 2
    torch.testing.assert_close(answer.logit, answer.patch.logit[::2, ::2, ::2])
    voxels = np.argwhere(np.ones((3, 4, 5)))
    np.testing.assert_allclose(answer.roi.dhw_to_mm(voxels), answer.patch.roi.dhw_to_mm(2 * voxels))
    assert dice(mask_of(answer), lesion()) > 0.85

    small = predictions_of(0.3)
    where = np.argwhere(lesion(0.3))
    box = Box(tuple(where.min(0).tolist()), tuple(where.max(0).tolist()))
    near = predict_box(small, PRESET.roi, box, Click(box.centre), 0.5, is_pseudo=True)
    assert small.encodes == near.encodes == 1 and near.patch.roi == near.roi


@pytest.mark.slow
@pytest.mark.parametrize("factor", [0.3, 1.0])
def test_a_preset_may_average_over_further_axes(factor: float) -> None:
    plain, along = (replace(PRESET.roi, further_axes=axes) for axes in ((), ("IPL", "RSA")))
    alone, predictions = predictions_of(factor), predictions_of(factor)
    before, answer = predict_first_click(alone, plain, CLICK, 0.5), predict_first_click(predictions, along, CLICK, 0.5)
    assert answer.roi == before.roi
    assert predictions.encodes == answer.encodes <= MAX_ENCODES and alone.encodes == before.encodes
    assert predictions.encodes > alone.encodes
    assert dice(mask_of(answer), lesion(factor)) > 0.7
    # No axes are more than others: the mean is the same from wherever it begins, up to one plane along each axis.
    begun = predict_first_click(predictions, replace(PRESET.roi, axes="IPL", further_axes=("SAR", "RSA")), CLICK, 0.5)
    if factor < 1:
        assert dice(mask_of(begun), mask_of(answer)) > 0.99 > dice(mask_of(before), mask_of(answer))


@pytest.mark.slow
def test_a_preset_may_zoom_in_on_a_small_lesion(monkeypatch: pytest.MonkeyPatch) -> None:
    roi = replace(load_preset(APP_DIR / "configs/ct_lesion.yaml").roi, further_axes=())
    predictions = predictions_of(0.3)
    answer = predict_first_click(predictions, roi, CLICK, 0.5)
    assert predictions.encodes == predictions.decodes == answer.encodes == 2
    assert answer.patch.roi == answer.roi and answer.roi.spacing_mm == roi.closer_spacing_mm == 0.6
    assert dice(mask_of(answer), lesion(0.3)) > 0.7
    larger = predict_first_click(predictions_of(1.0), roi, CLICK, 0.5)
    assert larger.roi.spacing_mm > 0.6
    # What does not fit into the nearer region is answered as it was seen before.
    outgrown = iter((False, True))
    monkeypatch.setattr(zoom, "outgrows_roi", lambda *_: next(outgrown))
    answer = predict_first_click(predictions_of(0.3), roi, CLICK, 0.5)
    assert answer.encodes == 2 and answer.patch.roi == answer.roi and answer.roi.spacing_mm == 1.0


def test_a_small_lesion_is_seen_once() -> None:
    predictions = predictions_of(0.3)
    answer = predict_first_click(predictions, PRESET.roi, CLICK, 0.5)
    assert (predictions.encodes, predictions.decodes) == (1, 1)
    assert answer.encodes == 1 and answer.roi.spacing_mm == 1.0
    assert answer.patch.roi == answer.roi and answer.patch.logit is answer.logit
    assert dice(mask_of(answer), lesion(0.3)) > 0.7
