"""Which numbers are those of a label."""

from typing import Any

import numpy as np
import pytest

from lib.volumes.whole_numbers import MAX_VALUE, WHOLE_TOLERANCE, as_whole_numbers

SHAPE = (4, 3, 5)


def label(value: Any, dtype: Any) -> np.ndarray:
    array = np.zeros(SHAPE, dtype)
    array[1, 2, 3], array[0, 0, 0] = value, 1
    return array


@pytest.mark.parametrize("kind", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", ">i2", "f2", "f4", "f8", "g", "?"])
def test_numbers_of_any_type(kind: str) -> None:
    array = label(1 if kind == "?" else 7, kind)
    found = as_whole_numbers(array)
    assert found is not None and found.dtype.kind in "iu"
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("bad", [-1, MAX_VALUE + 1, 2**40])
def test_numbers_that_do_not_fit(bad: int) -> None:
    assert as_whole_numbers(label(bad, np.int64)) is None
    assert as_whole_numbers(label(bad, np.float64)) is None


@pytest.mark.parametrize("value", [1, 2, 255, MAX_VALUE])
@pytest.mark.parametrize("share", [-0.99, 0.99])
def test_what_rounding_explains_is_rounded(value: int, share: float) -> None:
    found = as_whole_numbers(label(value + share * WHOLE_TOLERANCE, np.float64))
    np.testing.assert_array_equal(found, label(value, np.uint16))


@pytest.mark.parametrize("bad", [0.5, 1 + 1.5 * WHOLE_TOLERANCE, -2 * WHOLE_TOLERANCE, np.nan, np.inf, -np.inf])
def test_what_it_does_not_is_an_image(bad: float) -> None:
    assert as_whole_numbers(label(bad, np.float32)) is None


def test_an_image_of_small_values_is_no_empty_label() -> None:
    assert as_whole_numbers(np.full(SHAPE, 0.004, np.float32)) is None
    found = as_whole_numbers(np.zeros(SHAPE, np.float32))
    assert found is not None and not found.any()
    # A value of nearly nothing beside a structure is a trace of scaling.
    np.testing.assert_array_equal(as_whole_numbers(label(0.004, np.float32)), label(0, np.uint8))
