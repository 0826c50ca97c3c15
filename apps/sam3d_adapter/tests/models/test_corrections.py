"""Background clicks, previous answers and boxes: without effect at the start, and each read once it has weights."""

import copy
import dataclasses

import pytest
import torch

from lib.families.sam3d_adapter.network import Sam3dClickModel
from lib.models.build import build_model
from lib.models.checkpoint import load_model, save_base, save_trained
from lib.models.corrections import Corrections
from lib.models.prompts import RoiPrompts
from lib.models.safetensors_file import read_tensors, write_tensors
from lib.models.trainable import interaction_names
from tests.models.conftest import as_served

SIGNS = torch.tensor([[True, False, True], [True, True, False]])
BOX = torch.tensor([[[2.0, 3.0, 4.0], [20.0, 21.0, 22.0]]]).expand(2, -1, -1)


@pytest.fixture
def everything(roi, clicks_dhw):
    """All that can be said."""
    previous = torch.randn(roi.shape, generator=torch.Generator().manual_seed(1))
    return RoiPrompts(clicks_dhw, SIGNS, previous, BOX)


@pytest.fixture(params=["model", "detail_model"])
def published(request):
    """A model as its published checkpoint leaves it: random, but for the parts that this does not know."""
    model = copy.deepcopy(request.getfixturevalue(request.param))
    with torch.no_grad():
        for name in interaction_names(model):
            model.get_parameter(name).zero_()
    return model


def test_until_trained_the_logits_are_those_of_the_published_model_bit_for_bit(published, roi, clicks_dhw, everything):
    with torch.no_grad():
        alone = published(roi, RoiPrompts(clicks_dhw))
        assert published(roi, dataclasses.replace(everything, is_foreground=None)).equal(alone)
        # What tiny knows of foreground clicks beyond the published model is not fed with background ones.
        assert published(roi, everything).equal(alone) or published.mask_decoder.click_maps is not None
    served = Sam3dClickModel(published)
    assert not served.takes_background and not served.takes_previous and not served.takes_box


def test_a_fresh_model_starts_so(clicks_dhw):
    model = build_model("tiny")
    names = interaction_names(model)
    assert "mask_decoder.background_maps.conv.weight" in names
    assert not any(model.get_parameter(name).any() for name in names)


@pytest.mark.parametrize("which", ["is_foreground", "previous", "box_dhw"])
@pytest.mark.parametrize("name", ["model", "detail_model"])
def test_each_is_read_once_it_has_weights(request, name, which, roi, clicks_dhw, everything):
    model = request.getfixturevalue(name)
    with torch.no_grad():
        said = model(roi, RoiPrompts(clicks_dhw, **{which: getattr(everything, which)}))
        assert (said - model(roi, RoiPrompts(clicks_dhw))).abs().max() > 1e-3
    served = Sam3dClickModel(model)
    assert served.takes_background and served.takes_previous and served.takes_box


def test_a_row_without_background_clicks_is_what_it_is_alone(detail_model, roi, clicks_dhw):
    """Rows of a batch do not see each other's clicks."""
    signs = torch.tensor([[True, True, True], [True, False, True]])
    with torch.no_grad():
        both = detail_model(roi, RoiPrompts(clicks_dhw, signs))
        alone = detail_model(roi[1:], RoiPrompts(clicks_dhw[1:], signs[1:]))
    torch.testing.assert_close(both[1:], alone, rtol=1e-4, atol=1e-5)


def test_the_maps_are_where_they_belong():
    seen = []
    module = Corrections((2.0,), 3)
    module.conv.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][0]))
    clicks = torch.tensor([[[8.5, 20.5, 30.5], [24.5, 4.5, 6.5]]])
    previous = torch.full((1, 1, 32, 32, 32), -20.0)
    previous[0, 0, 4:8, 10:14, 20:24] = 20.0
    box = torch.tensor([[[2.0, 4.0, 6.0], [9.0, 15.0, 31.0]]])
    module(RoiPrompts(clicks, torch.tensor([[True, False]]), previous, box), 16, 32)
    foreground, background, before, inside = seen[0]  # each (H, W, D) of decoder voxels, two ROI voxels a side
    assert (foreground == foreground.max()).nonzero().tolist() == [[10, 15, 4]]
    assert (background == background.max()).nonzero().tolist() == [[2, 3, 12]]
    assert (before > 0).nonzero().amin(0).tolist() == [5, 10, 2] and (before > 0).nonzero().amax(0).tolist() == [
        6,
        11,
        3,
    ]
    assert before.unique().tolist() == [-1.0, 1.0]
    assert inside.nonzero().amin(0).tolist() == [2, 3, 1] and inside.nonzero().amax(0).tolist() == [7, 15, 4]


def test_files_from_before_they_came_load_and_say_so(tmp_path, roi, clicks_dhw):
    model = build_model("test")
    base, weights = tmp_path / "test_base.safetensors", tmp_path / "old.safetensors"
    save_base(model, base)
    save_trained(model, weights, provenance={})
    tensors, metadata = read_tensors(weights, "a file")
    old = {name: value for name, value in tensors.items() if name not in interaction_names(model)}
    write_tensors(
        old, weights, metadata | {"config": metadata["config"].replace('"correction_sigmas": [3.0, 10.0], ', "")}
    )
    again, report = load_model(size="test", base=base, weights=weights)
    assert set(report.created) == interaction_names(model) and "zero" in next(iter(report.created.values()))
    with torch.no_grad():
        assert again(roi, RoiPrompts(clicks_dhw)).equal(as_served(model)(roi, RoiPrompts(clicks_dhw)))
