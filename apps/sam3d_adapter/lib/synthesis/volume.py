"""One training volume made from a label map."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from lib.synthesis.anatomy import Anatomy, prepared
from lib.synthesis.ct import render_ct
from lib.synthesis.label_maps import LabelMapFile
from lib.synthesis.lesions import place_lesions
from lib.synthesis.mr import render_mr
from lib.synthesis.objects import find_pieces
from lib.synthesis.pet import render_pet
from lib.synthesis.scan import draw_grid, fill_body, sample_parts, source_voxels
from lib.synthesis.tissues import KINDS, Part
from lib.synthesis.visibility import is_visible
from lib.volumes.objects import Objects, join_pieces

Array = np.ndarray
RENDERERS = {"ct": render_ct, "mr": render_mr, "pet": render_pet}
MODALITIES = tuple(RENDERERS)
SHARES = {
    "ct": {"trunk": 0.6, "head_neck": 0.12, "brain": 0.08, "legs": 0.14, "misc": 0.06},
    "mr": {"trunk": 0.35, "head_neck": 0.07, "brain": 0.3, "legs": 0.2, "misc": 0.08},
    "pet": {"trunk": 0.62, "head_neck": 0.2, "brain": 0.04, "legs": 0.12, "misc": 0.02},
}
"""How often a volume shows each collection of label maps; one that is not named here counts 0.1."""
TRIES = 20


class SynthesisError(ValueError):
    """No volume can be made."""


@dataclass(frozen=True)
class SyntheticVolume:
    """A volume with its objects.

    Attributes:
        image: (i, j, k) int16: HU, or an arbitrary unit.
        objects: Labels, (i, j, k), and the objects made of them.
        affine: (4, 4) float64, voxel index -> RAS mm.
        parts: The structures of the scene.
        part: (i, j, k) uint16 structure of each voxel.
    """

    image: Array
    objects: Objects
    affine: Array
    parts: tuple[Part, ...]
    part: Array


def make_volume(seed: int, files: Sequence[LabelMapFile], modality: str) -> SyntheticVolume:
    """Makes a volume; equal arguments give equal voxels.

    Args:
        seed: Any integer >= 0.
        files: Label maps to draw from.
        modality: One of `MODALITIES`.

    Raises:
        SynthesisError: Modality that does not exist, or label maps in which nothing can be seen.
    """
    if modality not in MODALITIES:
        raise SynthesisError(f"{modality!r} is no modality; choose one of {', '.join(MODALITIES)}.")
    rng = np.random.default_rng([seed, MODALITIES.index(modality)])
    collections = sorted({file.collection for file in files})
    shares = np.array([SHARES[modality].get(name, 0.1) for name in collections])
    for _ in range(TRIES):
        collection = collections[int(rng.choice(len(collections), p=shares / shares.sum()))]
        choices = [file for file in files if file.collection == collection]
        volume = _scan(rng, prepared(choices[int(rng.integers(len(choices)))]), modality)
        if len(volume.objects.objects):
            return volume
    raise SynthesisError(f"Seed {seed}: {TRIES} scans of the label maps show no object of {modality}.")


def _scan(rng: np.random.Generator, anatomy: Anatomy, modality: str) -> SyntheticVolume:
    grid = draw_grid(rng, anatomy, modality)
    voxels = source_voxels(rng, grid, anatomy)
    part, depth = sample_parts(anatomy, voxels)
    fill_body(rng, anatomy, grid, voxels, part)
    del voxels
    parts = list(anatomy.parts)
    count = int(rng.integers(3, 10)) if modality == "pet" else int(rng.integers(1, 8))
    lesions = place_lesions(rng, grid, part, parts, count, (5.0, 60.0))
    scan_part = grid.majority(part)
    rendered = RENDERERS[modality](rng, grid, part, depth, parts, lesions)
    pieces = find_pieces(scan_part, parts, float(np.prod(grid.scan.spacing)))
    seen = (piece for piece in pieces if is_visible(piece, rendered, grid.scan.spacing))
    objects = join_pieces(seen, scan_part.shape, dict.fromkeys(KINDS, 1.0))
    stored = replace(objects, labels=grid.scan.store(objects.labels))
    return SyntheticVolume(
        grid.scan.store(rendered.image), stored, grid.scan.stored_affine(), tuple(parts), grid.scan.store(scan_part)
    )
