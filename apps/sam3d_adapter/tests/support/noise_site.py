"""A copy of the app with a preset of the test size, and images to click on: what server tests start from."""

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import yaml

from tests.support.small_app import small_preset
from tests.support.weights import write_test_weights

APP = Path(__file__).parents[2]
SHAPE = (48, 40, 24)
# Flipped, permuted and anisotropic: i runs to anterior, j to the left, k to inferior.
AFFINE = np.array([[0, -1.3, 0, 20], [0.9, 0, 0, -31], [0, 0, -2.5, 44], [0, 0, 0, 1]], dtype=float)
CLICK = [24, 20, 12]
SECOND_CLICK = [26, 18, 12]


def copy_app(folder: Path) -> Path:
    """A copy of the app, in which MONAI Label may make its folders, with a preset of the test size that has weights."""
    ignored = shutil.ignore_patterns("model", "logs", "bin", "tests", "weights", "__pycache__")
    app = Path(shutil.copytree(APP, folder / "app", ignore=ignored))
    write_test_weights(app / "weights")
    for name, preset in {"test": small_preset(), "torn": small_preset(weights="weights/torn.safetensors")}.items():
        (app / f"configs/{name}.yaml").write_text(yaml.safe_dump(preset))
    (app / "weights/torn.safetensors").write_bytes((app / "weights/test_weights.safetensors").read_bytes()[:-64])
    return app


def write_studies(folder: Path) -> Path:
    """Two images of noise and one that no click can be placed on."""
    folder.mkdir()
    for seed, name in enumerate(("case_1", "case_2")):
        image = np.random.default_rng(seed).normal(40, 60, SHAPE).astype(np.int16)
        nib.save(nib.Nifti1Image(image, AFFINE), folder / f"{name}.nii.gz")
    nib.save(nib.Nifti1Image(np.zeros((8, 8, 8, 2), np.int16), AFFINE), folder / "four_d.nii.gz")
    return folder
