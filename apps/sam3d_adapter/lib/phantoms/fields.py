"""Smooth random fields and refinement of coarse grids; all float32, nothing filtered on a full grid."""

import numpy as np

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


def spline_axis(control: Array, index: Array, axis: int) -> Array:
    """Evaluate a uniform cubic B-spline along one axis.

    Args:
        control: control values; float32.
        index: (n,) fractional indices, at least 1 and less than the length of ``axis`` minus 2.
        axis: the axis replaced by one of length n.
    """
    low = index.astype(np.intp)
    t = (index - low).astype(np.float32)
    weights = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
    shape = [1] * control.ndim
    shape[axis] = -1
    total: Array | None = None
    for tap, weight in enumerate(weights):
        part = np.take(control, low + (tap - 1), axis=axis)
        part *= (weight / 6).reshape(shape)
        total = part if total is None else np.add(total, part, out=total)
    assert total is not None
    return total


def smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], step_mm: float, wavelength_mm: float) -> Array:
    """Draw a smooth random field of mean 0 and standard deviation of about 1.

    Args:
        rng: source of randomness.
        shape: voxels per axis.
        step_mm: voxel size.
        wavelength_mm: distance of the independent random control values of a cubic B-spline.

    Returns:
        float32 array of ``shape``.
    """
    wavelength_mm = max(wavelength_mm, step_mm)
    field = rng.standard_normal([int(np.ceil(n * step_mm / wavelength_mm)) + 4 for n in shape], dtype=np.float32)
    offsets = rng.uniform(1.0, 2.0, size=len(shape))
    # The first axis comes last: its slabs are contiguous, and that pass is the large one.
    for axis in reversed(range(len(shape))):
        index = np.arange(shape[axis]) * (step_mm / wavelength_mm) + offsets[axis]
        field = spline_axis(field, index, axis)
    field /= max(float(field.std()), 1e-6)
    return field
