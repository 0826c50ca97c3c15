"""Boxes bound what is added, other segments are left out."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor

from lib.infers.limit_mask import BOX_TOLERANCE, LimitMaskd, cut_at_box
from lib.infers.protected import Protected
from lib.prompts.box import Box
from lib.prompts.click import Click
from lib.prompts.mask_prompt import MaskPrompt
from tests.support.geometry import make_affine

SHAPE = (60, 50, 40)
GRID = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1)
AFFINE = make_affine("PIR", (0.9, 1.0, 1.2), (20, -12, 15))


def ball(centre: tuple[int, int, int], radius: float) -> np.ndarray:
    return np.asarray(((GRID - np.array(centre)) ** 2).sum(-1) <= radius**2)


BODY = ball((25, 25, 20), 12)
LEAK = ball((38, 25, 20), 6)


def test_the_box_bounds_what_is_added() -> None:
    box = Box((20, 20, 15), (39, 29, 24))
    mask = np.ones(SHAPE, np.uint8, order="F")
    cut_at_box(mask, box, None)
    inside = np.zeros(SHAPE, bool)
    inside[18:42, 19:31, 14:26] = True  # 10 % of 20, 10 and 10
    assert BOX_TOLERANCE == 0.1
    np.testing.assert_array_equal(mask != 0, inside)
    mask = np.ones(SHAPE, np.uint8, order="F")
    cut_at_box(mask, box, BODY)
    np.testing.assert_array_equal(mask != 0, inside | BODY)


def limited(answer: np.ndarray, clicks: tuple[Click, ...], **more: Any) -> np.ndarray:
    pred = MetaTensor(torch.from_numpy(np.asfortranarray(answer.astype(np.uint8))), affine=AFFINE)
    data = {"pred": pred, "clicks": clicks, "volume": SimpleNamespace(affine=AFFINE)} | more
    return LimitMaskd()(data)["pred"].numpy() != 0


def test_without_anything_it_does_nothing() -> None:
    np.testing.assert_array_equal(limited(BODY, (Click((25, 25, 20)),)), BODY)


def test_protected_voxels_are_left_out_whatever_else_was_said() -> None:
    protected = Protected(ball((30, 25, 20), 4), "upload", 0, "hash")
    start = MaskPrompt(BODY, "upload", 1, "hash")
    box = Box((10, 10, 5), (45, 45, 35))
    found = limited(BODY | LEAK, (Click((40, 25, 20)),), start_mask=start, box=box, protected=protected)
    assert not (found & protected.mask).any()
    assert found[BODY & ~protected.mask].all() and found[40, 25, 20]


def test_a_background_click_outside_the_box_and_on_the_start_mask_is_obeyed() -> None:
    click = Click((25, 25, 20), False)
    found = limited(BODY, (click,), start_mask=MaskPrompt(BODY, "label", 1, "h"), box=Box((40, 40, 30), (50, 48, 38)))
    assert not found[click.ijk] and found.sum() == BODY.sum() - 1
