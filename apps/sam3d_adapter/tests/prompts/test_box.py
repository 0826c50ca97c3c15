"""Boxes as clients send them."""

import json
from typing import Any

import numpy as np
import pytest

from lib.prompts.box import Box
from lib.prompts.click import Click
from lib.prompts.reading import BoxError

SHAPE = (60, 50, 40)
BOX = Box((10, 12, 5), (30, 20, 9))


@pytest.mark.parametrize(
    "value",
    [
        [10, 30, 12, 20, 5, 9],
        [30, 10, 12, 20, 9, 5],  # 3D Slicer, where i and k run against the patient's axes
        [[10, 12, 5], [30, 20, 9]],
        [[30, 12, 9], [10, 20, 5]],
        [[10, 30], [20, 12], [5, 9]],
        [10.0, 30.0, 12, 20, 5, 9],
        json.dumps([10, 30, 12, 20, 5, 9]),
    ],
)
def test_every_form_is_one_box(value: Any) -> None:
    assert Box.read({"box": value}, SHAPE) == (BOX,)


@pytest.mark.parametrize("value", [None, [], "", " ", "[]"])
def test_no_box(value: Any) -> None:
    assert Box.read({"box": value}, SHAPE) == Box.read({}, SHAPE) == ()


def test_what_lies_outside_the_image_is_cut_off() -> None:
    found = Box.read({"box": [-20, 30, 12, 99, 5, 10**30]}, SHAPE)
    assert found == (Box((0, 12, 5), (30, 49, 39)),)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("all", "two opposite corner voxels"),
        ({"a": 1}, "two opposite corner voxels"),
        (3, "two opposite corner voxels"),
        ([1, 2, 3, 4, 5], "two opposite corner voxels"),
        ([1, 2, 3, 4, 5, 6, 7], "two opposite corner voxels"),
        ([[1, 2, 3]], "two opposite corner voxels"),
        ([[1, 2, 3], [4, 5]], "two opposite corner voxels"),
        ([[[1], 2, 3], [4, 5, 6]], "no whole number"),
        ([1, 2, 3, 4, 5, "6"], "no whole number"),
        ([1, 2, 3, 4, 5, None], "no whole number"),
        ([1, 2, 3, 4, True, 6], "no whole number"),
        ([1, 2, 3, 4, 5, 6.5], "no whole number"),
        ([1, 2, 3, 4, 5, float("nan")], "no whole number"),
        ([1, 2, 3, 4, 5, float("inf")], "no whole number"),
        ([1, 2, 3, 4, 5, 5], "without extent along k"),
        ([7, 7, 3, 4, 5, 6], "without extent along i"),
        ([60, 70, 3, 4, 5, 6], "along i outside the image of 60 x 50 x 40"),
        ([1, 2, -9, -1, 5, 6], "along j outside the image"),
        ([59, 70, 3, 4, 5, 6], "along i outside the image"),  # one layer of voxels is left of it
    ],
)
def test_what_is_no_box(value: Any, words: str) -> None:
    with pytest.raises(BoxError, match=words):
        Box.read({"box": value}, SHAPE)


def test_holds_and_centre() -> None:
    assert BOX.centre == (20, 16, 7)
    assert BOX.holds(Click((10, 12, 5))) and BOX.holds(Click((30, 20, 9)))
    assert not any(BOX.holds(Click(ijk)) for ijk in ((9, 12, 5), (10, 21, 5), (10, 12, 10)))


def test_widened_by_a_share_of_each_side_and_at_least_a_voxel() -> None:
    assert BOX.widened(0.1) == Box((7, 11, 4), (33, 21, 10))
    mask = np.zeros(SHAPE, bool)
    mask[Box((-3, 5, 30), (4, 60, 50)).slices(SHAPE)] = True
    assert mask.sum() == 5 * 45 * 10 and mask[0, 5, 30] and mask[4, 49, 39]
