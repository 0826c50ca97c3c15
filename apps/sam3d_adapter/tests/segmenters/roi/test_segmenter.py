"""The segmenter of networks that see a cube: what it can do, and that the mask holds what was clicked."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lib.geometry.paste import LogitPatch
from lib.geometry.roi import place_roi
from lib.presets import load_preset
from lib.prompts.click import Click
from lib.prompts.prompts import Prompts
from lib.segmenters.contract import Capabilities
from lib.segmenters.roi.segmenter import UNSURE_BELOW, _pasted, _warn_if_unsure
from lib.segmenters.roi.zoom import ZoomedPrediction
from lib.serving.preset_segmenter import OpenSegmenter, PresetSegmenter, SharedState
from lib.volumes.volume import make_volume
from tests.support.geometry import GEOMETRIES, make_affine
from tests.support.server import APP_DIR
from tests.support.small_app import copy_small_app

SHAPE, CLICK = (52, 44, 38), (21, 25, 20)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_small_app(tmp_path_factory.mktemp("segmenter") / "app", ("test", "unet"))


def opened(app: Path, name: str) -> OpenSegmenter:
    return PresetSegmenter(load_preset(app / f"configs/{name}.yaml"), app, SharedState.of(precision="fp32")).open("cpu")


def test_what_it_can_do_follows_from_the_weights(app: Path) -> None:
    unet = Capabilities(frozenset({"click", "mask"}), background_clicks=True, sees="region")
    published = Capabilities(frozenset({"click"}), background_clicks=False, sees="region")
    assert opened(app, "unet").segmenter.capabilities == unet
    assert opened(app, "test").segmenter.capabilities == published


def test_clicked_voxels_are_what_the_clicks_say_whatever_was_interpolated() -> None:
    affine = make_affine(*GEOMETRIES["oblique sagittal"])
    roi = place_roi([Click(CLICK)], SHAPE, affine, size=8, spacing_mm=2.0)
    i, j, k = CLICK
    patches = (LogitPatch(roi, torch.full((8, 8, 8), 5.0)),)
    clicks = (Click(CLICK), Click((0, 0, 0)), Click((i + 1, j + 1, k + 1), is_foreground=False))
    for start in (None, np.zeros(SHAPE, bool)):
        mask = _pasted(patches, start, clicks, 0.5)
        assert mask.dtype == np.uint8 and mask.shape == SHAPE
        assert mask[CLICK] == mask[0, 0, 0] == 1 and mask[i + 1, j + 1, k + 1] == 0 and mask.sum() > 8


@pytest.mark.parametrize("name", ["test", "unet"])
def test_a_segmentation_says_what_it_took_and_changes_nothing_it_was_given(app: Path, name: str) -> None:
    values = np.random.default_rng(0).normal(40, 60, SHAPE).astype(np.int16)
    image = make_volume(values, make_affine(*GEOMETRIES["oblique"]), "image")
    before = image.voxels.clone()
    prompts = Prompts((Click(CLICK), Click((24, 25, 20), is_foreground=False)))
    found = opened(app, name).segment(image, prompts)
    assert found.mask.shape == SHAPE and set(np.unique(found.mask)) <= {0, 1} and found.labels == {"lesion": 1}
    assert found.mask[CLICK] == 1 and found.mask[24, 25, 20] == 0
    assert found.used == prompts and found.pseudo_click is None and len(found.obeyed or ()) == 2
    assert found.encodes == 1 and found.decodes >= 1 and found.details["refined"] is None
    np.testing.assert_allclose(found.details["roi"]["centre_ijk"], CLICK, atol=1e-3)
    assert torch.equal(image.voxels, before)


@pytest.mark.parametrize(
    ("inside", "outside", "threshold", "expected"),
    [
        (0.95, 0.001, 0.5, None),  # 2 * 0.95 / (1 + 0.95 + ...) is 0.97
        (0.6, 0.001, 0.5, "0.75"),
        (0.95, 0.1, 0.5, "0.72"),  # 64 voxels, 448 others: 2 * 60.8 / (64 + 60.8 + 44.8)
        (0.95, 0.1, 0.05, "0.34"),  # all of it is the mask: 2 * 105.6 / (512 + 105.6)
    ],
)
def test_the_expected_dice_follows_from_the_probabilities(
    inside: float, outside: float, threshold: float, expected: str | None
) -> None:
    probability = torch.full((8, 8, 8), outside)
    probability[2:6, 2:6, 2:6] = inside
    roi = place_roi([Click(CLICK)], SHAPE, np.eye(4), size=8, spacing_mm=2.0)
    logit = torch.logit(probability)
    first = ZoomedPrediction(roi, logit, (Click(CLICK),), (True,), LogitPatch(roi, logit), frozenset())
    warnings = _warn_if_unsure(first, threshold)
    assert len(warnings) == (expected is not None)
    assert all(said.startswith("unsure: ") and f"Dice is {expected};" in said for said in warnings)


def test_a_click_between_two_tissues_is_warned_of_until_the_next_click() -> None:
    offset = np.indices((64, 64, 64)) - 32
    noise = np.random.default_rng(0).normal(0, 15, (64, 64, 64))
    ball = make_volume((np.where((offset**2).sum(0) <= 144, 110, 20) + noise).astype(np.int16), np.eye(4), "ball")
    border = make_volume((np.where(offset[0] > 0, 60, -80) + noise).astype(np.int16), np.eye(4), "border")
    segmenter = opened(APP_DIR, "ct")
    click, background = Click((32, 32, 32)), Click((32, 32, 50), is_foreground=False)
    assert segmenter.segment(ball, Prompts((click,))).warnings == ()
    (warning,) = segmenter.segment(border, Prompts((click,))).warnings
    assert warning.startswith("unsure: ") and f"below {UNSURE_BELOW:.2f}" in warning
    assert segmenter.segment(border, Prompts((click, background))).warnings == ()
