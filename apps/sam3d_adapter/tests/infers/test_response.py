"""The JSON beside the mask."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lib.infers.response import NOTHING_FOUND, describe
from lib.presets import load_preset
from lib.prompts.box import Box
from lib.prompts.click import Click
from lib.prompts.mask import MaskPrompt
from lib.prompts.prompts import Prompts
from lib.requests.label_maps import Protected
from lib.requests.request import Request
from lib.segmenters.contract import Capabilities, Options, Segmentation, Stages
from lib.serving.preset_segmenter import OpenSegmenter
from lib.volumes.mask_hash import mask_hash
from lib.volumes.volume import make_volume

PRESET = load_preset(Path(__file__).parents[2] / "configs" / "ct.yaml")
SHAPE = (5, 6, 7)
IMAGE = make_volume(np.zeros(SHAPE, np.int16), np.eye(4), "image")
PROMPTS = Prompts((Click((1, 2, 3)), Click((4, 5, 6), is_foreground=False)))


class ScriptedSegmenter:
    """What answered; `describe` asks it for nothing but its precision."""

    capabilities = Capabilities(frozenset({"click"}), background_clicks=True, sees="volume")
    precision = "bf16"

    def segment(self, image: Any, prompts: Prompts, options: Options, stages: Stages) -> Segmentation:
        raise AssertionError("the answer is there already")


SERVED = OpenSegmenter(ScriptedSegmenter(), "cpu", "shipped", "abc")


def found(voxels: int, **more: Any) -> Segmentation:
    mask = np.zeros(SHAPE, np.uint8)
    mask.flat[:voxels] = 1
    whole = Segmentation(mask, {"lesion": 1}, PROMPTS, obeyed=(False, True), encodes=1, decodes=2)
    return replace(whole, **more)


def described(segmentation: Segmentation, protected: Protected | None = None) -> dict[str, Any]:
    request = Request.read({"threshold": 0.4}, PRESET.label)
    answer = describe(PRESET, request, IMAGE, SERVED, segmentation, protected)
    assert json.loads(json.dumps(answer, allow_nan=False)) == answer
    return answer


def test_says_what_was_done() -> None:
    roi = {"spacing_mm": 1.0}
    answer = described(found(3, details={"roi": roi, "refined": {"regions": 2}}))
    assert answer == {
        "label": "lesion", "preset": "ct", "model_version": "abc", "version": "shipped", "precision": "bf16",
        "device": "cpu", "threshold": 0.4, "clicks": [[1, 2, 3]], "obeyed_by_network": [False, True],
        "background_clicks": [[4, 5, 6]], "roi": roi, "box": None, "implied_click": None, "start_mask": None,
        "protected": None, "refined": {"regions": 2}, "encodes": 1, "decodes": 2, "image_hash": IMAGE.content_key,
        "mask_hash": mask_hash(found(3).mask), "mask_voxels": 3, "warnings": [],
    }  # fmt: skip
    assert answer["mask_hash"] != described(found(4))["mask_hash"]


def test_says_what_was_sent_beside_clicks() -> None:
    start, box = MaskPrompt(np.ones(SHAPE, bool), "upload", 3, "h1"), Box((0, 0, 0), (4, 5, 6))
    protected = Protected(np.eye(5, 6, dtype=bool)[..., None] & np.ones(SHAPE, bool), "label", 2, "h2")
    answer = described(found(3, used=Prompts((start, box)), obeyed=(), pseudo_click=Click((2, 2, 2))), protected)
    assert answer["clicks"] == answer["background_clicks"] == answer["obeyed_by_network"] == []
    assert answer["box"] == [[0, 0, 0], [4, 5, 6]] and answer["implied_click"] == [2, 2, 2]
    assert answer["start_mask"] == {"from": "upload", "value": 3, "hash": "h1", "voxels": 210}
    assert answer["protected"] == {"from": "label", "except": 2, "hash": "h2", "voxels": 35}


def test_a_segmenter_that_sees_no_region_and_cannot_tell_what_it_obeyed() -> None:
    answer = described(found(3, obeyed=None))
    assert answer["obeyed_by_network"] is None and answer["roi"] is None and answer["refined"] is None


def test_a_mask_of_clicked_voxels_alone_is_added_to_the_warnings() -> None:
    before = ("Dropped a click.",)
    assert described(found(1, warnings=before))["warnings"] == ["Dropped a click.", NOTHING_FOUND]
    assert described(found(2, warnings=before))["warnings"] == ["Dropped a click."]


def test_stages_add_up_by_stage() -> None:
    stages = Stages()
    for milliseconds in (12.34, 2000.0):
        stages.add("encode", milliseconds)
    stages.add("load", 1500.0)
    with stages.time("write"):
        pass
    milliseconds = stages.milliseconds()
    assert milliseconds["encode"] == 2012.3 and milliseconds["write"] >= 0 and milliseconds["paste"] == 0
    assert list(milliseconds) == ["weights", "load", "resample", "encode", "decode", "paste", "write", "total"]
    phases = stages.phases()
    assert (phases["pre"], phases["infer"], phases["post"]) == (1.5, 2.01, 0.0)
