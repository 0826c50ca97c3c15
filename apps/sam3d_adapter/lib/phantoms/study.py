"""Phantoms as files: NIfTI volumes, their labels, and a manifest."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import nibabel as nib
import numpy as np

from lib.phantoms.config import PhantomConfig
from lib.phantoms.phantom import Phantom, make_phantom


def save_volume(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    """Write an array as NIfTI in its own dtype; the affine is stored as scanner coordinates, mm."""
    image = nib.Nifti1Image(array, affine, dtype=array.dtype)
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    image.header.set_xyzt_units("mm")
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)


def save_study(folder: Path | str, seeds: Iterable[int], *, config: PhantomConfig | None = None) -> Path:
    """Write ``images/phantom_NNNN.nii.gz``, ``labels/phantom_NNNN.nii.gz`` and ``manifest.json``.

    Args:
        folder: made if it is missing; files of equal name are replaced.
        seeds: one phantom each; NNNN is the seed.
        config: ranges to draw from; None = ``PhantomConfig()``.

    Returns:
        Path of the manifest: a list of cases, each with id, seed, paths relative to ``folder``, shape, spacing in mm,
        noise in HU and lesions.
    """
    folder = Path(folder)
    cases = []
    for seed in seeds:
        phantom = make_phantom(seed, config=config)
        name = f"phantom_{seed:04d}"
        save_volume(folder / "images" / f"{name}.nii.gz", phantom.image, phantom.affine)
        save_volume(folder / "labels" / f"{name}.nii.gz", phantom.labels, phantom.affine)
        cases.append(describe_case(name, seed, phantom))
    manifest = folder / "manifest.json"
    manifest.parent.mkdir(parents=True, exist_ok=True)
    manifest.write_text(json.dumps({"cases": cases}, indent=2) + "\n", encoding="utf-8")
    return manifest


def describe_case(name: str, seed: int, phantom: Phantom) -> dict[str, object]:
    """The manifest's entry of one phantom."""
    return {
        "id": name,
        "seed": seed,
        "image": f"images/{name}.nii.gz",
        "label": f"labels/{name}.nii.gz",
        "shape": list(phantom.image.shape),
        "spacing_mm": list(phantom.spacing),
        "noise_hu": phantom.noise_hu,
        "lesions": [asdict(lesion) for lesion in phantom.lesions],
    }
