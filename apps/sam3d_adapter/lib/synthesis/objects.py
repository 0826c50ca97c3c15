"""What a click can mean in painted parts: each organ with its lesions, each lesion, and the larger structures."""

from collections.abc import Iterator, Sequence

import numpy as np
from scipy.ndimage import find_objects

from lib.synthesis.tissues import Part
from lib.volumes.objects import Piece, connected_pieces

Array = np.ndarray
LEAST_VOXELS, LEAST_MM3 = 100, 60.0
"""An object has so many voxels, or this volume and `FEWEST_VOXELS`."""
FEWEST_VOXELS = 40
LARGEST_SHARE = 0.5
"""Of the volume's voxels."""


def find_pieces(part: Array, parts: Sequence[Part], voxel_mm3: float) -> Iterator[Piece]:
    """The connected objects of painted parts.

    Args:
        part: (x, y, z) part of each voxel.
        parts: What they are.
        voxel_mm3: Volume of a voxel.
    """
    boxes = find_objects(part, len(parts))
    for (kind, _), members in _groups(parts).items():
        own = [box for member in sorted(members) if member and (box := boxes[member - 1]) is not None]
        if not own:
            continue
        x, y, z = (slice(min(s.start for s in sides), max(s.stop for s in sides)) for sides in zip(*own, strict=True))
        chosen = np.zeros(len(parts), bool)
        chosen[list(members)] = True
        for piece in connected_pieces(kind, chosen[part[x, y, z]], (x, y, z), min_voxels=FEWEST_VOXELS):
            voxels = int(piece.mask.sum())
            if (voxels >= LEAST_VOXELS or voxels * voxel_mm3 >= LEAST_MM3) and voxels <= LARGEST_SHARE * part.size:
                yield piece


def _groups(parts: Sequence[Part]) -> dict[tuple[str, str], set[int]]:
    """Parts of each object, by its kind and name; lesions belong to the organ that they lie in."""
    groups: dict[tuple[str, str], set[int]] = {}
    for number, one in enumerate(parts):
        if one.kind is None:
            continue
        for name in (*[f"part {number}"] * one.is_object, *one.unions):
            groups.setdefault((one.kind, name), set()).add(number)
    for members in groups.values():
        members.update([number for number, one in enumerate(parts) if one.host in members])
    return groups
