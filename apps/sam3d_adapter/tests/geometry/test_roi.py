"""Placement of the ROI and its coordinates."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.geometry.axes import image_directions, mm_to_voxel, spacing_of, voxel_to_mm
from lib.geometry.roi import Roi, place_roi
from lib.prompts.click import Click
from lib.prompts.reading import ClickError
from tests.support.geometry import GEOMETRIES, affines, make_affine

SHAPE = (200, 160, 120)


def place(*ijk: tuple[int, int, int], affine: Any = None, size: int = 64, **more: Any) -> Roi:
    affine = make_affine("LPS", (0.8, 0.9, 2.5)) if affine is None else affine
    return place_roi([Click(p) for p in ijk], SHAPE, affine, **{"size": size, "spacing_mm": 1.0} | more)


def test_known_position_by_hand() -> None:
    """Array axes run to left, posterior, superior; D, H, W to superior, anterior, right."""
    roi = place((100, 70, 40))
    # 5 mm up, 9 mm to anterior, 8 mm to the right of the click: k + 2, j - 10, i - 10.
    np.testing.assert_allclose(roi.clicks_to_dhw([Click((90, 60, 42))]), [[32 + 5, 32 + 9, 32 + 8]])
    np.testing.assert_allclose(roi.dhw_to_ijk([[37, 41, 40]]), [[90, 60, 42]])


@pytest.mark.parametrize("size", [16, 33, 64, 128])
def test_first_click_lies_on_the_middle_voxel(size: int) -> None:
    roi = place((100, 70, 40), size=size)
    np.testing.assert_allclose(roi.clicks_to_dhw([Click((100, 70, 40))]), [[size // 2] * 3], atol=1e-9)
    assert roi.size_dhw == (size,) * 3


@given(affines, st.tuples(*[st.integers(0, n - 1) for n in SHAPE]), st.sampled_from(["SAR", "IPL", "RAS", "ASL"]))
@settings(max_examples=60, deadline=None)
def test_voxel_to_mm_to_roi_to_voxel(affine: np.ndarray, ijk: tuple[int, int, int], axes: str) -> None:
    roi = place((11, 150, 60), affine=affine, roi_axes=axes)
    mm = voxel_to_mm(affine, [ijk])
    dhw = mm_to_voxel(np.asarray(roi.affine), mm)
    np.testing.assert_allclose(dhw, roi.clicks_to_dhw([Click(ijk)]), atol=1e-6)
    np.testing.assert_allclose(roi.dhw_to_mm(dhw), mm, atol=1e-6)
    back = roi.dhw_to_ijk(dhw)
    np.testing.assert_allclose(back, [ijk], atol=1e-6)
    assert tuple(np.rint(back).astype(int)[0]) == ijk
    # The axes are those asked for, and each voxel is as large as asked for.
    assert image_directions(roi.affine) == axes
    np.testing.assert_allclose(spacing_of(roi.affine), 1.0)
    # Parallel to the image's axes: every row and column of the linear part has one entry.
    assert (np.count_nonzero(np.asarray(roi.roi_to_image)[:3, :3], axis=0) == 1).all()
    assert (np.count_nonzero(np.asarray(roi.roi_to_image)[:3, :3], axis=1) == 1).all()


@pytest.mark.parametrize("name", GEOMETRIES)
def test_swapped_click_axes_would_be_seen(name: str) -> None:
    """Asymmetric positions: every other order of the three indices lies elsewhere, by more than ten voxels."""
    directions, spacing, degrees = GEOMETRIES[name]
    affine = make_affine(directions, spacing, degrees)
    roi = place((60, 60, 60), affine=affine, size=128)
    right = roi.clicks_to_dhw([Click((30, 62, 95))])[0]
    swaps = [(62, 30, 95), (95, 62, 30), (30, 95, 62), (62, 95, 30), (95, 30, 62)]
    for swapped in swaps:
        assert np.abs(roi.clicks_to_dhw([Click(swapped)])[0] - right).max() > 10
    for order in [(0, 2, 1), (1, 0, 2), (2, 1, 0)]:
        assert np.abs(right[list(order)] - right).max() > 10
    # And the right one lies where the affines, which know nothing of the permutation, put it.
    expected = mm_to_voxel(np.asarray(roi.affine), voxel_to_mm(affine, [(30, 62, 95)]))
    np.testing.assert_allclose([right], expected, atol=1e-6)


def test_roi_stays_on_the_first_click_while_all_lie_in_it_with_a_margin() -> None:
    # 64 voxels of 1 mm, the click on 32, margin 4: k may move by (59 - 32) / 2.5 = 10.8 up and 11.2 down.
    alone = place((100, 70, 40))
    assert place((100, 70, 40), (100, 70, 50)) == alone
    assert place((100, 70, 40), (100, 70, 29)) == alone
    assert place((100, 70, 40), (100, 70, 51)) != alone
    assert place((100, 70, 40), (100, 70, 28)) != alone
    assert hash(place((100, 70, 40), (105, 72, 45)).key()) == hash(alone.key())


def test_otherwise_it_is_centred_on_the_bounding_box() -> None:
    roi = place((100, 70, 40), (104, 76, 55), (90, 71, 41))
    np.testing.assert_allclose(roi.dhw_to_ijk([[32, 32, 32]]), [[97, 73, 47.5]])


def test_background_clicks_do_not_move_it() -> None:
    affine = make_affine("LPS", (0.8, 0.9, 2.5))
    clicks = [Click((100, 70, 40)), Click((0, 0, 0), is_foreground=False)]
    assert place_roi(clicks, SHAPE, affine, size=64, spacing_mm=1.0) == place((100, 70, 40))


def test_clicks_too_far_apart_are_refused() -> None:
    with pytest.raises(ClickError, match="150 mm apart.*64 mm wide"):
        place((100, 70, 10), (100, 70, 70))
    with pytest.raises(ClickError, match="at least one foreground"):
        place_roi([Click((1, 1, 1), is_foreground=False)], SHAPE, np.eye(4), size=64, spacing_mm=1.0)


@given(affines, st.tuples(*[st.integers(-20, 20)] * 3))
@settings(max_examples=30, deadline=None)
def test_translation_of_click_and_affine_together(affine: np.ndarray, shift: tuple[int, int, int]) -> None:
    """The array is cut `shift` voxels later, so indices fall and the origin moves: the same place in the patient."""
    moved = affine.copy()
    moved[:3, 3] = voxel_to_mm(affine, [shift])[0]
    there = place((60, 70, 50), affine=affine)
    here = place((60 - shift[0], 70 - shift[1], 50 - shift[2]), affine=moved)
    np.testing.assert_allclose(here.affine, there.affine, atol=1e-6)
