"""Which objects of a rendered volume can be seen."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import maximum_filter

from lib.volumes.objects import Piece

Array = np.ndarray
SURROUNDINGS_MM = 7.0


@dataclass(frozen=True)
class Rendered:
    """An image and what can be seen in it.

    Attributes:
        image: (x, y, z) int16.
        clean: (x, y, z) float32 before noise, in a unit of its own.
        stands_out: Given the mean of an object in ``clean`` and values around it: which of these differ enough.
        share: Of its surroundings from which an object must stand out.
        always_seen: Kinds that count by their name.
    """

    image: Array
    clean: Array
    stands_out: Callable[[float, Array], Array]
    share: float
    always_seen: frozenset[str] = frozenset()


def is_visible(piece: Piece, rendered: Rendered, spacing: tuple[float, float, float]) -> bool:
    """Whether an object can be seen.

    Args:
        piece: The object.
        rendered: Its image.
        spacing: mm.
    """
    if piece.kind in rendered.always_seen:
        return True
    reach = [max(2, round(SURROUNDINGS_MM / side)) for side in spacing]
    before = [min(n, side.start) for n, side in zip(reach, piece.box, strict=True)]
    box = tuple(slice(side.start - a, side.stop + n) for side, a, n in zip(piece.box, before, reach, strict=True))
    values = rendered.clean[box]
    mask = np.zeros(values.shape, np.uint8)
    mask[tuple(slice(a, a + n) for a, n in zip(before, piece.mask.shape, strict=True))] = piece.mask
    # The voxels at the border hold both; what comes next counts.
    around = maximum_filter(mask, [2 * r + 1 for r in reach]) > maximum_filter(mask, 3)
    seen = rendered.stands_out(float(values[mask > 0].mean()), values[around])
    return bool(len(seen)) and float(seen.mean()) >= rendered.share
