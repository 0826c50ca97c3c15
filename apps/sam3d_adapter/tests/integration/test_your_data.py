"""docs/your-data.md, walked: a new organ from a folder of images to a served task, without a line of Python."""

import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from lib.phantoms.phantom import make_phantom
from tests.support.server import APP_DIR, copy_app, start_server

GUIDE = APP_DIR.parents[1] / "docs/your-data.md"

pytestmark = [
    pytest.mark.timeout(300),
    # MONAI Label's client closes neither its connections nor the files it uploads.
    pytest.mark.filterwarnings("ignore:Exception ignored in. <(socket|_io):pytest.PytestUnraisableExceptionWarning"),
]


@pytest.mark.slow
def test_a_new_organ_is_a_yaml_file(tmp_path: Path) -> None:
    guide = GUIDE.read_text(encoding="utf-8")
    preset = re.search(r"```yaml\n(.*?)```", guide, re.DOTALL)
    assert preset is not None
    app = copy_app(tmp_path / "app", presets={"hippocampus": preset[1]})
    studies = tmp_path / "studies"
    studies.mkdir()
    phantom = make_phantom(7)
    nib.save(nib.Nifti1Image(phantom.image, phantom.affine), studies / "patient_02.nii.gz")
    with start_server(app, studies, tmp_path / "run", conf={"models": "hippocampus"}) as server:
        models = server.info()["models"]
        assert list(models) == ["hippocampus", "proposal"]
        assert models["hippocampus"]["labels"] == {"hippocampus": 1}
        click = list(phantom.lesions[0].centre_ijk)
        file, answer = server.client.infer("hippocampus", "patient_02", params={"foreground": [click]})
        mask = np.asarray(nib.load(file).dataobj) if file.endswith((".nii", ".nii.gz")) else None
        assert answer["label"] == "hippocampus" and answer["mask_voxels"] > 0
        assert mask is None or mask[tuple(click)] == 1


def test_the_guide_names_every_key_of_a_preset() -> None:
    guide = GUIDE.read_text(encoding="utf-8")
    for path in sorted((APP_DIR / "configs").glob("*.yaml")):
        for key in re.findall(r"^\s*(\w+):", path.read_text(encoding="utf-8"), re.MULTILINE):
            assert key in guide, f"{key} of {path.name}"
