"""Hierarchical merging of supervoxels: a tree whose nodes are candidates for objects."""

import heapq
from dataclasses import dataclass

import numpy as np

from lib.regions.supervoxels import Borders

Array = np.ndarray
EDGE_SCALE = 2.5
"""A step of height 1 has a gradient of 1 / 2.5 after the smoothing of the edges."""


@dataclass(frozen=True)
class MergeTree:
    """Nodes 1 to N are supervoxels, the later ones unions of two; node 0 is the background.

    Attributes:
        parent: (M,) node it was merged into; 0 = none.
        height: (M,) cost of the merge that made it; 0 for supervoxels.
        voxels: (M,) size.
        faces: (M,) outer faces, without those on the volume's border.
        strength: (M,) sum of the edge strength over them.
        strong: (M,) how many lie on strong edges.
        rim: (M,) faces on the volume's border.
        first, last: (M,) its supervoxels are `order[first:last]`.
        order: (N,) supervoxels.
    """

    parent: Array
    height: Array
    voxels: Array
    faces: Array
    strength: Array
    strong: Array
    rim: Array
    first: Array
    last: Array
    order: Array


def merge(borders: Borders, voxels: Array, sums: Array, *, edge_share: float, size_power: float) -> MergeTree:
    """Merges the pair of neighbours with the weakest border, again and again.

    Args:
        borders: Of the supervoxels.
        voxels: (N + 1,) their sizes.
        sums: (N + 1,) sums of their smoothed intensities.
        edge_share: Weight of the edge along the border against the difference of the means.
        size_power: How much smaller pieces merge earlier.
    """
    count = len(voxels) - 1
    total = 2 * count + 1
    outer = np.zeros((count + 1, 4))  # faces, strength, strong, rim
    table = np.stack([borders.faces, borders.strength, borders.strong], axis=1)
    for column in (0, 1):
        np.add.at(outer[:, :3], borders.pairs[:, column], table)
    outer[:, 3] = borders.rim
    # The union of two pieces keeps the number of the one with more neighbours: only those of the other one change.
    near: list[dict[int, list[float]]] = [{} for _ in range(count + 1)]
    for (a, b), row in zip(borders.pairs.tolist(), table.tolist(), strict=True):
        if a:
            near[a][b] = near[b][a] = row
    node = list(range(count + 1))
    size, summed = voxels.tolist(), sums.tolist()
    around = [row.tolist() for row in outer]

    def cost(a: int, b: int) -> float:
        faces, strength, _ = near[a][b]
        difference = abs(summed[a] / size[a] - summed[b] / size[b])
        height = edge_share * EDGE_SCALE * strength / faces + (1 - edge_share) * difference
        return float(height * min(size[a], size[b]) ** size_power)

    heap = [(cost(a, b), a, b) for a in range(1, count + 1) for b in near[a] if a < b]
    heapq.heapify(heap)
    parent, height = [0] * total, [0.0] * total
    records = [[size[n], *around[n]] for n in range(count + 1)]
    children: list[tuple[int, int]] = []
    while heap:
        asked, a, b = heapq.heappop(heap)
        if b not in near[a]:
            continue
        now = cost(a, b)
        if now > asked * 1.001:
            heapq.heappush(heap, (now, a, b))
            continue
        if len(near[a]) < len(near[b]):
            a, b = b, a
        new = count + 1 + len(children)
        children.append((node[a], node[b]))
        parent[node[a]] = parent[node[b]] = new
        height[new] = max(now, height[node[a]], height[node[b]])
        node[a] = new
        shared = near[a].pop(b)
        del near[b][a]
        size[a] += size[b]
        summed[a] += summed[b]
        around[a] = [x + y - 2 * z for x, y, z in zip(around[a], around[b], [*shared, 0.0], strict=True)]
        records.append([size[a], *around[a]])
        for n, row in near[b].items():
            del near[n][b]
            known = near[a].get(n)
            if known is None:
                near[a][n] = near[n][a] = row
            else:
                known[:] = [x + y for x, y in zip(known, row, strict=True)]
            heapq.heappush(heap, (cost(a, n), a, n))
        near[b] = {}
    end = len(records)
    first, last, order = _ranges(children, count, end - 1)
    voxel_count, faces, strength, strong, rim = np.array(records).T
    return MergeTree(
        np.array(parent[:end]), np.array(height[:end]), voxel_count, faces, strength, strong, rim, first, last, order
    )


def _ranges(children: list[tuple[int, int]], count: int, top: int) -> tuple[Array, Array, Array]:
    """An order of the supervoxels in which those of every node stand together."""
    leaves = np.ones(top + 1, int)
    for node, (a, b) in enumerate(children, start=count + 1):
        leaves[node] = leaves[a] + leaves[b]
    is_child = np.zeros(top + 1, bool)
    for pair in children:
        is_child[list(pair)] = True
    first = np.zeros(top + 1, int)
    place = 0
    for root in range(1, top + 1):
        if not is_child[root]:
            first[root] = place
            place += leaves[root]
    for node in range(top, count, -1):
        a, b = children[node - count - 1]
        first[a] = first[node]
        first[b] = first[node] + leaves[a]
    order = np.zeros(count, int)
    order[first[1 : count + 1]] = np.arange(1, count + 1)
    return first, first + leaves, order
