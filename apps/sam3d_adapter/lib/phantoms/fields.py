"""Smooth random fields and refinement of coarse grids; all float32, nothing filtered on a full grid."""

import numpy as np
from scipy.ndimage import zoom

Array = np.ndarray


def lerp_axis(values: Array, index: Array, axis: int) -> Array:
    """Interpolate linearly along one axis.

    Args:
        values: array of any rank.
        index: (n,) fractional indices along ``axis``; clamped to its ends.
        axis: the axis replaced by one of length n.
    """
    last = values.shape[axis] - 1
    index = np.clip(index, 0, last)
    low = np.minimum(index.astype(np.intp), max(last - 1, 0))
    shape = [1] * values.ndim
    shape[axis] = -1
    weight = (index - low).astype(np.float32).reshape(shape)
    start = np.take(values, low, axis=axis)
    step = np.take(values, np.minimum(low + 1, last), axis=axis)
    step -= start
    step *= weight
    step += start
    return step


def resample_grid(values: Array, indices: tuple[Array, Array, Array]) -> Array:
    """Sample a 3-D grid at the outer product of three lists of fractional indices (trilinear)."""
    # The axis that grows least goes first: the later, larger passes are then as few as can be.
    growth = [len(index) / size for index, size in zip(indices, values.shape, strict=True)]
    for axis in np.argsort(growth):
        values = lerp_axis(values, indices[axis], int(axis))
    return values


def smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], step_mm: float, wavelength_mm: float) -> Array:
    """Draw a smooth random field of mean 0 and standard deviation of about 1.

    Args:
        rng: source of randomness.
        shape: voxels per axis.
        step_mm: voxel size.
        wavelength_mm: distance of the independent random values that a cubic spline runs through.

    Returns:
        float32 array of ``shape``.
    """
    coarse_step = max(wavelength_mm, step_mm)
    coarse_shape = [int(np.ceil(n * step_mm / coarse_step)) + 4 for n in shape]
    coarse = rng.standard_normal(coarse_shape, dtype=np.float32)
    # Half way to the voxel size by spline, the rest linearly: smooth to the eye at a fraction of the cost.
    factor = max(1, min(4, round(coarse_step / step_mm / 2)))
    fine = zoom(coarse, factor, order=3, mode="grid-wrap", grid_mode=True)
    offset = rng.uniform(1.0, 2.0, size=len(shape))
    indices = tuple(
        ((np.arange(n) * (step_mm / coarse_step) + o) * factor).astype(np.float32)
        for n, o in zip(shape, offset, strict=True)
    )
    field = resample_grid(fine, indices)
    field /= max(float(fine.std()), 1e-6)
    return field
