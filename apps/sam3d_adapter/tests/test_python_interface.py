"""Python without a server: the four lines of the README, what `segment` takes, what it refuses, and the picture."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

import sam3d
from sam3d.api import in_voxels
from sam3d.mask import label_bytes
from tests.support.program import REPOSITORY
from tests.support.server import APP_DIR

README = (APP_DIR.parents[1] / "README.md").read_text(encoding="utf-8")
CENTRE = (24, 20, 22)
BESIDE = (36, 20, 22)
AFFINE = np.array([[0, -1.0, 0, 20], [1, 0, 0, -31], [0, 0, -1.0, 44], [0, 0, 0, 1]])


def ball(shape: tuple[int, int, int], centre: tuple[int, int, int], radius: int = 9) -> np.ndarray:
    """A ball in voxels of 1 mm, brighter by 100 HU."""
    axes = np.ogrid[tuple(slice(n) for n in shape)]
    inside = sum((axis - at) ** 2 for axis, at in zip(axes, centre, strict=True)) <= radius**2
    return np.asarray(40 + 100 * inside + np.random.default_rng(0).normal(0, 5, inside.shape)).astype(np.int16)


@pytest.fixture(scope="module")
def model() -> sam3d.Model:
    return sam3d.load("ct", device="cpu")


@pytest.fixture(scope="module")
def voxels() -> np.ndarray:
    return ball((48, 44, 40), CENTRE)


def test_the_four_lines_of_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len([line for line in code.splitlines() if line]) == 4
    nib.save(nib.Nifti1Image(ball((140, 110, 60), (120, 88, 40)), np.eye(4)), tmp_path / "scan.nii.gz")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(code, names)
    saved = nib.load(tmp_path / "mask.nii.gz")
    mask = np.asarray(saved.dataobj)
    np.testing.assert_array_equal(mask, names["mask"].array)
    np.testing.assert_allclose(saved.affine, np.eye(4))
    assert mask.dtype == np.uint8 and mask[120, 88, 40] == 1
    assert 1500 < mask.sum() < 6000  # the ball has 3,071 voxels


@pytest.mark.parametrize("coordinates", ["ras", "lps"])
def test_places_in_mm_are_the_voxels_there(model: sam3d.Model, voxels: np.ndarray, coordinates: str) -> None:
    mm = np.array([(AFFINE @ (*at, 1))[:3] for at in (CENTRE, BESIDE)]) * ([-1, -1, 1] if coordinates == "lps" else 1)
    by_mm = model.segment(voxels, mm[:1] + 0.3, mm[1:], coordinates=coordinates, affine=AFFINE)
    by_voxel = model.segment(voxels, [CENTRE], [BESIDE], affine=AFFINE)
    np.testing.assert_array_equal(by_mm.array, by_voxel.array)
    assert "predicted_dice" in by_mm.info and by_mm.predicted_dice is None  # no patient is labelled here
    assert by_mm.info["clicks"] == [list(CENTRE)] and by_mm.info["background_clicks"] == [list(BESIDE)]
    assert by_voxel.array[CENTRE] == 1 and by_voxel.array[BESIDE] == 0
    corners = model.segment(
        voxels, box=in_mm([(14, 10, 12), (34, 30, 32)], coordinates), coordinates=coordinates, affine=AFFINE
    )
    assert corners.info["box"] == [[14, 10, 12], [34, 30, 32]]


def in_mm(places: list[tuple[int, int, int]], coordinates: str) -> list[list[float]]:
    signs = np.array([-1, -1, 1]) if coordinates == "lps" else np.ones(3)
    return [((AFFINE @ (*at, 1))[:3] * signs).tolist() for at in places]


def test_a_mask_knows_its_name_volume_and_picture(model: sam3d.Model, voxels: np.ndarray) -> None:
    mask = model.segment(nib.Nifti1Image(voxels, AFFINE), [CENTRE])
    assert mask.label == "lesion" and mask.volume_ml == pytest.approx(mask.array.sum() / 1000)
    scaled = model.segment(voxels / 100, [CENTRE], affine=AFFINE)
    assert any(warning.startswith("not-hu: ") for warning in scaled.warnings)
    assert repr(mask).startswith(f"lesion, {mask.volume_ml:.1f} ml") and "; warnings: not-hu" in repr(scaled)
    assert scaled.plot().get_suptitle() == repr(scaled)
    assert mask._repr_png_().startswith(b"\x89PNG")
    _, coronal, axial = (axes.images[0].get_array() for axes in mask.plot().axes)
    i, k = int(mask.array.sum(axis=(1, 2)).argmax()), int(mask.array.sum(axis=(0, 1)).argmax())
    # i runs to anterior, j to the patient's left, k to inferior. Of a picture, the first row is the lowest.
    np.testing.assert_array_equal(axial, voxels[:, :, k])
    np.testing.assert_array_equal(coronal, voxels[i, :, ::-1].T)
    assert not mask.image.flags.writeable
    empty = sam3d.Mask(np.zeros((4, 5, 6), np.uint8), np.eye(4))
    assert empty._repr_png_().startswith(b"\x89PNG") and repr(empty) == "mask, 0.0 ml"


def test_a_mask_is_saved_as_nifti_alone(tmp_path: Path) -> None:
    mask = sam3d.Mask(np.eye(4, dtype=np.uint8)[..., None] * np.ones(3, np.uint8), AFFINE)
    for name in ("mask.nii", "mask.nii.gz"):
        mask.save(tmp_path / name)
        saved = nib.load(tmp_path / name)
        np.testing.assert_array_equal(np.asarray(saved.dataobj), mask.array)
        np.testing.assert_allclose(saved.get_qform(), AFFINE, atol=1e-6)
        np.testing.assert_allclose(saved.get_sform(), AFFINE, atol=1e-6)
    with pytest.raises(ValueError, match=r"mask\.png; a name that ends in \.nii\.gz or \.nii is expected"):
        mask.save(tmp_path / "mask.png")


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no prompt": ({}, "at least one .* is needed"),
    "one click without its list": ({"foreground": CENTRE}, "Click 1 of 'foreground' is 24; three voxel indices"),
    "outside": ({"foreground": [(48, 0, 0)]}, "outside the image of 48 x 44 x 40 voxels"),
    "fractions": ({"foreground": [(1.5, 0, 0)]}, "whole voxel indices are expected"),
    "words": ({"foreground": [{1, 2}]}, r"\[\{1, 2\}\] cannot be sent; numbers, lists"),
    "flat box": ({"box": [(1, 1, 1), (1, 5, 5)]}, "without extent along i"),
    "threshold": ({"foreground": [CENTRE], "threshold": 3}, "threshold is 3; a number between"),
    "coordinates": ({"foreground": [CENTRE], "coordinates": "mm"}, "'mm'; choose from: voxel, ras, lps"),
    "places": ({"foreground": [(1, 2)], "coordinates": "ras"}, "a list of places .* in mm is expected"),
    "no affine": ({"foreground": [CENTRE], "affine": None}, "array without an affine; the .* is expected, such as"),
    "affine of 3 x 3": ({"foreground": [CENTRE], "affine": np.eye(3)}, r"shape \(3, 3\); \(4, 4\) is expected"),
    "no file": ({"image": "absent.nii.gz", "affine": None}, "no file or folder absent.nii.gz"),
    "affine of a file": ({"image": "absent.nii.gz"}, "is a file and has its own; leave it out"),
    "one slice": ({"image": np.zeros((4, 4)), "foreground": [(1, 1, 0)]}, "one volume of 3 axes"),
    "mask of another shape": (
        {"foreground": [CENTRE], "start_from": np.ones((3, 3, 3), np.uint8)},
        r"\(3, 3, 3\) voxels; those of the image are expected, \(48, 44, 40\)",
    ),
    "empty mask": ({"foreground": [CENTRE], "start_from": np.zeros((48, 44, 40), bool)}, "label map is empty"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_used_is_refused_in_words(model: sam3d.Model, voxels: np.ndarray, case: str) -> None:
    arguments, words = REFUSED[case]
    with pytest.raises(ValueError, match=words):
        model.segment(**{"image": voxels, "affine": AFFINE} | arguments)


def test_names_that_are_not_there_are_refused() -> None:
    with pytest.raises(ValueError, match="Unknown preset liver; choose from: colon, ct,"):
        sam3d.load("liver")
    with pytest.raises(ValueError, match="Task 'kits' has no weights"):
        sam3d.load("kits")
    with pytest.raises(ValueError, match="device is 'tpu'; choose from"):
        sam3d.load("ct", device="tpu")
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        sam3d.nothing  # noqa: B018


def test_rounding_takes_the_nearest_voxel() -> None:
    affine = np.diag([2.0, 2.0, 5.0, 1.0])
    assert in_voxels([(4.9, 5.1, 12.4)], affine, "ras", "foreground") == [[2, 3, 2]]
    assert label_bytes(sam3d.Mask(np.zeros((2, 2, 2), np.uint8), affine))[0] == "label.nii"


@pytest.mark.slow
def test_no_server_is_imported(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(ball((32, 32, 32), (16, 16, 16), 6), np.eye(4)), tmp_path / "scan.nii.gz")
    code = (
        "import sys\n"
        "for name in ('monailabel', 'fastapi', 'monai'):\n"
        "    sys.modules[name] = None\n"
        "import sam3d\n"
        "mask = sam3d.load('ct', device='cpu').segment('scan.nii.gz', foreground=[(16, 16, 16)])\n"
        "assert mask.array[16, 16, 16] == 1"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
