"""Overlapping pieces become disjoint parts that give the pieces back."""

import numpy as np
import pytest

from lib.volumes.objects import Piece, connected_pieces, join_pieces

SHARES = {"organ": 3.0, "lesion": 1.0}
WHOLE = (slice(0, 12), slice(0, 12), slice(0, 12))


def cube(start: int, stop: int) -> np.ndarray:
    mask = np.zeros((12, 12, 12), bool)
    mask[start:stop, start:stop, start:stop] = True
    return mask


def test_unions_of_parts_are_the_pieces() -> None:
    given = [cube(0, 6), cube(4, 10), cube(5, 8), cube(1, 3), cube(0, 6)]
    objects = join_pieces([Piece("organ", WHOLE, mask) for mask in given], (12, 12, 12), SHARES)
    assert (objects.labels.dtype, objects.objects.dtype) == (np.uint8, np.uint16)
    assert len(objects.objects) == 4  # the fifth equals the first
    for row, mask in zip(objects.objects, given, strict=False):
        np.testing.assert_array_equal(np.isin(objects.labels, row[row > 0]), mask)


def test_a_kind_keeps_its_share_however_many_there_are() -> None:
    pieces = [Piece("lesion", WHOLE, cube(0, 3)), Piece("organ", WHOLE, cube(3, 6)), Piece("organ", WHOLE, cube(6, 9))]
    weights = join_pieces(pieces, (12, 12, 12), SHARES).weights
    np.testing.assert_allclose(weights, [0.25, 0.375, 0.375])


def test_nothing_gives_an_empty_table() -> None:
    objects = join_pieces([], (4, 4, 4), SHARES)
    assert objects.objects.shape[0] == len(objects.weights) == 0
    assert not objects.labels.any()


def test_pieces_that_touch_at_a_corner_are_one() -> None:
    mask = cube(0, 3) | cube(3, 6)
    mask[9:11, 9:11, 9:11] = True
    box = tuple(slice(20, 32) for _ in range(3))
    pieces = list(connected_pieces("organ", mask, box))
    assert [np.count_nonzero(piece.mask) for piece in pieces] == [54, 8]
    assert pieces[1].box == (slice(29, 31),) * 3
    assert len(list(connected_pieces("organ", mask, box, min_voxels=20))) == 1


def test_an_unknown_kind_is_an_error() -> None:
    with pytest.raises(KeyError, match="bone"):
        join_pieces([Piece("bone", WHOLE, cube(0, 3))], (12, 12, 12), SHARES)
