"""Agreement of readers, computed by hand for blocks of voxels."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from lib.annotations.agreement import Agreement, Reading, agreement, agreement_in, mean_agreement, readings_of
from lib.studies.folder import StudiesFolder
from tests.support.studies_site import BY

SHAPE = (40, 30, 20)
AFFINE = np.diag([-1.0, -1.0, 2.0, 1.0])


def block(i: int, value: int = 1, length: int = 10) -> np.ndarray:
    labels = np.zeros(SHAPE, np.uint8)
    labels[i : i + length, 5:15, 5:15] = value
    return labels


def write(path: Path, labels: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    nib.save(nib.Nifti1Image(labels, affine), path)
    return path


def info(author: str, *names: str) -> dict[str, Any]:
    return {"author": author, "label_info": [{"name": name, "idx": n} for n, name in enumerate(names, start=1)]}


@pytest.fixture
def image(tmp_path: Path) -> Path:
    (tmp_path / "studies").mkdir()
    return write(tmp_path / "studies/case_1.nii.gz", np.zeros(SHAPE, np.int16))


def test_scores_of_blocks(image: Path, tmp_path: Path) -> None:
    readings = [
        Reading(name, write(tmp_path / f"{name}.nii.gz", block(i)), info(name, "lesion"))
        for name, i in (("a", 10), ("b", 10), ("c", 15), ("d", 28))
    ]
    found = {one.readers: one for one in agreement(image, readings)}
    assert list(found) == [("a", "b"), ("a", "c"), ("a", "d"), ("b", "c"), ("b", "d"), ("c", "d")]
    assert found["a", "b"] == Agreement("lesion", ("a", "b"), 1.0, 1.0)
    assert found["a", "c"].dice == 0.5 and 0.4 < found["a", "c"].surface_dice < 0.85
    assert found["a", "d"].dice == found["a", "d"].surface_dice == 0


def test_structures_are_compared_by_name_and_instances_together(image: Path, tmp_path: Path) -> None:
    two = block(10) + 2 * block(25)
    first = Reading("a", write(tmp_path / "a.nii.gz", two), info("a", "Lesion 1", "lesion_2"))
    merged = Reading("b", write(tmp_path / "b.nii.gz", (two > 0).astype(np.uint8)), info("b", "lesion"))
    other = Reading("c", write(tmp_path / "c.nii.gz", two), info("c", "kidney", "lesion"))
    pairs = {(one.structure, one.readers): one.dice for one in agreement(image, [first, merged, other])}
    assert pairs == {
        ("lesion", ("a", "b")): 1.0,
        ("kidney", ("a", "c")): 0.0,
        ("lesion", ("a", "c")): pytest.approx(2 / 3),
        ("kidney", ("b", "c")): 0.0,
        ("lesion", ("b", "c")): pytest.approx(2 / 3),
    }


def test_labels_on_other_grids_are_compared_where_they_lie(image: Path, tmp_path: Path) -> None:
    flip = np.diag([1.0, 1, -1, 1])
    flip[2, 3] = SHAPE[2] - 1
    one = Reading("a", write(tmp_path / "a.nii.gz", block(10)), info("a", "lesion"))
    flipped = write(tmp_path / "b.nii.gz", np.flip(block(10), 2), AFFINE @ flip)
    assert agreement(image, [one, Reading("b", flipped, info("b", "lesion"))])[0].dice == 1.0


def test_the_last_label_of_each_reader_counts_also_a_former_one(image: Path, tmp_path: Path) -> None:
    folder = StudiesFolder(image.parent)
    folder.open()

    def save(author: str, i: int, tag: str = "final") -> None:
        folder.save_label("case_1", tag, ".nii.gz", write(tmp_path / "x.nii.gz", block(i)), info(author, "lesion"), BY)

    assert agreement_in(folder, "case_1") == []
    save("Dr. Roe", 0)
    save("Dr. Roe", 10)
    save("dr. roe", 12, tag="draft")
    assert agreement_in(folder, "case_1") == []
    save("", 20)
    save("Dr. Poe", 15)
    save("Dr. Doe", 10, tag="version_1")
    assert [one.reader for one in readings_of(folder, "case_1")] == ["Dr. Doe", "Dr. Poe", "Dr. Roe"]
    found = {one.readers: one.dice for one in agreement_in(folder, "case_1")}
    assert found == {("Dr. Doe", "Dr. Poe"): 0.5, ("Dr. Doe", "Dr. Roe"): 1.0, ("Dr. Poe", "Dr. Roe"): 0.5}


def test_the_mean_over_images() -> None:
    pairs = [Agreement("lesion", ("a", "b"), *scores) for scores in ((0.5, 0.6), (1.0, 1.0))]
    other = Agreement("kidney", ("a", "b"), 0.2, 0.1)
    assert mean_agreement([*pairs, other]) == [(other, 1), (Agreement("lesion", ("a", "b"), 0.75, 0.8), 2)]
