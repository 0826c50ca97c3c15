"""Slices that were left empty within a structure: whoever draws on every n-th slice means what lies between as well."""

from collections.abc import Iterable, Sequence

import numpy as np
from scipy import ndimage

FORGOTTEN = 3
"""Most empty slices between two drawn ones that look as if they had been forgotten."""
_SAME = 0.5
"""Share of the smaller of two cross-sections that the other one covers, if both are of one object."""


class SliceGapsError(ValueError):
    """A structure was drawn on single slices; the text completes the sentence "it is left out: "."""


def require_filled(voxels: np.ndarray, structures: Iterable[tuple[str, Sequence[int]]]) -> list[str]:
    """Passes if no structure is drawn on every n-th slice alone. Nothing is filled in.

    Two drawn slices with empty ones between belong to one object if their cross-sections lie over each other. Small
    objects on single slices, one beside another, are therefore no gaps.

    Args:
        voxels: (i, j, k), whole numbers from 0; the slices may lie along any axis.
        structures: names, each with its numbers.

    Returns:
        A sentence on each structure in which a few slices look forgotten.

    Raises:
        SliceGapsError: no two drawn slices of a structure are neighbours, and its cross-sections lie over each other.
    """
    boxes = ndimage.find_objects(voxels)
    said = []
    for name, numbers in structures:
        found = [box for number in numbers if number <= len(boxes) and (box := boxes[number - 1]) is not None]
        if not found:
            continue
        box = tuple(
            slice(min(s.start for s in along), max(s.stop for s in along)) for along in zip(*found, strict=True)
        )
        mask = np.isin(voxels[box], numbers)
        for axis in range(3):
            if forgotten := _forgotten(np.moveaxis(mask, axis, 0), name):
                slices = "an empty slice" if forgotten == 1 else f"{forgotten} empty slices"
                said.append(f"'{name[:60]}' has {slices} between others; nothing was filled in.")
                break
    return said


def _forgotten(mask: np.ndarray, name: str) -> int:
    drawn = np.flatnonzero(mask.any(axis=(1, 2)))
    steps = np.diff(drawn)
    jumps = np.flatnonzero(steps > 1)
    covered = [int(at) for at in jumps if _is_same(mask[drawn[at]], mask[drawn[at + 1]])]
    if len(jumps) == len(steps) and 2 * len(covered) > len(jumps):
        raise SliceGapsError(
            f"'{name[:60]}' is drawn on slices that are no neighbours, and nothing says what lies between them; "
            "fill them in (interpolate), and save it again"
        )
    areas = mask.sum(axis=(1, 2))[drawn]
    return int(sum(steps[at] - 1 for at in covered if steps[at] - 1 <= FORGOTTEN and not _is_end(areas, int(at))))


def _is_same(one: np.ndarray, other: np.ndarray) -> bool:
    return bool((one & other).sum() >= _SAME * min(one.sum(), other.sum()))


def _is_end(areas: np.ndarray, at: int) -> bool:
    """Whether one object tapers off before a jump, or another one begins behind it."""
    before, behind = areas[max(at - 1, 0)], areas[min(at + 2, len(areas) - 1)]
    return bool(areas[at] < _SAME * before or areas[at + 1] < _SAME * behind)
