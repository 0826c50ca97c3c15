"""Axis orders and coordinates."""

from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.geometry.axes import (
    WORLD_LETTERS,
    AxesError,
    as_matrix,
    image_directions,
    mm_to_voxel,
    reorder,
    spacing_of,
    voxel_to_mm,
)
from tests.support.geometry import affines, make_affine

ALL_DIRECTIONS = ["".join(letters) for order in permutations(WORLD_LETTERS) for letters in product(*order)]


@pytest.mark.parametrize("directions", ALL_DIRECTIONS)
def test_directions_of_upright_and_oblique_images(directions: str) -> None:
    assert image_directions(make_affine(directions, (0.7, 1.1, 5))) == directions
    assert image_directions(make_affine(directions, (0.7, 1.1, 5), (20, -15, 10))) == directions


@given(affines)
@settings(max_examples=40, deadline=None)
def test_directions_agree_with_nibabel(affine: np.ndarray) -> None:
    assert image_directions(affine) == "".join(nib.aff2axcodes(affine))


def test_tie_of_45_degrees_does_not_depend_on_the_last_bit() -> None:
    affine = make_affine("RAS", (1, 1, 1), (0, 0, 45))
    found = {image_directions(affine * (1 + 1e-12 * np.sin(np.arange(16) * seed).reshape(4, 4))) for seed in range(20)}
    assert len(found) == 1


# (axes of the array, axes wanted, source axis of each, sign of each), worked out by hand
REORDER = [
    ("RAS", "SAR", (2, 1, 0), (1, 1, 1)),
    ("LPS", "SAR", (2, 1, 0), (1, -1, -1)),
    ("PIR", "SAR", (1, 0, 2), (-1, -1, 1)),
    ("IPL", "IPL", (0, 1, 2), (1, 1, 1)),
    ("ASL", "SAR", (1, 0, 2), (1, 1, -1)),
]


@pytest.mark.parametrize(("source", "target", "axes", "signs"), REORDER)
def test_reorder(source: str, target: str, axes: tuple, signs: tuple) -> None:
    assert reorder(source, target) == (axes, signs)


@pytest.mark.parametrize("letters", ["SAA", "SA", "SAIR", "XYZ", "SRL", ""])
def test_letters_that_are_no_frame(letters: str) -> None:
    with pytest.raises(AxesError, match="one each of"):
        reorder("RAS", letters)


@given(affines, st.tuples(*[st.integers(0, 600)] * 3))
@settings(max_examples=40, deadline=None)
def test_voxel_to_mm_and_back(affine: np.ndarray, ijk: tuple[int, int, int]) -> None:
    mm = voxel_to_mm(affine, [ijk])
    np.testing.assert_allclose(mm, [nib.affines.apply_affine(affine, ijk)])
    np.testing.assert_allclose(mm_to_voxel(affine, mm), [ijk], atol=1e-8)


def test_spacing_is_that_of_the_columns() -> None:
    np.testing.assert_allclose(spacing_of(make_affine("PSR", (0.5, 2, 3), (10, 20, 15))), (0.5, 2, 3))


@pytest.mark.parametrize(
    "affine",
    [np.eye(3), np.diag([1.0, 0, 1, 1]), np.full((4, 4), np.nan), np.diag([1.0, np.inf, 1, 1]), np.ones((4, 4))],
    ids=["3 x 3", "no spacing", "nan", "infinite", "one line"],
)
def test_affines_that_are_no_frame(affine: np.ndarray) -> None:
    with pytest.raises(AxesError, match="affine"):
        image_directions(affine)


def test_matrix_is_hashable() -> None:
    assert hash(as_matrix(np.eye(4))) == hash(as_matrix(np.eye(4)))
