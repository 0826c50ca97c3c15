"""Corrections of a mask stay local, boxes bound what is added, other segments are left out."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from lib.interaction.box import Box
from lib.interaction.click import Click
from lib.transforms.limit_mask import BOX_TOLERANCE, REACH_MM, LimitMaskd, changed_by_clicks, cut_at_box
from lib.transforms.protected import Protected
from lib.transforms.start_mask import StartMask
from tests.support.geometry import make_affine

SHAPE = (60, 50, 40)
GRID = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1)
AFFINE = make_affine("PIR", (0.9, 1.0, 1.2), (20, -12, 15))


def ball(centre: tuple[int, int, int], radius: float) -> np.ndarray:
    return np.asarray(((GRID - np.array(centre)) ** 2).sum(-1) <= radius**2)


BODY = ball((25, 25, 20), 12)
LEAK = ball((38, 25, 20), 6)


def corrected(start: np.ndarray, answer: np.ndarray, *clicks: Click) -> np.ndarray:
    mask = np.asfortranarray(answer.astype(np.uint8))
    for click in clicks:
        mask[click.ijk] = click.is_foreground
    changed_by_clicks(mask, start, AFFINE, clicks)
    return mask != 0


def test_a_background_click_takes_the_leak_and_nothing_else() -> None:
    """The answer is smaller all around, and adds something elsewhere: only the leak was clicked on."""
    answer = ball((25, 25, 20), 10) | ball((25, 45, 35), 3)
    found = corrected(BODY | LEAK, answer, Click((41, 25, 20), False))
    assert not found[41, 25, 20] and (LEAK & found & ~BODY).sum() < 0.5 * (LEAK & ~BODY).sum()
    assert not (found & ~(BODY | LEAK)).any()
    assert found[ball((20, 25, 20), 7)].all()


def test_a_foreground_click_adds_what_was_missing_and_takes_nothing() -> None:
    answer = ball((25, 25, 20), 10) | LEAK
    found = corrected(BODY, answer, Click((41, 25, 20)))
    assert found[BODY].all() and found[41, 25, 20]
    assert (found & LEAK).sum() > 0.9 * LEAK.sum() and not (found & ~(BODY | LEAK)).any()


@pytest.mark.parametrize("is_foreground", [True, False])
def test_clicks_that_agree_with_the_mask_change_nothing(is_foreground: bool) -> None:
    click = Click((25, 25, 20) if is_foreground else (5, 5, 5), is_foreground)
    np.testing.assert_array_equal(corrected(BODY, ball((30, 30, 20), 8), click), BODY)


def test_a_click_where_the_network_sees_nothing_changes_its_voxel() -> None:
    click = Click((25, 45, 35))
    found = corrected(BODY, BODY, click)
    assert (found ^ BODY).sum() == 1 and found[click.ijk]


def test_nothing_changes_beyond_the_reach() -> None:
    everything = np.ones(SHAPE, bool)
    far = corrected(np.zeros(SHAPE, bool), everything, Click((30, 25, 20)))
    distance_mm = np.linalg.norm((GRID - [30, 25, 20]) * [0.9, 1.0, 1.2], axis=-1)
    np.testing.assert_array_equal(far, distance_mm <= REACH_MM[1])
    near = corrected(BODY, everything, Click((38, 25, 20)))
    np.testing.assert_array_equal(near & ~BODY, (distance_mm_to((38, 25, 20)) <= REACH_MM[0]) & ~BODY)


def distance_mm_to(ijk: tuple[int, int, int]) -> np.ndarray:
    return np.asarray(np.linalg.norm((GRID - np.array(ijk)) * [0.9, 1.0, 1.2], axis=-1))


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
    start = StartMask(BODY, "upload", 1, "hash")
    box = Box((10, 10, 5), (45, 45, 35))
    found = limited(BODY | LEAK, (Click((40, 25, 20)),), start_mask=start, box=box, protected=protected)
    assert not (found & protected.mask).any()
    assert found[BODY & ~protected.mask].all() and found[40, 25, 20]


def test_a_background_click_outside_the_box_and_on_the_start_mask_is_obeyed() -> None:
    click = Click((25, 25, 20), False)
    found = limited(BODY, (click,), start_mask=StartMask(BODY, "label", 1, "h"), box=Box((40, 40, 30), (50, 48, 38)))
    assert not found[click.ijk] and found.sum() == BODY.sum() - 1
