"""Interpolation and smooth noise."""

import numpy as np

from lib.phantoms.fields import resample_grid, smooth_noise, spline_axis


def test_resampling_a_linear_field_is_exact_and_keeps_the_axes() -> None:
    i, j, k = np.meshgrid(np.arange(5.0), np.arange(6.0), np.arange(7.0), indexing="ij")
    grid = (i + 10 * j + 100 * k).astype(np.float32)
    indices = (np.array([0.25, 3.5]), np.array([0.0, 1.5, 5.0]), np.array([2.75]))
    expected = indices[0][:, None, None] + 10 * indices[1][None, :, None] + 100 * indices[2][None, None, :]
    np.testing.assert_allclose(resample_grid(grid, indices), expected, rtol=1e-6)


def test_spline_of_a_line_is_the_line() -> None:
    index = np.array([1.0, 1.25, 2.9])
    np.testing.assert_allclose(spline_axis(np.arange(6, dtype=np.float32), index, 0), index, rtol=1e-6)


def test_noise_is_smooth_over_its_wavelength() -> None:
    field = smooth_noise(np.random.default_rng(1), (60, 50, 40), 2.0, 30.0)
    assert field.shape == (60, 50, 40) and field.dtype == np.float32
    for axis in range(3):
        near = np.abs(np.diff(field, axis=axis)).mean()
        assert near < 0.2 * field.std()
