"""Objects of a volume: connected parts and their unions, and how often each is drawn."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import find_objects, label
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from lib.synthesis.tissues import KINDS, Part

Array = np.ndarray
EVERY_NEIGHBOUR = np.ones((3, 3, 3))
LEAST_PIECE = 10
"""Voxels of the smallest connected piece that is labelled at all."""
LEAST_VOXELS, LEAST_MM3 = 100, 60.0
"""An object has so many voxels, or this volume and `FEWEST_VOXELS`."""
FEWEST_VOXELS = 40
LARGEST_SHARE = 0.5
"""Of the volume's voxels."""


@dataclass(frozen=True)
class Objects:
    """Labels of a volume and what a click can mean in it.

    Attributes:
        labels: (x, y, z) uint16, or uint8 if that is enough: disjoint connected pieces; 0 = in no object.
        rows: Label values of each object, ascending.
        kinds: Kind of each object.
    """

    labels: Array
    rows: tuple[tuple[int, ...], ...]
    kinds: tuple[str, ...]

    def table(self) -> Array:
        """(N, P) uint16 label values of each object, padded with 0."""
        width = max((len(row) for row in self.rows), default=1)
        return np.array([row + (0,) * (width - len(row)) for row in self.rows], np.uint16).reshape(-1, width)

    def weights(self) -> Array:
        """(N,) float32, sum 1: every kind is drawn equally often, and every object of a kind."""
        counts = {kind: self.kinds.count(kind) for kind in set(self.kinds)}
        return np.array([1 / counts[kind] / len(counts) for kind in self.kinds], np.float32)

    def keep(self, keep: Sequence[bool]) -> "Objects":
        """Some of the objects; labels of no object become 0."""
        chosen = [n for n, wanted in enumerate(keep) if wanted]
        rows = tuple(self.rows[n] for n in chosen)
        lookup = np.zeros(int(self.labels.max()) + 1, self.labels.dtype)
        for value in {value for row in rows for value in row}:
            lookup[value] = value
        return Objects(lookup[self.labels], rows, tuple(self.kinds[n] for n in chosen))


def find_all_objects(part: Array, parts: Sequence[Part], voxel_mm3: float) -> Objects:
    """The objects of painted parts: each organ with its lesions, each lesion, and the larger structures.

    Args:
        part: (x, y, z) part of each voxel.
        parts: What they are.
        voxel_mm3: Volume of a voxel.
    """
    labels, part_of_value = _connected_pieces(part, parts)
    sizes = np.bincount(labels.ravel(), minlength=len(part_of_value) + 1)
    touches = _neighbours(labels, len(part_of_value) + 1)
    groups: dict[tuple[str, str], set[int]] = {}
    for number, one in enumerate(parts):
        if one.kind is None:
            continue
        groups[one.kind, f"part {number}"] = {number}
        for union in one.unions:
            groups.setdefault((one.kind, union), set()).add(number)
    for members in groups.values():
        members.update([number for number, one in enumerate(parts) if one.host in members])
    rows: dict[tuple[int, ...], str] = {}
    for (kind, _), members in groups.items():
        values = np.array([v for v, number in enumerate(part_of_value, start=1) if number in members], np.intp)
        if not len(values):
            continue
        count, group = connected_components(touches[np.ix_(values, values)], directed=False)
        for piece in range(count):
            row = values[group == piece]
            voxels = int(sizes[row].sum())
            enough = voxels >= LEAST_VOXELS or (voxels >= FEWEST_VOXELS and voxels * voxel_mm3 >= LEAST_MM3)
            if enough and voxels <= LARGEST_SHARE * labels.size:
                # The rest of an organ that a lesion parted is no object, unless it was before.
                rows.setdefault(tuple(int(v) for v in row), kind)
    ordered = sorted(rows.items(), key=lambda item: (KINDS.index(item[1]), item[0]))
    if len(part_of_value) < 256:
        labels = labels.astype(np.uint8)
    return Objects(labels, tuple(row for row, _ in ordered), tuple(kind for _, kind in ordered))


def _connected_pieces(part: Array, parts: Sequence[Part]) -> tuple[Array, list[int]]:
    """Numbers the connected pieces of the parts that are objects; returns them and the part of each number."""
    labels = np.zeros(part.shape, np.uint16)
    part_of_value: list[int] = []
    for number, box in enumerate(find_objects(part), start=1):
        if box is None or parts[number].kind is None:
            continue
        pieces, count = label(part[box] == number, EVERY_NEIGHBOUR)
        sizes = np.bincount(pieces.ravel(), minlength=count + 1)
        lookup = np.zeros(count + 1, np.uint16)
        for piece in 1 + np.flatnonzero(sizes[1:] >= LEAST_PIECE):
            part_of_value.append(number)
            lookup[piece] = len(part_of_value)
        target = labels[box]
        np.copyto(target, lookup[pieces], where=pieces > 0)
    return labels, part_of_value


def _neighbours(labels: Array, count: int) -> Array:
    """(count, count) sparse: which label values touch, corners included."""
    found = []
    for offset in np.argwhere(EVERY_NEIGHBOUR)[14:] - 1:
        here = tuple(slice(max(0, -int(o)), n - max(0, int(o))) for o, n in zip(offset, labels.shape, strict=True))
        there = tuple(slice(max(0, int(o)), n - max(0, -int(o))) for o, n in zip(offset, labels.shape, strict=True))
        first, second = labels[here], labels[there]
        border = (first != second) & (first > 0) & (second > 0)
        found.append(np.unique(first[border].astype(np.uint32) * np.uint32(count) + second[border]))
    pairs = np.unique(np.concatenate(found))
    first, second = np.divmod(pairs, count)
    return coo_matrix((np.ones(len(pairs), bool), (first, second)), shape=(count, count)).tocsr()
