"""Tracking gives what the package's own predictor gives, on frames in memory, with random weights."""

import threading
from collections import OrderedDict
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from sam2.modeling.sam2_base import SAM2Base
from sam2.sam2_video_predictor import SAM2VideoPredictor
from torch import Tensor

from lib.families.sam2.propagation import EMPTY, SlicePrompts, Tracker, encode_slice
from lib.families.sam2.sizes import SIZES
from lib.segmenters.contract import Stages

COUNT, PROMPTED = 7, 3
POINTS, LABELS = ((25.0, 30.0), (10.0, 50.0)), (1, 0)


@pytest.fixture(scope="module")
def frames(model: SAM2Base) -> Tensor:
    return torch.randn(COUNT, 3, model.image_size, model.image_size, generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="module")
def tracker(model: SAM2Base, frames: Tensor) -> Tracker:
    with torch.no_grad():
        features = [encode_slice(model, frame[None]) for frame in frames]
    return Tracker(model, threading.Lock(), features.__getitem__, COUNT, Stages())


@pytest.fixture(scope="module")
def predictor(size: str, model: SAM2Base) -> SAM2VideoPredictor:
    """The package's own predictor with the same weights; an object of its own, for it works in inference mode."""
    config = OmegaConf.load(str(files("sam2") / "configs" / SIZES[size].config)).model
    for key, value in {**SIZES[size].changes, "_target_": "sam2.sam2_video_predictor.SAM2VideoPredictor"}.items():
        OmegaConf.update(config, key, value, force_add=True)
    made = instantiate(config, _recursive_=True).eval()
    made.load_state_dict(model.state_dict())
    # What the project does on purpose: a corrected slice conditions all others.
    made.add_all_frames_to_correct_as_cond = True
    return made


def new_state(predictor: SAM2VideoPredictor, frames: Tensor) -> dict[str, Any]:
    """What `init_state` makes of a folder of pictures, for frames in memory."""
    maps = ("point_inputs_per_obj", "mask_inputs_per_obj", "cached_features", "constants", "output_dict_per_obj",
            "temp_output_dict_per_obj", "frames_tracked_per_obj")  # fmt: skip
    size = predictor.image_size
    return {
        "images": frames, "num_frames": len(frames), "video_height": size, "video_width": size, "obj_ids": [],
        "offload_video_to_cpu": False, "offload_state_to_cpu": False, "device": torch.device("cpu"),
        "storage_device": torch.device("cpu"), "obj_id_to_idx": OrderedDict(), "obj_idx_to_id": OrderedDict(),
        **{name: {} for name in maps},
    }  # fmt: skip


def their_logits(state: Mapping[str, Any]) -> dict[int, Tensor]:
    found = state["output_dict_per_obj"][0]
    outputs = {**found["non_cond_frame_outputs"], **found["cond_frame_outputs"]}
    return {number: output["pred_masks"] for number, output in outputs.items()}


@pytest.mark.parametrize("upwards", [True, False])
def test_one_prompted_slice(predictor: SAM2VideoPredictor, tracker: Tracker, frames: Tensor, upwards: bool) -> None:
    state = new_state(predictor, frames)
    predictor.add_new_points_or_box(state, PROMPTED, 1, torch.tensor(POINTS), torch.tensor(LABELS, dtype=torch.int32))
    list(predictor.propagate_in_video(state, start_frame_idx=PROMPTED, reverse=not upwards))
    theirs = their_logits(state)
    asked = SlicePrompts(PROMPTED, POINTS, LABELS)
    ours = tracker.sweep({PROMPTED: tracker.prompt(EMPTY, asked)}, upwards=upwards)
    assert sorted(ours) == sorted(theirs) == list(range(PROMPTED, COUNT) if upwards else range(PROMPTED + 1))
    for number, logit in theirs.items():
        assert logit.std() > 1e-3
        torch.testing.assert_close(ours[number], logit, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(ours[PROMPTED], ours[COUNT - 1 if upwards else 0], atol=1e-2)


def test_a_box_on_the_first_slice_and_a_slice_that_is_corrected(
    predictor: SAM2VideoPredictor, tracker: Tracker, frames: Tensor
) -> None:
    box, later = ((8.0, 10.0), (40.0, 48.0)), COUNT - 2
    state = new_state(predictor, frames)
    predictor.add_new_points_or_box(state, 0, 1, box=torch.tensor(box).reshape(4))
    list(predictor.propagate_in_video(state))
    first = tracker.answer(EMPTY, SlicePrompts(0, box, (2, 3)))
    for number, logit in their_logits(state).items():
        torch.testing.assert_close(first.logits[number], logit, rtol=1e-4, atol=1e-4)
    # Of the slices between, which follow from the first one, the predictor would remember six; here none is.
    between = state["output_dict_per_obj"][0]["non_cond_frame_outputs"]
    for number in range(1, COUNT):
        if number != later:
            del between[number]
    predictor.add_new_points_or_box(state, later, 1, torch.tensor(POINTS), torch.tensor(LABELS, dtype=torch.int32))
    corrected = tracker.prompt(first, SlicePrompts(later, POINTS, LABELS))["pred_masks"]
    theirs = state["temp_output_dict_per_obj"][0]["cond_frame_outputs"][later]["pred_masks"]
    assert not torch.allclose(corrected, first.logits[later], atol=1e-3)
    torch.testing.assert_close(corrected, theirs, rtol=1e-4, atol=1e-4)
