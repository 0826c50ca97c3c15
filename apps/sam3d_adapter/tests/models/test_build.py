"""Sizes and shapes."""

import dataclasses

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from lib.models.build import build_model
from lib.models.config import MODEL_SIZES, ConfigError, ModelConfig
from lib.models.prompts import RoiPrompts


@pytest.mark.parametrize(
    "size, stride, tokens, heads",
    [("tiny", 8, 16, 3), ("vit_b", 4, 32, 12), ("vit_l", 4, 32, 16), ("vit_h", 4, 32, 16), ("test", 4, 8, 2)],
)
def test_grids_follow_from_the_numbers(size, stride, tokens, heads):
    config = MODEL_SIZES[size]
    assert (config.stride, config.max_tokens, config.num_heads) == (stride, tokens, heads)


@pytest.mark.slow
@pytest.mark.parametrize("size", ["vit_b", "vit_l", "vit_h"])
@pytest.mark.parametrize("roi_size", [64, 96, 128])
def test_one_set_of_weights_takes_three_roi_sizes(size, roi_size):
    with FakeTensorMode():
        logits = build_model(size)(torch.empty(1, 1, roi_size, roi_size, roi_size), RoiPrompts(torch.empty(1, 2, 3)))
    assert logits.shape == (1, 2, roi_size, roi_size, roi_size)


def test_tiny_published_is_tiny_without_what_was_added():
    added, plain = (dict(build_model(size).named_parameters()) for size in ("tiny", "tiny_published"))
    assert plain.keys() < added.keys()
    assert {".".join(name.split(".")[:2]) for name in added.keys() - plain.keys()} == {
        f"mask_decoder.{part}" for part in ("detail", "refine", "click_maps", "background_maps")
    }
    other_shapes = {name for name in plain if plain[name].shape != added[name].shape}
    assert other_shapes == {"mask_decoder.classifier.0.weight"}  # which reads the detail branch besides


@pytest.mark.parametrize("roi_size", [64, 96, 128])
def test_tiny_runs_at_three_roi_sizes(roi_size):
    model = build_model("tiny")
    with torch.inference_mode():
        logits = model(torch.randn(1, 1, roi_size, roi_size, roi_size), RoiPrompts(torch.full((1, 1, 3), roi_size / 2)))
    assert logits.shape == (1, 2, roi_size, roi_size, roi_size)
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize(
    "roi_shape, message",
    [
        ((1, 1, 32, 32, 24), "expected an ROI of shape"),
        ((1, 1, 12, 12, 12), "multiple of 8"),
        ((1, 1, 40, 40, 40), "up to 32"),
    ],
)
def test_an_roi_that_does_not_fit_is_refused(model, roi_shape, message):
    with pytest.raises(ValueError, match=f"(?i){message}"):
        model.encode(torch.zeros(roi_shape))


def test_smaller_rois_read_the_middle_of_the_position_tables(model):
    encoder = model.image_encoder
    whole, half = encoder._positions(8), encoder._positions(4)
    torch.testing.assert_close(half, whole[:, 2:6, 2:6, 2:6])


def test_forward_changes_no_argument(model, roi, clicks_dhw):
    roi_before, clicks_before = roi.clone(), clicks_dhw.clone()
    with torch.no_grad():
        model(roi, RoiPrompts(clicks_dhw))
    assert roi.equal(roi_before) and clicks_dhw.equal(clicks_before)


def test_the_order_of_clicks_does_not_matter_but_their_place_does(model, roi, clicks_dhw):
    with torch.no_grad():
        embedding = model.encode(roi)
        logits = model.decode(embedding, RoiPrompts(clicks_dhw))
        turned = model.decode(embedding, RoiPrompts(clicks_dhw.flip(1)))
        swapped = model.decode(embedding, RoiPrompts(clicks_dhw[..., [0, 2, 1]]))
    torch.testing.assert_close(logits, turned, rtol=1e-4, atol=1e-5)
    assert (logits - swapped).abs().max() > 1e-3


def test_a_batch_equals_its_members(model, roi, clicks_dhw):
    with torch.no_grad():
        together = model(roi, RoiPrompts(clicks_dhw))
        alone = model(roi[1:], RoiPrompts(clicks_dhw[1:]))
    torch.testing.assert_close(together[1:], alone, rtol=1e-4, atol=1e-5)


def test_checkpointed_activations_give_the_same_gradients(model, roi, clicks_dhw):
    def gradient():
        model.zero_grad()
        model(roi, RoiPrompts(clicks_dhw)).square().mean().backward()
        return model.image_encoder.blocks[0].adapter.linear1.weight.grad.clone()

    plain = gradient()
    model.image_encoder.gradient_checkpointing = True
    try:
        torch.testing.assert_close(gradient(), plain, rtol=1e-4, atol=1e-7)
    finally:
        model.image_encoder.gradient_checkpointing = False


@pytest.mark.parametrize(
    "change, message",
    [
        ({"depth": 5}, "multiple of levels"),
        ({"num_heads": 5}, "divisible by num_heads"),
        ({"upsample": 3}, "divisible by upsample"),
        ({"window": 3}, "must be even"),
        ({"roi_size": 36}, "does not fit|multiple"),
    ],
)
def test_numbers_that_disagree_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(MODEL_SIZES["test"], **change)


def test_unknown_size_names_the_known_ones():
    with pytest.raises(ConfigError, match="tiny, vit_b"):
        build_model("vit_x")


def test_config_survives_json(model):
    stored = model.config.to_dict()
    again = ModelConfig(**{k: tuple(v) if isinstance(v, list) else v for k, v in stored.items()})
    assert again == model.config


def test_click_maps_peak_at_the_clicks(detail_model):
    maps = detail_model.mask_decoder.click_maps
    seen = []
    hook = maps.conv.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    image = torch.zeros(1, 1, 16, 16, 16)
    image[0, 0, 10, 5, 1] = 6.0
    image[0, 0, 12, 7, 3] = 1.0
    maps(torch.tensor([[[2.5, 20.5, 10.5]]]), torch.ones(1, 1, dtype=torch.bool), maps.appearance(image), 32)
    hook.remove()
    peak = (seen[0][0, 0] == seen[0][0, 0].max()).nonzero()[0].tolist()
    assert peak == [10, 5, 1]  # (H, W, D) of decoder voxels, two ROI voxels each
    likeness = seen[0][0, 3]  # averages of three voxels a side, compared with the one at the click
    assert likeness[10, 5, 1] == 1 > likeness[11, 6, 2] > likeness[2, 2, 2]


def test_click_maps_start_without_effect(roi, clicks_dhw):
    model = build_model(
        dataclasses.replace(
            MODEL_SIZES["test"], click_map_sigmas=(4.0,), click_map_scales=(3,), click_map_tolerances=(0.2,)
        )
    )
    with torch.no_grad():
        with_maps = model(roi, RoiPrompts(clicks_dhw))
        model.mask_decoder.click_maps = None
        assert model(roi, RoiPrompts(clicks_dhw)).equal(with_maps)
