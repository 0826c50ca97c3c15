"""The region that a box asks for, and where the box lies in it."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.geometry.axes import mm_to_voxel, spacing_of, voxel_to_mm
from lib.geometry.box import box_in_roi, ellipsoid_in_roi, place_roi_on_box
from lib.geometry.roi import MARGIN, Roi, place_roi
from lib.prompts.box import Box
from lib.prompts.click import Click
from lib.prompts.reading import ClickError
from tests.support.geometry import GEOMETRIES, affines, make_affine

SHAPE = (60, 50, 40)
SPACINGS = (1.0, 2.0, 4.0)


def place(box: Box, *clicks: tuple[int, int, int], affine: np.ndarray | None = None, **more: Any) -> Roi:
    affine = make_affine("LPS", (1.0, 1.0, 1.0)) if affine is None else affine
    said = [Click(ijk) for ijk in clicks or (box.centre,)]
    return place_roi_on_box(box, said, (300, 300, 300), affine, **{"size": 64, "spacings_mm": SPACINGS} | more)


@pytest.mark.parametrize(
    ("side_mm", "spacing_mm"), [(2, 1.0), (56, 1.0), (57, 2.0), (112, 2.0), (113, 4.0), (224, 4.0), (299, 4.0)]
)
def test_the_finest_spacing_at_which_the_box_fits(side_mm: int, spacing_mm: float) -> None:
    """Of 64 voxels, a sixteenth at either end is margin."""
    box = Box((0, 10, 10), (side_mm - 1, 20, 20))
    assert place(box).spacing_mm == spacing_mm


def test_a_box_larger_than_any_roi_is_looked_at_from_its_clicks() -> None:
    box = Box((0, 0, 0), (299, 299, 299))
    affine = make_affine("LPS", (1.0, 1.0, 1.0))
    click = Click((20, 280, 150))
    expected = place_roi([click], (300, 300, 300), affine, size=64, spacing_mm=4.0)
    assert place(box, click.ijk) == expected
    with pytest.raises(ClickError, match="mm apart"):
        place(box, (0, 0, 0), (299, 299, 299))


boxes = st.tuples(*[st.tuples(st.integers(0, n - 2), st.integers(2, 20)) for n in SHAPE]).map(
    lambda parts: Box(*(tuple(f(p, n) for p, n in zip(parts, SHAPE, strict=True)) for f in (
        lambda p, n: p[0], lambda p, n: min(p[0] + p[1], n) - 1)))
)  # fmt: skip


@given(affines, boxes, st.sampled_from(["SAR", "IPL", "RAS", "ASL"]))
@settings(max_examples=80, deadline=None)
def test_the_box_in_the_roi_is_the_box_in_space(affine: np.ndarray, box: Box, axes: str) -> None:
    """In flipped, permuted, anisotropic and oblique images: its faces are the same planes, the margin is kept."""
    roi = place_roi_on_box(box, [Click(box.centre)], SHAPE, affine, size=64, spacings_mm=SPACINGS, roi_axes=axes)
    first, last = box_in_roi(box, roi)
    sides_mm = (np.array(box.last) - box.first + 1) * spacing_of(affine)
    assert (first >= 0).all() and (last <= 63).all() and (first <= last).all()
    # Where a ROI voxel is smaller than the box, first and last lie half a ROI voxel inside of the faces.
    corners_ijk = np.array([np.array(box.first) - 0.5, np.array(box.last) + 0.5])
    if (sides_mm > roi.spacing_mm).all():
        faces = roi.ijk_to_dhw(mm_to_voxel(affine, voxel_to_mm(affine, corners_ijk)))
        np.testing.assert_allclose([first - 0.5, last + 0.5], np.sort(faces, axis=0), atol=1e-6)
        assert (first - 0.5 >= MARGIN * 64 - 1e-6).all() and (last + 0.5 <= 64 * (1 - MARGIN) + 1 + 1e-6).all()
        size_mm = (last - first + 1) * roi.spacing_mm
        np.testing.assert_allclose(size_mm, sides_mm[list(roi.image_axes)], atol=1e-6)
    assert (roi.clicks_to_dhw([Click(box.centre)])[0] >= first - 0.51).all()


@pytest.mark.parametrize("name", GEOMETRIES)
def test_image_and_box_turned_together_are_seen_alike(name: str) -> None:
    """A box of 20 x 24 x 16 mm in the patient is as many ROI voxels along S, A and R in every stored orientation."""
    directions, spacing, _ = GEOMETRIES[name]
    affine = make_affine(directions, spacing)
    corners = np.array([[-10.0, -12.0, -8.0], [10.0, 12.0, 8.0]]) + [-31, 17, 250] + affine[:3, :3] @ [25, 25, 25]
    ijk = mm_to_voxel(affine, corners)
    low, high = np.rint(ijk.min(0)).astype(int), np.rint(ijk.max(0)).astype(int)
    (box,) = Box.read({"box": [low.tolist(), high.tolist()]}, (50, 50, 50))
    roi = place_roi_on_box(box, [Click(box.centre)], (50, 50, 50), affine, size=64, spacings_mm=SPACINGS)
    first, last = box_in_roi(box, roi)
    np.testing.assert_allclose(last - first + 1, [16, 24, 20], atol=3)  # D to S, H to A, W to R; rounding to voxels


def test_the_ellipsoid_fills_the_box_and_nothing_else() -> None:
    affine = make_affine("PIR", (0.7, 0.9, 1.3), (20, -12, 15))
    box = Box((10, 12, 5), (40, 42, 31))
    roi = place_roi_on_box(box, [Click(box.centre)], SHAPE, affine, size=64, spacings_mm=SPACINGS)
    inside = ellipsoid_in_roi(box, roi)
    first, last = box_in_roi(box, roi)
    where = np.argwhere(inside)
    np.testing.assert_allclose([where.min(0), where.max(0)], [first, last], atol=1.01)
    np.testing.assert_allclose(inside.sum(), np.pi / 6 * np.prod(last - first + 1), rtol=0.02)
