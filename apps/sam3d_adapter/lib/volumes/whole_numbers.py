"""The numbers of a label as integers: the one place that says how far from a whole number a label may be."""

import numpy as np

WHOLE_TOLERANCE = 0.01
"""By how much a value may miss a whole number and is rounded to it. Files that scale their values, such as int16 for
labels up to 255, miss it by 0.002; an image has values in between as well."""
MAX_VALUE = 65535


def as_whole_numbers(values: np.ndarray) -> np.ndarray | None:
    """The values as integers from 0 to `MAX_VALUE`; None where they are no such numbers, within `WHOLE_TOLERANCE`.

    Args:
        values: of any shape and type; integers that need no other type are returned as they are.
    """
    kind, size = values.dtype.kind, values.dtype.itemsize
    if kind == "b":
        return values.view(np.uint8)
    if kind in "iu":
        if values.size and (values.min() < 0 or values.max() > MAX_VALUE):
            return None
        return values if size <= 4 else values.astype(np.uint16)
    return _rounded(values) if kind == "f" else None


def _rounded(values: np.ndarray) -> np.ndarray | None:
    whole = np.zeros_like(values, np.uint16)
    is_zero = True
    # Part by part: a copy of all values would take four or eight bytes each.
    for part in range(values.shape[-1]):
        found, near = values[..., part], np.rint(values[..., part])
        if not np.isfinite(found).all() or np.abs(found - near).max(initial=0) > WHOLE_TOLERANCE:
            return None
        if near.min(initial=0) < 0 or near.max(initial=0) > MAX_VALUE:
            return None
        whole[..., part] = near
        is_zero &= not found.any()
    # An image of small values would become an empty label.
    return whole if is_zero or whole.any() else None
