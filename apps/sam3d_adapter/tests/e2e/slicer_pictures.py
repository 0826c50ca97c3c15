"""Makes the pictures of docs/slicer.md, from the real server and 3D Slicer's own views.

python -m tests.e2e.slicer_pictures OUT
"""

import sys
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk

from demo.phantom import phantom_study
from lib.evaluation.simulated_user import deepest_error
from tests.support.server import copy_app, start_server
from tests.support.slicer import CLIENT, start_slicer

PRESET, SEED = "ct", 12
PICTURES = {1: "click", 3: "correct"}
"""By the number of the click."""


def main(out: Path) -> None:
    """Clicks on a lesion of a phantom, then corrects the largest error, click by click."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "studies").mkdir()
        study = phantom_study(folder / "studies", seed=SEED)
        with (
            start_server(copy_app(folder / "app"), folder / "studies", folder) as server,
            start_slicer(folder) as slicer,
        ):
            client = CLIENT.MONAILabelClient(server.url, tmpdir=str(folder), client_id="Dr. Roe")
            slicer.open(folder / f"studies/{study.image_id}.nii.gz")
            request = {"label": "lesion", "result_extension": ".nrrd", "result_dtype": "uint8"}
            voxel, kind = study.click, "foreground"
            for number in range(1, max(PICTURES) + 1):
                place = nib.affines.apply_affine(study.affine, voxel)
                request[kind] = slicer.click(kind, place)
                file, _ = client.infer(PRESET, study.image_id, dict(request), None, None, None)
                mask = sitk.GetArrayFromImage(sitk.ReadImage(file)).transpose() > 0
                slicer.show(Path(file), ["lesion"])
                if number in PICTURES:
                    slicer.picture(out / f"{PICTURES[number]}.png", place)
                dice = 2 * np.count_nonzero(mask & study.truth) / (mask.sum() + study.truth.sum())
                print(f"click {number} ({kind}): Dice {dice:.2f}")
                voxel = deepest_error(mask != study.truth, 0)
                if voxel is None:
                    break
                kind = "foreground" if study.truth[voxel] else "background"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
