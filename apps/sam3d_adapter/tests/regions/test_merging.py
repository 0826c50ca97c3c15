"""Weak borders go first."""

import numpy as np

from lib.regions.merging import merge
from lib.regions.supervoxels import Supervoxels, find_borders


def test_the_weakest_border_goes_first_and_outer_faces_add_up() -> None:
    labels = np.repeat([1, 2, 3, 4], 3)[:, None, None] * np.ones((1, 5, 5), np.int32)
    smooth = np.choose(labels, [0.0, 1.0, 1.2, 5.0, 12.0]).astype(np.float32)
    edges = np.abs(np.gradient(smooth, axis=0)).astype(np.float32)
    borders = find_borders(Supervoxels(labels, smooth, edges), strong=0.5)
    sizes = np.bincount(labels.ravel())
    tree = merge(borders, sizes, np.bincount(labels.ravel(), smooth.ravel()), edge_share=0.5, size_power=0.0)
    assert tree.parent[1] == tree.parent[2] == 5
    assert tree.parent[5] == tree.parent[3] == 6
    assert (np.diff(tree.height[5:]) >= 0).all()
    assert set(tree.order[tree.first[5] : tree.last[5]]) == {1, 2}
    assert tree.voxels[7] == labels.size
    assert tree.faces[5] == 25 and tree.strong[5] == 25
    assert tree.rim[5] == 25 + 6 * 5 * 4  # one end and the four sides
    assert tree.faces[7] == 0
