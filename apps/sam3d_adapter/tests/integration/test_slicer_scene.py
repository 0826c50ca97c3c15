"""Clicks, masks and labels through 3D Slicer's own scene, the extension's client and the real server."""

from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from tests.support.server import AppServer, start_server
from tests.support.slicer import CLIENT, MISSING, SlicerProcess, start_slicer
from tests.support.small_app import copy_small_app

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.skipif(MISSING is not None, reason=str(MISSING)),
    pytest.mark.filterwarnings("ignore:Exception ignored in. <(socket|_io):pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),
]

SHAPE = (48, 40, 24)
CLICK = (24, 20, 12)
TILT = np.array([[0.9, -0.3, 0.316], [0.378, 0.9, -0.217], [-0.219, 0.315, 0.923]])
AFFINES = {
    "axial": np.diag([-1.3, -0.9, 2.5]),
    "upwards": np.diag([1.3, 0.9, -2.5]),
    "sagittal": np.array([[0, 0, 2.5], [-1.3, 0, 0], [0, -0.9, 0]]),
    "oblique": np.linalg.qr(TILT)[0] @ np.diag([1.3, 0.9, 2.5]),
}


def affine(axes: np.ndarray) -> np.ndarray:
    """Voxel -> RAS mm."""
    whole = np.eye(4)
    whole[:3, :3], whole[:3, 3] = axes, (31, -20, 12)
    return whole


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppServer]:
    folder = tmp_path_factory.mktemp("scene")
    studies = folder / "studies"
    studies.mkdir()
    for number, (name, axes) in enumerate(AFFINES.items()):
        # Of which random weights make a mask.
        image = np.random.default_rng(number).normal(40, 60, SHAPE).astype(np.int16)
        nib.save(nib.Nifti1Image(image, affine(axes)), studies / f"{name}.nii.gz")
    with start_server(copy_small_app(folder / "app"), studies, folder) as running:
        yield running


@pytest.fixture(scope="module")
def slicer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlicerProcess]:
    with start_slicer(tmp_path_factory.mktemp("process")) as running:
        yield running


@pytest.mark.parametrize("name", AFFINES)
def test_a_click_becomes_a_label_at_its_place(
    name: str, server: AppServer, slicer: SlicerProcess, tmp_path: Path
) -> None:
    image = server.folder / f"studies/{name}.nii.gz"
    assert slicer.open(image) == list(SHAPE)
    place = nib.affines.apply_affine(affine(AFFINES[name]), CLICK)
    # Beside the middle of the voxel, as a mouse is.
    clicks = slicer.click("foreground", place + [0.2, -0.3, 0.3])
    is_reversed = np.linalg.det(AFFINES[name]) < 0
    assert clicks == [[*CLICK[:2], SHAPE[2] - 1 - CLICK[2] if is_reversed else CLICK[2]]]

    client = CLIENT.MONAILabelClient(server.url, tmpdir=str(tmp_path), client_id="Dr. Roe")
    asked = {"label": "lesion", "foreground": clicks, "result_extension": ".nrrd", "result_dtype": "uint8"}
    file, answer = client.infer("test", name, asked, None, None, None)
    assert answer["clicks"] == [list(CLICK)]
    assert any(text.startswith("slices-reversed: ") for text in answer["warnings"]) == is_reversed
    mask = sitk.GetArrayFromImage(sitk.ReadImage(file)).transpose()
    assert mask[CLICK] == 1 and 1 < np.count_nonzero(mask) < mask.size

    assert slicer.show(Path(file), ["lesion"]) == ["lesion"]
    exported = tmp_path / "label.nii.gz"
    slicer.export(exported, ["lesion"])
    written = nib.load(exported)
    # 3D Slicer stores the axes of NIfTI in an order and direction of its own choice.
    found = nib.as_closest_canonical(written)
    expected = nib.as_closest_canonical(nib.Nifti1Image(mask, affine(AFFINES[name])))
    assert np.array_equal(np.asarray(found.dataobj), np.asarray(expected.dataobj))
    assert np.allclose(found.affine, expected.affine, atol=1e-3)

    client.save_label(name, str(exported), "", {"label_info": [{"name": "lesion", "idx": 1}]})
    saved = nib.load(server.folder / f"studies/labels/final/{name}.nii.gz")
    assert np.array_equal(np.asarray(nib.as_closest_canonical(saved).dataobj), np.asarray(expected.dataobj))
