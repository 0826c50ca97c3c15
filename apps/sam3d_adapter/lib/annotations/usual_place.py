"""Where in an image a structure usually lies, by the labels that there are: where to click without a user."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from lib.annotations.label_names import label_of
from lib.annotations.strata import MOST_STRATA, structures_of
from lib.annotations.submitted import SubmittedCase
from lib.geometry.axes import Array, spacing_of, transform_points

LEAST_LABELS = 3
"""Labelled cases from which on a place is usual."""


def usual_place(cases: Sequence[SubmittedCase], structure: str) -> Array | None:
    """The median place of a structure; None with fewer than `LEAST_LABELS` cases that have it.

    Args:
        cases: labelled.
        structure: its name; numbers of instances make no difference.

    Returns:
        (3,) mm to the right, to the front and up from the middle of the image.
    """
    places = []
    for case in cases:
        numbers = [n for n, name in enumerate(case.names, start=1) if label_of(name) == label_of(structure)]
        if not numbers:
            continue
        labels = case.read_labels()
        voxels = np.argwhere(np.any([case.mask(labels, number) for number in numbers], axis=0))
        if len(voxels):
            # The voxel nearest the centre: that of a bent structure lies outside of it.
            middle = voxels[np.square((voxels - voxels.mean(axis=0)) * spacing_of(case.affine)).sum(axis=1).argmin()]
            places.append(transform_points(case.affine, middle)[0] - _middle(case.shape, case.affine))
    return np.median(places, axis=0) if len(places) >= LEAST_LABELS else None


def usual_places(cases: Sequence[SubmittedCase]) -> dict[str, Array]:
    """The places of all structures that enough cases have, by name without numbers of instances.

    Args:
        cases: labelled.

    Returns:
        At most `MOST_STRATA`, those of the most cases first; see `usual_place`.
    """
    counts = Counter(name for case in cases for name in structures_of(case))
    often = sorted((name for name in counts if counts[name] >= LEAST_LABELS), key=lambda name: (-counts[name], name))
    places = {name: usual_place(cases, name) for name in often[:MOST_STRATA]}
    return {name: place for name, place in places.items() if place is not None}


def voxel_at(place: Array, shape: Sequence[int], affine: Array) -> tuple[int, int, int]:
    """The voxel of an image at a place, or the nearest one.

    Args:
        place: from `usual_place`.
        shape: voxels along i, j, k.
        affine: (4, 4), voxel index to RAS mm.
    """
    voxel = np.round(transform_points(np.linalg.inv(affine), _middle(shape, affine) + place)[0]).astype(int)
    i, j, k = np.clip(voxel, 0, np.array(shape) - 1).tolist()
    return i, j, k


def _middle(shape: Sequence[int], affine: Array) -> Array:
    return transform_points(affine, (np.array(shape) - 1) / 2)[0]
