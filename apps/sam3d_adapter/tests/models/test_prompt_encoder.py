"""From a click to the token that answers for it, and back: a mix-up of axes here fails without a word."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from lib.geometry.axes import voxel_to_mm
from lib.geometry.roi import place_roi
from lib.models.click_maps import _clicked_voxels
from lib.models.prompt_encoder import PromptEncoder3d, clicks_to_grid
from lib.models.prompts import RoiPrompts
from lib.prompts.click import Click
from tests.support.geometry import affines

Triple = tuple[int, int, int]
IMAGE_SHAPE = (200, 160, 120)
dhw = st.tuples(*[st.integers(2, 5)] * 3)


@st.composite
def clicked(draw: st.DrawFn) -> tuple[Triple, Triple, Triple]:
    """Tokens along D, H, W, voxels of a token along each, and a click's voxel: no two axes alike but by chance."""
    tokens, stride = draw(dhw), draw(st.tuples(*[st.integers(1, 8)] * 3))
    click = draw(st.tuples(*[st.integers(0, n * s - 1) for n, s in zip(tokens, stride, strict=True)]))
    return tokens, stride, click


def roi_shape(tokens: Triple, stride: Triple) -> Triple:
    d, h, w = (n * s for n, s in zip(tokens, stride, strict=True))
    return d, h, w


def token_map_hwd(values: torch.Tensor) -> torch.Tensor:
    """(C, D, H, W) as the network's (1, C, H, W, D)."""
    return values.permute(0, 2, 3, 1)[None]


def token_centres(tokens: Triple, stride: Triple) -> torch.Tensor:
    """(3, D, H, W): the voxel index along D, H and W on which each token is centred."""
    along = [(torch.arange(n, dtype=torch.float64) + 0.5) * s - 0.5 for n, s in zip(tokens, stride, strict=True)]
    return torch.stack(torch.meshgrid(*along, indexing="ij"))


def sampled(token_map: torch.Tensor, clicks: torch.Tensor, shape: Triple) -> torch.Tensor:
    """(N, C) of a (1, C, H, W, D) map at clicks (N, 3), beyond the outermost centres what these hold."""
    grid = clicks_to_grid(clicks, shape)[None, None, None]
    return F.grid_sample(token_map, grid, padding_mode="border", align_corners=False)[0, :, 0, 0].T


@given(clicked())
@settings(max_examples=100, deadline=None)
def test_the_prompt_encoder_reads_the_token_that_holds_the_click(case: tuple[Triple, Triple, Triple]) -> None:
    """A channel for each token, 1 in it: the sampled feature is largest in the channel of the one clicked on."""
    tokens, stride, click = case
    number = int(np.prod(tokens))
    encoder = PromptEncoder3d(dim=number, depth=1, num_heads=1, mlp_dim=1, num_queries=1)
    read: list[torch.Tensor] = []
    encoder.transformer.layers[0].register_forward_pre_hook(lambda _, given: read.append(given[1]))
    one_hot = token_map_hwd(torch.eye(number).view(number, *tokens))
    with torch.no_grad():
        encoder(one_hot, RoiPrompts(torch.tensor([[click]]).float()), roi_shape(tokens, stride))
    holds = tuple(c // s for c, s in zip(click, stride, strict=True))
    (points,) = read
    assert points.shape == (1, 1, number)
    assert np.unravel_index(int(points[0, 0].argmax()), tokens) == holds
    # A click lies within half a token of the centre, along each axis: no other token can weigh more than it.
    assert points[0, 0].max() >= 1 / 8
    assert (points[0, 0] == points[0, 0].max()).sum() == 1


@given(clicked(), st.tuples(*[st.floats(-0.5, 0.5, exclude_max=True)] * 3))
@settings(max_examples=100, deadline=None)
def test_from_voxel_to_token_map_and_back(case: tuple[Triple, Triple, Triple], part: tuple[float, ...]) -> None:
    """A map of the tokens' own places, read at a click, gives the click: exactly between the outermost centres."""
    tokens, stride, voxel = case
    click = torch.tensor(voxel, dtype=torch.float64) + torch.tensor(part, dtype=torch.float64)
    centres = token_centres(tokens, stride)
    back = sampled(token_map_hwd(centres), click[None], roi_shape(tokens, stride))[0]
    first, last = centres[:, 0, 0, 0], centres[:, -1, -1, -1]
    torch.testing.assert_close(back, click.clamp(first, last), rtol=0, atol=1e-9)
    assert ((back - click).abs() <= torch.tensor(stride) / 2 + 1e-9).all()


@pytest.mark.parametrize("axes", ["SAR", "IPL", "RAS"])
@given(affines, st.tuples(*[st.integers(0, n - 1) for n in IMAGE_SHAPE]), st.tuples(*[st.integers(-17, 17)] * 3))
@settings(max_examples=40, deadline=None)
def test_from_image_to_token_to_mm_and_back(axes: str, affine: Any, ijk: Triple, off: Triple) -> None:
    """The whole way that clicks take, in oblique and anisotropic images: the ROI's middle, and one beside it."""
    size, tokens = 128, 16
    beside = [int(np.clip(i + o, 0, n - 1)) for i, o, n in zip(ijk, off, IMAGE_SHAPE, strict=True)]
    clicks = [Click(ijk), Click((beside[0], beside[1], beside[2]))]
    # Voxels of the image measure 5 mm at most, so both lie between the outermost tokens' centres, which loses nothing.
    roi = place_roi(clicks[:1], IMAGE_SHAPE, affine, size=size, spacing_mm=1.5, roi_axes=axes)
    places = token_map_hwd(token_centres((tokens,) * 3, (size // tokens,) * 3))
    back = sampled(places, torch.from_numpy(roi.clicks_to_dhw(clicks)).double(), (size,) * 3).numpy()
    np.testing.assert_allclose(roi.dhw_to_mm(back), voxel_to_mm(affine, [ijk, beside]), atol=1e-3)
    np.testing.assert_allclose(roi.dhw_to_ijk(back), [ijk, beside], atol=1e-3)


@given(st.tuples(*[st.integers(0, 31)] * 3), st.sampled_from([1, 2, 4]))
@settings(max_examples=60, deadline=None)
def test_the_decoder_marks_the_voxel_that_the_grid_points_at(click: Triple, stride: int) -> None:
    """What is connected with a click starts from where its likeness is read."""
    size = 32 // stride
    clicks = torch.tensor([[click]]).float()
    seeds = _clicked_voxels(clicks, torch.ones(1, 1, dtype=torch.bool), size, 32)
    read = sampled(seeds.double(), clicks[0].double(), (32, 32, 32))
    assert seeds.sum() == 1
    assert read.item() >= 1 / 8
    h, w, d = (int(index) * stride for index in seeds[0, 0].nonzero()[0])
    assert all(0 <= c - first < stride for c, first in zip(click, (d, h, w), strict=True))
