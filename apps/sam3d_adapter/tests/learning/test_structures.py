"""Several structures of one preset: each has its part in training, in what is measured, and in the decision."""

from dataclasses import replace
from pathlib import Path

import pytest

from lib.learning.candidate import CandidateJob, _sources
from lib.learning.progress import ProgressFile
from lib.learning.rehearsal import KINDS, Rehearsal
from lib.learning.settings import TrainSettings
from lib.phantoms.config import PhantomConfig
from tests.support.hospital import Hospital

TINY = PhantomConfig(
    in_plane_mm=(40, 45), through_plane_mm=(30, 35), spacing_mm=(3, 4), slice_mm=(3, 4), diameter_mm=(8, 10),
    median_diameter_mm=9, lesion_count=(1, 1), lattice_mm=4,
)  # fmt: skip


def shares(hospital: Hospital, rehearsal: Rehearsal | None) -> list[float]:
    """Parts of the samples that each source gives."""
    job = CandidateJob(
        preset=hospital.preset,
        files={},
        parent="shipped",
        folder=hospital.folder,
        data=hospital.task().training_data(hospital.store),
        settings=TrainSettings(),
        progress=ProgressFile(hospital.folder / "progress.json"),
        rehearsal=rehearsal,
        precision="fp32",
    )
    found = [source.share for source in _sources(job)]
    return [share / sum(found) for share in found]


def test_a_new_structure_does_not_drown_an_earlier_one(hospital: Hospital, tmp_path: Path) -> None:
    rehearsal = Rehearsal(
        tmp_path / "replay", hospital.preset, tuple(replace(k, config=TINY, trained=1) for k in KINDS)
    )
    hospital.submit(1)  # the first patient is trained on, the second validated on
    assert shares(hospital, None) == [1] and shares(hospital, rehearsal) == pytest.approx([0.6, 0.15, 0.25])
    hospital.submit(6, first=1, structure="cyst")
    several = shares(hospital, rehearsal)
    train = hospital.task().training_data(hospital.store).train
    cysts = sum(case.names == ("cyst",) for case in train)
    assert cysts == 3 and sorted(several[:2]) == several[1::-1]
    assert several == pytest.approx([0.8 * cysts**0.5 / (cysts**0.5 + 1), 0.8 / (cysts**0.5 + 1), 0.075, 0.125])


@pytest.mark.slow
def test_the_decision_looks_at_each_structure(hospital: Hospital) -> None:
    hospital.submit(10)
    hospital.task().training_data(hospital.store)  # two of five go to validation, so four of each structure
    hospital.submit(10, first=10, structure="cyst 1")
    version = hospital.versions.get(hospital.train()["version"])
    guarded = version.metrics["decision"]["guarded"]
    assert {(one["dataset"], one["n_patients"]) for one in guarded} == {("cyst", 4), ("lesion", 4)}
    assert {one["metric"] for one in guarded} == {"dice_1", "dsc_auc_normalised"}
    assert any(reason.startswith("By structure") and "'cyst'" in reason for reason in version.metrics["reasons"])
