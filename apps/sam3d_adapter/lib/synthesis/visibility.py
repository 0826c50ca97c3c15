"""Which objects of a rendered volume can be seen."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import find_objects, maximum_filter

from lib.synthesis.objects import Objects

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


def visible(objects: Objects, rendered: Rendered, spacing: tuple[float, float, float]) -> list[bool]:
    """Whether each object can be seen.

    Args:
        objects: Candidates.
        rendered: Their image.
        spacing: mm.
    """
    reach = [max(2, round(SURROUNDINGS_MM / side)) for side in spacing]
    boxes = find_objects(objects.labels)
    found = []
    for row, kind in zip(objects.rows, objects.kinds, strict=True):
        if kind in rendered.always_seen:
            found.append(True)
            continue
        own = [boxes[value - 1] for value in row]
        box = tuple(
            slice(max(min(b[axis].start for b in own) - reach[axis], 0), max(b[axis].stop for b in own) + reach[axis])
            for axis in range(3)
        )
        lookup = np.zeros(len(boxes) + 1, np.uint8)
        lookup[list(row)] = 1
        mask = lookup[objects.labels[box]]
        # The voxels at the border hold both; what comes next counts.
        around = maximum_filter(mask, [2 * r + 1 for r in reach]) > maximum_filter(mask, 3)
        values = rendered.clean[box]
        seen = rendered.stands_out(float(values[mask > 0].mean()), values[around])
        found.append(bool(len(seen)) and float(seen.mean()) >= rendered.share)
    return found
