"""Phantoms as files, so that `make evaluate MANIFEST=` holds interactions about their lesions.

python -m benchmarks.phantom_cases --out DIR [--first 100] [--count 40]

Each lesion is a case (``label_value``), each phantom a patient.
"""

import argparse
import json
from pathlib import Path

import nibabel as nib

from lib.phantoms.phantom import make_phantom


def write_cases(seeds: range, out: Path) -> Path:
    """Images, labels and the manifest that lists them.

    Args:
        seeds: of the phantoms.
        out: folder.

    Returns:
        The manifest.
    """
    cases = []
    for kind in ("images", "labels"):
        (out / kind).mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        phantom, name = make_phantom(seed), f"phantom_{seed}"
        image, label = f"images/{name}.nii.gz", f"labels/{name}.nii.gz"
        nib.save(nib.Nifti1Image(phantom.image, phantom.affine), out / image)
        nib.save(nib.Nifti1Image(phantom.labels, phantom.affine), out / label)
        for lesion in phantom.lesions:
            case = {"case": f"{name}_{lesion.label}", "patient": name, "dataset": "phantoms"}
            cases.append({"image": image, "label": label, "label_value": lesion.label, **case})
    manifest = out / "manifest.json"
    manifest.write_text(json.dumps({"cases": cases}, indent=1) + "\n", encoding="utf-8")
    return manifest


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--first", type=int, default=100, help="seed")
    parser.add_argument("--count", type=int, default=40, help="phantoms")
    arguments = parser.parse_args()
    print(write_cases(range(arguments.first, arguments.first + arguments.count), arguments.out))


if __name__ == "__main__":
    main()
