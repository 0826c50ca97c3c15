"""The JSON beside the mask."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lib.infers.response import NOTHING_FOUND, describe
from lib.presets import load_preset
from lib.prompts.click import Click
from lib.segmenters.contract import Stages
from lib.volumes.mask_hash import mask_hash

PRESET = load_preset(Path(__file__).parents[2] / "configs" / "ct.yaml")


class FakeRoi:
    """ROI indices are image indices shifted by ten."""

    size_dhw = (4, 4, 4)
    spacing_mm = 1.0

    def dhw_to_ijk(self, points: np.ndarray) -> np.ndarray:
        return points + 10

    def dhw_to_mm(self, points: np.ndarray) -> np.ndarray:
        return points * -2


def data(voxels: int, **more: Any) -> dict[str, Any]:
    pred = np.zeros((5, 6, 7), np.uint8)
    pred.flat[:voxels] = 1
    return {
        "pred": pred,
        "volume": SimpleNamespace(content_key="image's"),
        "predictor": SimpleNamespace(precision="bf16"),
        "clicks": (Click((1, 2, 3)), Click((4, 5, 6), is_foreground=False)),
        "roi_geometry": FakeRoi(),
        "model_version": "abc",
        "version": "shipped",
        "encodes": 1,
        "decodes": 1,
        "device": "cpu",
        "threshold": 0.5,
        "obeyed_by_network": [False, True],
    } | more


def test_says_what_was_done() -> None:
    described = describe(PRESET, data(3))
    json.dumps(described, allow_nan=False)
    assert described["label"] == "lesion" and described["preset"] == "ct"
    assert described["clicks"] == [[1, 2, 3]] and described["background_clicks"] == [[4, 5, 6]]
    assert described["mask_voxels"] == 3 and described["obeyed_by_network"] == [False, True]
    assert described["roi"] == {
        "centre_ijk": [12.0, 12.0, 12.0],
        "centre_ras_mm": [-4.0, -4.0, -4.0],
        "size_dhw": [4, 4, 4],
        "spacing_mm": 1.0,
        "axes": "SAR",
    }
    assert described["warnings"] == []
    assert described["precision"] == "bf16" and described["image_hash"] == "image's"
    assert described["mask_hash"] == mask_hash(data(3)["pred"]) != mask_hash(data(4)["pred"])


def test_obedience_is_told_of_foreground_clicks_first() -> None:
    clicks = (Click((1, 2, 3)), Click((4, 5, 6), is_foreground=False), Click((2, 2, 2)))
    described = describe(PRESET, data(9, clicks=clicks, obeyed_by_network=[True, False, True]))
    assert described["obeyed_by_network"] == [True, True, False]


def test_a_mask_of_clicked_voxels_alone_is_added_to_the_warnings() -> None:
    before = ["Dropped a click."]
    assert describe(PRESET, data(1, warnings=before))["warnings"] == ["Dropped a click.", NOTHING_FOUND]
    assert before == ["Dropped a click."]


def test_stages_add_up_by_stage() -> None:
    stages = Stages()
    stages.add("encode", 12.34)
    stages.add_transforms({"pre": {"LoadVolumed": 0.01, "ReadClicksd": 0.002, "Foreign": 5}, "post": {}})
    with stages.time("write"):
        pass
    milliseconds = stages.milliseconds()
    assert milliseconds["load"] == pytest.approx(12) and milliseconds["encode"] == 12.3
    assert milliseconds["write"] >= 0 and milliseconds["paste"] == 0
