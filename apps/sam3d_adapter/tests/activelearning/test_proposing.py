"""Proposals, with the weights that ship: found where the labels say, kept once, left to people."""

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from click.testing import CliRunner, Result

from lib.host.studies_datastore import StudiesDatastore
from lib.presets import load_presets
from lib.registry.registry import Registry
from lib.serving.predicted_dice import Calibration, Line, calibration_file, calibration_key, to_json
from lib.workflow.cases import Mark, set_mark
from lib.workflow.database import database_beside
from lib.workflow.proposals import KEY, TAG, is_proposal, is_rejected, predicted_dice_of, with_decision
from sam3d.__main__ import main
from tests.support.server import APP_DIR

pytestmark = pytest.mark.slow
SHAPE, AFFINE = (56, 52, 40), np.diag([-1.0, -1.0, 1.5, 1.0])


def lesion(centre: tuple[int, int, int]) -> np.ndarray:
    axes = np.ogrid[tuple(slice(n) for n in SHAPE)]
    return np.asarray(sum(((x - c) / r) ** 2 for x, c, r in zip(axes, centre, (11, 10, 8), strict=True)) <= 1)


@pytest.fixture
def studies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three labelled images, two that are not, one that cannot be read, one that has a mark."""
    monkeypatch.setattr(os, "nice", lambda by: by)
    folder = tmp_path / "studies"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number, name in enumerate(("l1", "l2", "l3", "u1", "u2", "marked")):
        image = np.where(lesion((26 + number, 28, 20)), 90, 40) + rng.normal(0, 12, SHAPE)
        nib.save(nib.Nifti1Image(image.astype(np.int16), AFFINE), folder / f"{name}.nii.gz")
    (folder / "torn.nii.gz").write_bytes((folder / "u1.nii.gz").read_bytes()[:-400])
    datastore = StudiesDatastore(str(folder))
    for number, name in enumerate(("l1", "l2", "l3")):
        label = tmp_path / "label.nii.gz"
        nib.save(nib.Nifti1Image(lesion((26 + number, 28, 20)).astype(np.uint8), AFFINE), label)
        datastore.save_label(name, str(label), "final", {"label_info": [{"name": "lesion", "idx": 1}]})
    with database_beside(folder).changing() as connection:
        set_mark(connection, "marked", Mark("problem", "Dr. Poe", "Not this patient.", 6.0))
    return folder


def propose(studies: Path, tmp_path: Path, structure: str = "Lesion") -> Result:
    arguments = ["--preset", "ct", "--studies", str(studies), "--learning-dir", str(tmp_path / "learning")]
    return CliRunner().invoke(
        main, ["--app", str(APP_DIR), "propose", *arguments, "--structure", structure, "--device", "cpu"]
    )


def test_what_nobody_has_labelled_gets_a_mask_once(studies: Path, tmp_path: Path) -> None:
    done = propose(studies, tmp_path)
    lines = ["torn: failed", "u1: proposed", "u2: proposed", "2 proposed, 0 up to date, 0 with nothing found, 1 failed"]
    assert done.exit_code == 1 and done.stdout.splitlines() == lines
    datastore = StudiesDatastore(str(studies))
    truth = lesion((29, 28, 20))
    mask = np.asarray(nib.load(datastore.get_label_uri("u1", TAG)).dataobj) > 0
    assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.7
    info = datastore.get_label_info("u1", TAG)
    assert info["label_info"] == [{"name": "Lesion", "idx": 1}] and info["model"] == "ct"
    # Too few patients are labelled to say what it is worth.
    assert predicted_dice_of(info) is None and len(info[KEY]["version"]) == 64
    # Once answers of these weights have a predicted Dice, proposals get theirs.
    preset = load_presets(APP_DIR / "configs", ("ct",))["ct"]
    folder = Registry(tmp_path / "learning").of("ct", preset.model.size, preset.model.family).folder
    calibration = Calibration(calibration_key(preset, info[KEY]["version"]), 24, (Line(0.7, 0.0, 0.1),))
    file = calibration_file(folder, info[KEY]["version"])
    file.parent.mkdir(parents=True)
    file.write_text(to_json(calibration))
    assert propose(studies, tmp_path).stdout.splitlines()[1:3] == ["u1: proposed", "u2: proposed"]
    info = StudiesDatastore(str(studies)).get_label_info("u1", TAG)
    assert predicted_dice_of(info) == {"dice": 0.7, "at_least": 0.6, "share": 0.9, "patients": 24}
    assert propose(studies, tmp_path).stdout.splitlines()[1:3] == ["u1: up_to_date", "u2: up_to_date"]
    # One that was rejected is not proposed again because more can be said of it by now, but by another version it is.
    datastore = StudiesDatastore(str(studies))
    for image, version in (("u1", info[KEY]["version"]), ("u2", "an earlier one")):
        kept = datastore.get_label_info(image, TAG)[KEY] | {"patients": 20, "version": version}
        datastore.update_label_info(image, TAG, {KEY: with_decision(kept, True, "Dr. Roe")})
    assert propose(studies, tmp_path).stdout.splitlines()[1:3] == ["u1: up_to_date", "u2: proposed"]
    datastore = StudiesDatastore(str(studies))
    assert is_rejected(datastore.get_label_info("u1", TAG)) and is_proposal(datastore.get_label_info("u2", TAG))
    # Another image under the same id is looked at anew; a mask that a batch saved is left alone.
    nib.save(nib.Nifti1Image(np.full(SHAPE, 40, np.int16), AFFINE), studies / "u1.nii.gz")
    datastore.save_label("u2", str(datastore.get_label_uri("l1", "final")), TAG, {"model": "ct"})
    (studies / "torn.nii.gz").unlink()
    first, second, _ = propose(studies, tmp_path).stdout.splitlines()
    assert first != "u1: up_to_date" and second == "u2: up_to_date"
    assert KEY not in StudiesDatastore(str(studies)).get_label_info("u2", TAG)


def test_without_labels_nobody_knows_where_to_click(studies: Path, tmp_path: Path) -> None:
    done = propose(studies, tmp_path, "liver")
    assert done.exit_code == 1 and "have a 'liver'" in done.stderr and "Label some cases first" in done.stderr
    assert propose(studies / "nowhere", tmp_path).exit_code == 2
