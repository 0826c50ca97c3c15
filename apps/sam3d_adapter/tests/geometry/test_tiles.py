"""Further regions: on the grid of the first one, around what is clicked, the same for clicks near one another."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.geometry.roi import Roi, place_roi
from lib.geometry.tiles import NEAREST, shifted, tile_offset
from lib.prompts.click import Click
from tests.support.geometry import GEOMETRIES, make_affine

SHAPE = (200, 180, 160)


def first_roi(name: str) -> Roi:
    directions, spacing, degrees = GEOMETRIES[name]
    return place_roi([Click((100, 90, 80))], SHAPE, make_affine(directions, spacing, degrees), size=32, spacing_mm=1.5)


@pytest.mark.parametrize("name", GEOMETRIES)
@given(st.tuples(*[st.integers(0, n - 1) for n in SHAPE]))
def test_every_click_lies_well_within_its_region(name: str, ijk: tuple[int, int, int]) -> None:
    first = first_roi(name)
    offset = tile_offset(first, Click(ijk))
    dhw = shifted(first, offset).clicks_to_dhw([Click(ijk)])[0]
    assert ((dhw >= 4) & (dhw <= 28)).all()
    assert all(part % 16 == 0 for part in offset)
    # The same voxel of the image in both, moved by the offset.
    np.testing.assert_allclose(dhw + offset, first.clicks_to_dhw([Click(ijk)])[0], atol=1e-6)


@given(st.tuples(*[st.integers(0, n - 1) for n in SHAPE]))
def test_the_nearest_region_holds_a_click_with_half_its_side_to_spare(ijk: tuple[int, int, int]) -> None:
    first = first_roi("oblique sagittal")
    dhw = shifted(first, tile_offset(first, Click(ijk), NEAREST)).clicks_to_dhw([Click(ijk)])[0]
    assert (np.abs(dhw - 16) <= 8 + 1e-9).all()


def test_what_lies_within_the_middle_stays_in_the_first_region() -> None:
    first = place_roi([Click((50, 50, 50))], (100, 100, 100), np.eye(4), size=32, spacing_mm=1.0, roi_axes="RAS")
    assert tile_offset(first, Click((62, 38, 50))) == (0, 0, 0)
    assert tile_offset(first, Click((63, 50, 50))) == (16, 0, 0) == tile_offset(first, Click((71, 57, 50)))
    assert tile_offset(first, Click((50, 50, 10))) == (0, 0, -32)


def test_a_shifted_region_may_have_another_size() -> None:
    first = first_roi("oblique sagittal")
    part = shifted(first, (3, -5, 40), (7, 8, 9))
    assert part.size_dhw == (7, 8, 9) and part.spacing_mm == first.spacing_mm
    np.testing.assert_allclose(part.dhw_to_mm([[1, 2, 3]]), first.dhw_to_mm([[4, -3, 43]]))
    np.testing.assert_allclose(part.dhw_to_ijk([[1, 2, 3]]), first.dhw_to_ijk([[4, -3, 43]]))
