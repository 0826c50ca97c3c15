"""Real images with expert labels: three modalities of the same patients."""

import os
from pathlib import Path

import numpy as np
import pytest

from lib.annotations.patients import PatientBook
from lib.annotations.splits import TRAIN, Splits
from lib.annotations.submitted import Learner, SavedLabel, Submitted, read_submitted
from lib.annotations.submitted_set import SubmittedDataSet
from lib.presets import load_preset

SHARED = os.environ.get("SAM3D_SHARED")
pytestmark = pytest.mark.skipif(not SHARED, reason="SAM3D_SHARED names no folder with data/sts_ct, sts_mr_t1, sts_pet")
CONFIGS = Path(__file__).resolve().parents[2] / "configs"
SETS = {"sts_ct": "ct", "sts_mr_t1": "mr", "sts_pet": "pet"}


@pytest.fixture(scope="module")
def submitted() -> dict[str, Submitted]:
    found = {}
    for name, preset in SETS.items():
        folder = Path(SHARED or "") / "data" / name
        saved = [
            SavedLabel(f"{name}_{image.name.removesuffix('.nii.gz')}", image, folder / "labels" / image.name)
            for image in sorted((folder / "images").glob("*.nii.gz"))
        ]
        book = PatientBook(pattern=r"(STS_\d+)")
        found[name] = read_submitted(saved, Learner(load_preset(CONFIGS / f"{preset}.yaml")), book.patient_of)
    return found


def test_all_labels_are_read(submitted: dict[str, Submitted]) -> None:
    for each in submitted.values():
        assert len(each.cases) >= 20 and each.skipped == ()
        assert all(case.patient.name.startswith("STS_") for case in each.cases)


def test_modalities_of_a_person_are_on_one_side(submitted: dict[str, Submitted], tmp_path: Path) -> None:
    splits, sides = Splits(tmp_path), {}
    for each in submitted.values():  # one preset after the other, as they are trained
        for case in each.cases:
            side = splits.assign({case.image_id: case.patient})[case.image_id]
            assert sides.setdefault(case.patient, side) == side
    counts = splits.counts()
    assert len(sides) == sum(counts.values()) and 8 <= counts["validation"] <= counts[TRAIN] / 2


def test_pool_draws_within_its_budget(submitted: dict[str, Submitted]) -> None:
    for name, preset in SETS.items():
        data = SubmittedDataSet(submitted[name].cases, load_preset(CONFIGS / f"{preset}.yaml"), max_bytes=2**23)
        rng = np.random.default_rng(0)
        for _ in range(20):
            case, drawn = data.draw_case(rng)
            assert len(drawn.volume.coordinates(drawn.label)) == case.voxels[drawn.label - 1] and drawn.window.std > 0
            assert data.nbytes <= 2**23
