"""Segmentations of 3D Slicer whose segments overlap: a ``.seg.nrrd`` file of several layers."""

import gzip
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

Segments = Sequence[tuple[str, int, int]]
"""Name, layer and value of each."""


def write_layers(
    path: Path,
    layers: Sequence[np.ndarray],
    segments: Segments,
    affine: np.ndarray | None = None,
    *,
    texts: Mapping[str, str] | None = None,
    packed: bool = True,
) -> Path:
    """Writes a file as 3D Slicer does.

    Args:
        path: of the file.
        layers: (i, j, k) uint8 each.
        segments: that the header names.
        affine: (4, 4), voxel index to RAS mm; that of 1 mm voxels if None.
        texts: further ``key:=value`` lines.
        packed: whether the voxels are packed with gzip.
    """
    lps = np.diag([-1.0, -1, 1, 1]) @ (np.eye(4) if affine is None else affine)
    vector = lambda values: f"({','.join(map(str, values))})"  # noqa: E731
    lines = [
        "NRRD0004", "type: uint8", "dimension: 4", "space: left-posterior-superior",
        f"sizes: {len(layers)} {' '.join(map(str, layers[0].shape))}",
        f"space directions: none {' '.join(vector(column) for column in lps[:3, :3].T)}",
        "kinds: list domain domain domain", f"encoding: {'gzip' if packed else 'raw'}",
        f"space origin: {vector(lps[:3, 3])}",
    ]  # fmt: skip
    for number, (name, layer, value) in enumerate(segments):
        stated = {"Name": name, "LabelValue": value, "Layer": layer, "ID": f"Segment_{number + 1}"}
        lines += [f"Segment{number}_{key}:={text}" for key, text in stated.items()]
    lines += [f"{key}:={text}" for key, text in (texts or {}).items()]
    voxels = np.stack(layers).astype(np.uint8).tobytes(order="F")
    path.write_bytes(("\n".join(lines) + "\n\n").encode() + (gzip.compress(voxels) if packed else voxels))
    return path
