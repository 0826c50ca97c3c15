"""Phantoms as files: ``*.npz`` to train on, or NIfTI volumes with a manifest to look at and to measure.

python -m lib.phantoms.data_set --out DIR --first 1000 --count 200
"""

import argparse
import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import nibabel as nib
import numpy as np

from lib.phantoms.config import PhantomConfig
from lib.phantoms.phantom import Phantom, draw_anatomy, make_phantom, scan_anatomy
from lib.phantoms.structures import find_structures
from lib.volumes.objects import volume_of_seed, write_training_volume

logger = logging.getLogger(__name__)


def write_phantoms(
    out: Path, seeds: Sequence[int], config: PhantomConfig | None = None, *, all_structures: bool = False
) -> None:
    """Writes one ``*.npz`` (image, labels, affine) per seed; existing files are kept.

    Several processes may write into one folder: each file is written atomically.

    Args:
        out: Folder; made if it is absent.
        seeds: One phantom each.
        config: See `lib.phantoms.phantom.make_phantom`.
        all_structures: Objects are the lesions and every other structure (see `lib.volumes.objects.Objects`).
    """
    out.mkdir(parents=True, exist_ok=True)
    for done, seed in enumerate(seeds, start=1):
        path = volume_of_seed(out, seed)
        if path.exists():
            continue
        anatomy = draw_anatomy(seed, config or PhantomConfig())
        phantom = scan_anatomy(anatomy)
        objects = vars(find_structures(anatomy, phantom)) if all_structures else {"labels": phantom.labels}
        write_training_volume(path, phantom.image, phantom.affine, **objects)
        if done % 20 == 0:
            logger.info("%d of %d phantoms", done, len(seeds))


def save_volume(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    """Writes an array as NIfTI with its own dtype; the affine is stored as scanner coordinates, mm."""
    image = nib.Nifti1Image(array, affine, dtype=array.dtype)
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    image.header.set_xyzt_units("mm")
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)


def save_study(folder: Path | str, seeds: Iterable[int], *, config: PhantomConfig | None = None) -> Path:
    """Writes ``images/phantom_NNNN.nii.gz``, ``labels/phantom_NNNN.nii.gz`` and ``manifest.json``.

    Args:
        folder: made if it is missing; files of the same name are replaced.
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
    """Manifest entry of one phantom."""
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


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--first", type=int, default=1000, help="first seed")
    parser.add_argument("--count", type=int, default=200)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    write_phantoms(
        arguments.out,
        range(arguments.first, arguments.first + arguments.count),
    )


if __name__ == "__main__":
    main()
