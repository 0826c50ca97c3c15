"""Objects of a training volume: disjoint parts, objects as unions of parts, and how often each object is drawn."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import find_objects, label

from lib.files.atomic_write import replacing

Array = np.ndarray
Box = tuple[slice, ...]
TOUCHING = np.ones((3, 3, 3), bool)
"""Voxels that share a face, an edge or a corner are connected."""


@dataclass(frozen=True)
class Piece:
    """A mask on a box of a volume.

    Attributes:
        kind: What it is; decides how often it is drawn.
        box: One slice per axis.
        mask: (i, j, k) bool, of the box.
    """

    kind: str
    box: Box
    mask: Array


@dataclass(frozen=True)
class Objects:
    """Objects as unions of disjoint parts.

    Attributes:
        labels: (i, j, k) uint8 or uint16; the parts, 0 = in no object.
        objects: (N, P) uint16; label values of each object, padded with 0.
        weights: (N,) float32; how often each object is drawn, sum 1.
    """

    labels: Array
    objects: Array
    weights: Array


def connected_pieces(kind: str, mask: Array, box: Box, *, min_voxels: int = 1) -> Iterator[Piece]:
    """The connected components of a mask, which lies at ``box``."""
    numbers, _ = label(mask, TOUCHING)
    for number, inner in enumerate(find_objects(numbers), start=1):
        own = numbers[inner] == number
        if np.count_nonzero(own) >= min_voxels:
            shifted = (slice(b.start + i.start, b.start + i.stop) for b, i in zip(box, inner, strict=True))
            yield Piece(kind, tuple(shifted), own)


def join_pieces(pieces: Iterable[Piece], shape: Sequence[int], shares: Mapping[str, float]) -> Objects:
    """Divides overlapping pieces into disjoint parts.

    Args:
        pieces: One per object; one that equals an earlier one is dropped.
        shape: Of the volume.
        shares: How often a kind is drawn, relative to the other kinds that are there; uniform within a kind.

    Raises:
        ValueError: More than 65535 parts.
    """
    labels = np.zeros(shape, np.int32)
    sizes = {0: labels.size}
    owners: dict[int, list[int]] = {0: []}  # of each part
    kinds: dict[int, str] = {}
    seen = set()
    for piece in pieces:
        key = (tuple((s.start, s.stop) for s in piece.box), np.packbits(piece.mask).tobytes())
        if key in seen:
            continue
        seen.add(key)
        number = len(kinds)
        kinds[number] = piece.kind
        here = labels[piece.box]
        values, place, counts = np.unique(here[piece.mask], return_inverse=True, return_counts=True)
        renamed = values.copy()
        for row, (value, count) in enumerate(zip(values.tolist(), counts.tolist(), strict=True)):
            if value and sizes[value] == count:
                owners[value].append(number)
                continue
            renamed[row] = len(sizes)
            sizes[len(sizes)] = count
            owners[len(owners)] = [*owners[value], number]
            sizes[value] -= count
        here[piece.mask] = renamed[place]
    if len(sizes) > 2**16:
        raise ValueError(f"{len(kinds)} objects fall into {len(sizes) - 1} parts; expected at most 65535.")
    parts: dict[int, list[int]] = {number: [] for number in kinds}
    for part, numbers in owners.items():
        for number in numbers:
            parts[number].append(part)
    table = np.zeros((len(kinds), max(map(len, parts.values()), default=0)), np.uint16)
    for number, values in parts.items():
        table[number, : len(values)] = values
    count = Counter(kinds.values())
    weights = np.array([shares[kind] / count[kind] for kind in kinds.values()], np.float32)
    dtype = np.uint8 if len(sizes) <= 2**8 else np.uint16
    return Objects(labels.astype(dtype), table, weights / weights.sum() if len(weights) else weights)


def volume_of_seed(folder: Path, seed: int) -> Path:
    """File of the volume that is made from a seed."""
    return folder / f"{seed:06d}.npz"


def write_training_volume(path: Path, image: Array, affine: Array, **objects: Array) -> None:
    """Writes a ``*.npz`` to train on, atomically; not compressed, so that the processes of a training map it.

    Args:
        path: Where to.
        image: (i, j, k).
        affine: (4, 4), voxel index -> RAS mm.
        objects: ``labels`` alone, or what `Objects` holds.
    """
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez(file, image=image, affine=affine, **objects)
