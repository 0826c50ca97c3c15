"""What is replayed beside submitted labels: small lesions and large masses, none of them measured on."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lib.learning.rehearsal import KINDS, Kind, Rehearsal
from lib.phantoms.config import PhantomConfig
from lib.presets import load_preset
from lib.training.data_sets import DataSet
from tests.support.server import APP_DIR

FEW = tuple(replace(kind, trained=2, held_out=1) for kind in KINDS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rehearsal")


def widths_mm(data_set: DataSet) -> list[float]:
    """Longest side of the box of every object."""
    found = []
    for file in data_set.files:
        volume = data_set._read(file)[0]
        spacing = np.linalg.norm(volume.affine[:3, :3], axis=0)
        found += [float((np.ptp(volume.coordinates(label), axis=0) * spacing).max()) for label in volume.objects()]
    return found


@pytest.mark.slow
def test_masses_do_not_fit_into_the_first_view(folder: Path) -> None:
    preset = load_preset(APP_DIR / "configs/mr.yaml")
    lesions, masses = Rehearsal(folder, preset, FEW).data_sets()
    width_mm = preset.roi.size * preset.roi.spacing_mm
    assert np.mean(np.array(widths_mm(masses)) > width_mm) > 0.5 > np.mean(np.array(widths_mm(lesions)) > width_mm)


@pytest.mark.slow
def test_nothing_is_both_trained_and_measured_on_and_nothing_is_made_twice(folder: Path) -> None:
    rehearsal = Rehearsal(folder, load_preset(APP_DIR / "configs/ct.yaml"), FEW)
    for trained, measured in zip(rehearsal.data_sets(), rehearsal.held_out(), strict=True):
        assert len(trained.files) == 2 and len(measured.files) == 1
        assert not {file.name for file in trained.files} & {file.name for file in measured.files}
    written = {file: file.stat().st_mtime_ns for file in folder.rglob("*.npz")}
    assert len(written) == 6
    rehearsal.data_sets(), rehearsal.held_out()
    assert written == {file: file.stat().st_mtime_ns for file in folder.rglob("*.npz")}


def test_kinds_of_more_phantoms_are_not_measured_on_what_they_train_on(tmp_path: Path) -> None:
    small = PhantomConfig(
        in_plane_mm=(40, 45), through_plane_mm=(30, 35), spacing_mm=(3, 4), slice_mm=(3, 4), diameter_mm=(8, 10),
        median_diameter_mm=9, lesion_count=(1, 1), lattice_mm=4,
    )  # fmt: skip
    many = max(kind.trained for kind in KINDS) + 2
    kinds = (Kind("many", small, 0.1, trained=many, held_out=2), Kind("few", small, 0.1, trained=1, held_out=1))
    rehearsal = Rehearsal(tmp_path, load_preset(APP_DIR / "configs/ct.yaml"), kinds)
    for kind, trained, measured in zip(kinds, rehearsal.data_sets(), rehearsal.held_out(), strict=True):
        assert (len(trained.files), len(measured.files)) == (kind.trained, kind.held_out)
        assert not {file.name for file in trained.files} & {file.name for file in measured.files}


def test_intensities_are_redrawn_where_they_are_no_hounsfield_units(folder: Path) -> None:
    for preset, share in (("ct", None), ("mr", 0.5), ("pet", 0.5)):
        rehearsal = Rehearsal(folder, load_preset(APP_DIR / f"configs/{preset}.yaml"), FEW)
        assert {data_set.remap_share for data_set in rehearsal.data_sets()} == {share}
        assert (
            sum(data_set.share for data_set in rehearsal.data_sets()) == pytest.approx(rehearsal.share)
            and 0 < rehearsal.share < 0.5
        )
