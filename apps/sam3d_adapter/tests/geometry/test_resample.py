"""Sampling of the ROI: right values at the right places, whatever the image's geometry."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from lib.geometry import interpolation as separable
from lib.geometry.axes import voxel_to_mm
from lib.geometry.interpolation import interpolate, linear_taps
from lib.geometry.resample import resample_roi
from lib.geometry.roi import Roi, place_roi, roi_at
from lib.prompts.click import Click
from tests.support.geometry import GEOMETRIES, affines, make_affine

SHAPE = (23, 31, 17)


def grid(shape: tuple[int, ...]) -> np.ndarray:
    """(N, 3): every index of an array."""
    return np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1).reshape(-1, 3)


def place(ijk: tuple[int, int, int], affine: np.ndarray, *, size: int = 20, spacing_mm: float = 1.5) -> Roi:
    return place_roi([Click(ijk)], SHAPE, affine, size=size, spacing_mm=spacing_mm)


clicks = st.tuples(*[st.integers(0, n - 1) for n in SHAPE])


@given(affines, clicks, st.floats(0.6, 4))
@settings(max_examples=40, deadline=None)
def test_linear_image_gives_the_linear_function_of_the_position(
    affine: np.ndarray, ijk: tuple[int, int, int], spacing_mm: float
) -> None:
    """Over every border; the place is taken from the affines alone."""
    gradient, offset = np.array([0.7, -1.3, 0.4]), 11.0

    def ramp(mm: np.ndarray) -> np.ndarray:
        return (mm - affine[:3, 3]) @ gradient + offset

    image = ramp(voxel_to_mm(affine, grid(SHAPE))).reshape(SHAPE).astype(np.float32)
    roi = place(ijk, affine, spacing_mm=spacing_mm)
    values, inside = (part.numpy().ravel() for part in resample_roi(torch.from_numpy(image), roi))

    dhw = grid(roi.size_dhw)
    at = roi.dhw_to_ijk(dhw)
    between = ((at >= 0) & (at <= np.array(SHAPE) - 1)).all(axis=1)
    extent = ((at >= -0.5 - 1e-9) & (at <= np.array(SHAPE) - 0.5 + 1e-9)).all(axis=1)
    assert between.any()
    np.testing.assert_allclose(values[between], ramp(roi.dhw_to_mm(dhw))[between], atol=1e-3)
    assert inside[between].all()
    np.testing.assert_array_equal(values[~inside], 0)
    assert (inside == extent).mean() > 0.999  # but for rounding at the very edge


@pytest.mark.parametrize("name", GEOMETRIES)
@pytest.mark.parametrize("order", ["C", "F"])
def test_noise_as_a_general_interpolation_gives_it(name: str, order: Any) -> None:
    directions, spacing, degrees = GEOMETRIES[name]
    image = np.asarray(np.random.default_rng(3).integers(-1000, 1000, SHAPE).astype(np.int16), order=order)
    roi = place((4, 27, 9), make_affine(directions, spacing, degrees))
    values, inside = resample_roi(torch.from_numpy(image), roi)
    expected = map_coordinates(image.astype(float), roi.dhw_to_ijk(grid(roi.size_dhw)).T, order=1, mode="nearest")
    expected = expected.reshape(roi.size_dhw)
    assert values.shape == inside.shape == (1, 20, 20, 20)
    assert (values.dtype, inside.dtype) == (torch.float32, torch.bool)
    np.testing.assert_allclose(values[0][inside[0]], expected[inside[0].numpy()], atol=1e-2)
    assert 0 < inside.float().mean() < 1  # the test reaches over a border


@pytest.mark.parametrize("name", GEOMETRIES)
def test_clicked_voxel_is_seen_at_the_click(name: str) -> None:
    directions, spacing, degrees = GEOMETRIES[name]
    image = np.zeros(SHAPE, np.int16)
    image[5, 24, 11] = 1000
    roi = place((5, 24, 11), make_affine(directions, spacing, degrees))
    values, _ = resample_roi(torch.from_numpy(image), roi)
    assert values[0, 10, 10, 10] == pytest.approx(1000, abs=0.01)
    assert np.unravel_index(int(values.argmax()), values.shape) == (0, 10, 10, 10)


@given(affines, st.tuples(*[st.integers(-6, 6)] * 3))
@settings(max_examples=20, deadline=None)
def test_translation_of_content_click_and_affine(affine: np.ndarray, shift: tuple[int, int, int]) -> None:
    """An image cut elsewhere, with the affine that says so: the ROI of the same place has the same content."""
    whole = np.random.default_rng(1).normal(size=(40, 40, 40)).astype(np.float32)

    def cut(start: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        moved = affine.copy()
        moved[:3, 3] = voxel_to_mm(affine, [start])[0]
        i, j, k = start
        part = whole[i : i + 24, j : j + 24, k : k + 24]
        i, j, k = (int(index) for index in np.array([20, 21, 19]) - start)
        spacing_mm = 0.5 * float(np.linalg.norm(affine[:3, :3], axis=0).min())
        roi = place_roi([Click((i, j, k))], part.shape, moved, size=8, spacing_mm=spacing_mm)
        return resample_roi(torch.from_numpy(part.copy()), roi)

    (first, all_inside), (second, _) = cut(np.array([8, 8, 8])), cut(np.array([8, 8, 8]) + shift)
    assert all_inside.all()
    torch.testing.assert_close(first, second, atol=1e-4, rtol=0)


def test_only_the_box_that_is_needed_becomes_float(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    convert = torch.Tensor.to

    def spy(self: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        sizes.append(self.numel())
        return convert(self, *args, **kwargs)

    image = torch.zeros(200, 180, 160, dtype=torch.int16)
    roi = place_roi([Click((100, 90, 80))], image.shape, np.diag([1.0, 1, 1, 1]), size=16, spacing_mm=1.0)
    monkeypatch.setattr(torch.Tensor, "to", spy)
    resample_roi(image, roi)
    assert max(sizes) <= 18**3


def test_values_that_are_not_finite_count_as_outside() -> None:
    image = np.ones(SHAPE, np.float32)
    image[12, 15, 8], image[14, 15, 8] = np.nan, np.inf
    roi = place((13, 15, 8), np.eye(4), spacing_mm=1.0)
    values, inside = resample_roi(torch.from_numpy(image), roi)
    assert torch.isfinite(values).all()
    assert not inside[0, 10, 10, 9] and not inside[0, 10, 10, 11] and inside[0, 5, 5, 10]
    assert (values[inside] == 1).all()


@pytest.mark.parametrize("spacing_mm", [0.7, 2.0, 4.5])
@pytest.mark.parametrize("axes", ["SAR", "RSA"])
def test_coarse_regions_are_made_of_the_voxels_they_use_alone(
    spacing_mm: float, axes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = (180, 200, 160)
    values = np.asfortranarray(np.random.default_rng(5).integers(-1000, 3000, shape).astype(np.int16))
    voxels = torch.from_numpy(values)
    roi = roi_at((90.0, 101.0, 77.0), shape, np.diag([-0.9, -0.9, 1.1, 1.0]), 32, spacing_mm, axes)
    converted = []
    monkeypatch.setattr(
        separable, "interpolate", lambda box, taps: converted.append(box.numel()) or interpolate(box, taps)
    )
    seen, inside = resample_roi(voxels, roi)
    # Two neighbours of each position, or the box that holds them, which is at most as wide again.
    assert len(converted) == 1 and converted[0] <= (4 if spacing_mm == 2.0 else 2) ** 3 * 32**3
    taps = [
        linear_taps(position, shape[axis]) for position, axis in zip(roi.image_positions(), roi.image_axes, strict=True)
    ]
    box = voxels.permute(roi.image_axes)[tuple(slice(tap.first, tap.stop) for tap in taps)]
    assert inside.all()
    assert torch.equal(seen[0], interpolate(box.float().contiguous(), taps))
