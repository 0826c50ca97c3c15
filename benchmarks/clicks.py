"""First clicks on the lesions of phantoms, the same in every run."""

import zlib
from collections.abc import Iterator, Sequence

import numpy as np

from benchmarks.baselines import Case, centre_click, random_click
from lib.phantoms.phantom import Phantom, make_phantom

MODES = ("centre", "random")
"""The voxel deepest inside the lesion, or any of its voxels."""


def clicked_lesions(seeds: Sequence[int], mode: str) -> Iterator[tuple[int, float, Phantom, Case]]:
    """(seed, diameter in mm, phantom, case) of every lesion of these phantoms, with its first click."""
    for seed in seeds:
        phantom = make_phantom(seed)
        spacing = tuple(np.linalg.norm(phantom.affine[:3, :3], axis=0).tolist())
        for lesion in phantom.lesions:
            truth = phantom.labels == lesion.label
            rng = np.random.default_rng([42, zlib.crc32(f"{seed}/{lesion.label}".encode()), 1])
            click = centre_click(truth) if mode == "centre" else random_click(truth, rng)
            yield seed, lesion.diameter_mm, phantom, Case(phantom.image, truth, spacing, click)
