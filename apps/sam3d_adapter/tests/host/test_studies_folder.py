"""The studies folder: what is followed, what is not served, and where that is said."""

import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from monailabel.config import settings
from monailabel.datastore.local import LocalDatastore

from lib.host.log.privacy import clean
from lib.host.not_served import listed_not_served, report_not_served
from lib.host.studies_datastore import StudiesDatastore, open_studies
from lib.studies import not_served as reasons
from lib.studies.listing import is_temporary
from lib.studies.not_served import not_served
from tests.support.live_app import LiveApp, live_app
from tests.support.noise_site import copy_app
from tests.support.odd_series import make_series
from tests.support.pacs import Pacs, open_store

pytestmark = [
    pytest.mark.timeout(300),
    # ITK's wrapping raises it on import, on every Python from 3.11; made an error there, it ends the process.
    pytest.mark.filterwarnings("ignore:builtin type [sS]wig:DeprecationWarning"),
]

GOOD = (
    "a.nii.gz", "b.nii", "c.nrrd", "d.e.nii", "nii.nii", "f.nii.nrrd", "1.2.840.nii.gz", "i.nii_j.nii.gz",
    "scan.part.2.nii.gz", "tmp.nii.gz", "Template.nii",
)  # fmt: skip
TWICE = ("a.nii", "b.nii.gz", "a.nrrd")
INSIDE = ("scan.nii_corr.nii", "g.nii.gz.nii.gz", "h.nrrd-2.nrrd", "k.nii.gz.nii")
TEMPORARY = ("._a.nii.gz", ".x.nii", "~a.nii.gz", "m.partial.nii.gz", "m.tmp.nrrd", "m.nii.gz.filepart", "a.nii.gz~")
OTHERS = {
    ".DS_Store": reasons.HIDDEN,
    "p.mha": reasons.ENDING,
    "notes.txt": reasons.ENDING,
    "report.xml": reasons.ENDING,
    "photo.jpg": reasons.ENDING,
    "slice.dcm": reasons.DICOM_FILE,
    "IM0001": reasons.DICOM_FILE,
    "Q.NII.GZ": reasons.CAPITALS,
}


def write(file: Path) -> None:
    """A small volume, or what else the name says."""
    if file.name.lower().endswith((".nii", ".nii.gz")):
        content = nib.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4))
        nib.save(content, file.with_name("x.nii.gz" if file.name.lower().endswith("gz") else "x.nii"))
        file.with_name("x.nii.gz" if file.name.lower().endswith("gz") else "x.nii").rename(file)
    elif file.suffix == ".nrrd":
        sitk.WriteImage(sitk.GetImageFromArray(np.zeros((2, 2, 2), np.uint8)), str(file))
    else:
        file.write_bytes(bytes(128) + (b"DICM" if file.name.startswith("IM") else b"text"))


def write_all(folder: Path, names: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        write(folder / name)
    return folder


def open_folder(folder: Path) -> StudiesDatastore:
    """The data store of a server on a folder."""
    store = open_studies(str(folder), lambda change: None)
    assert store is not None
    return store


def test_ordinary_names_are_served_and_not_mentioned(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = open_folder(write_all(tmp_path / "studies", (*GOOD, "patients.csv", "manifest.json")))
    with caplog.at_level(logging.WARNING, "lib.host.not_served"):
        assert not report_not_served(store)
    assert not caplog.records and len(store.list_images()) == len(GOOD)


def test_each_file_is_served_or_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = write_all(tmp_path / "studies", (*GOOD, *TWICE, *INSIDE, *TEMPORARY, *OTHERS))
    write_all(folder / "empty", ())
    write_all(folder / "series/1", ("IM0002",))
    write_all(folder / "more", ("z.nii",))
    write_all(folder / ".git", ("IM1",))
    store = open_folder(folder)
    said = {one.name: one.reason for one in not_served(store.folder)}
    assert {name for name, reason in said.items() if reason == reasons.TWICE} == _doubled(store, (*GOOD, *TWICE))
    assert {name for name, reason in said.items() if reason == reasons.INSIDE} == set(INSIDE)
    endings = ".nii.gz, .nii, .nrrd"
    for name in TEMPORARY:
        assert said[name] == reasons.HIDDEN
    for name, reason in OTHERS.items():
        assert said[name] == reason.format(endings), name
    assert said["series"] == reasons.DICOM_FOLDER and said["more"] == said["empty"] == reasons.FOLDER
    served = {Path(store.get_image_uri(image)).name for image in store.list_images()}
    files = {entry.name for entry in folder.iterdir() if entry.is_file()} | {"series", "more", "empty"}
    files -= {"datastore_v2.json", ".lock"}
    assert files == set(said) | (served & files) and not set(said) & (served - set(INSIDE))
    with caplog.at_level(logging.WARNING, "lib.host.not_served"):
        assert report_not_served(store)[reasons.INSIDE] == len(INSIDE)
    for record in (record for record in caplog.records if record.name == "lib.host.not_served"):
        clean(record)
        assert not any(Path(name).stem in record.getMessage() for name in (*INSIDE, "IM0001", "photo.jpg"))
    assert f"served: {len(INSIDE)}, each its ending stands inside" in caplog.text


def _doubled(store: StudiesDatastore, names: tuple[str, ...]) -> set[str]:
    served = {Path(store.get_image_uri(image)).name for image in store.list_images()}
    return {name for name in names if name not in served}


@pytest.mark.parametrize("name", TEMPORARY)
def test_temporary_names(name: str) -> None:
    assert is_temporary(name)


def test_an_index_from_before_forgets_what_is_not_served(tmp_path: Path) -> None:
    folder = write_all(tmp_path / "studies", ("a.nii.gz", "._a.nii.gz", "report.xml"))
    before = LocalDatastore(str(folder), extensions=settings.MONAI_LABEL_DATASTORE_FILE_EXT, auto_reload=False)
    assert len(before.list_images()) == 3  # MONAI Label as it is; the day this fails, the patch can go
    assert open_folder(folder).list_images() == ["a"]
    assert LocalDatastore(str(folder), extensions=("*.nrrd",), auto_reload=False, read_only=True).list_images() == ["a"]


def test_labels_that_belong_to_nothing_are_said(tmp_path: Path) -> None:
    folder = write_all(tmp_path / "studies", ("a.nii.gz", "b.nii"))
    final = write_all(folder / "labels/final", ("a.nii.gz", "a.nrrd", "gone.nii.gz", "b.mha", "._b.nii"))
    said = {one.name: one.reason for one in not_served(open_folder(folder).folder)}
    kept = next(name for name in ("a.nii.gz", "a.nrrd") if f"labels/final/{name}" not in said)
    other = "a.nrrd" if kept == "a.nii.gz" else "a.nii.gz"
    assert said == {
        f"labels/final/{other}": reasons.TWICE,
        "labels/final/gone.nii.gz": reasons.NO_IMAGE,
        "labels/final/b.mha": reasons.ENDING.format(".nii.gz, .nii, .nrrd"),
        "labels/final/._b.nii": reasons.HIDDEN,
    }
    assert final.is_dir()


def test_a_pacs_has_no_file_names(tmp_path: Path) -> None:
    store = open_store(Pacs(list(make_series().instances)), tmp_path)
    assert listed_not_served(store) == {} and not report_not_served(store)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveApp]:
    folder = tmp_path_factory.mktemp("watched")
    studies = write_all(folder / "studies", ("a.nii.gz", "._a.nii.gz", "p.mha", "a.nii"))
    with live_app(copy_app(folder), studies, folder) as app:
        yield app


def after(happens: Callable[[], Any], until: Callable[[], bool]) -> None:
    """What happened in the folder is noticed with the next question."""
    happens()
    assert until()


def listed(live: LiveApp) -> dict[str, Any]:
    found: dict[str, Any] = live.ask("GET", "/datastore/?output=all").json()["objects"]
    return found


def tags(live: LiveApp) -> set[str]:
    return set(listed(live)["a"]["labels"])


def said(live: LiveApp) -> dict[str, str]:
    return {one["file"]: one["reason"] for one in live.ask("GET", "/info/").json()["not_served"]}


def test_info_says_what_is_not_served(watched: LiveApp) -> None:
    info = watched.ask("GET", "/info/").json()
    found = said(watched)
    assert info["not_served_count"] == len(found) == 3
    assert found["._a.nii.gz"] == reasons.HIDDEN and "convert" in found["p.mha"]
    assert reasons.TWICE in (found.get("a.nii"), found.get("a.nii.gz")) and set(listed(watched)) == {"a"}


def test_renamed_and_moved_files_are_noticed(watched: LiveApp) -> None:
    studies, outside = watched.studies, watched.folder / "outside"
    outside.mkdir()
    write(outside / "new.nii.gz")
    new = outside / "new.nii.gz"
    after(lambda: shutil.copy(new, studies / "one.nii.gz"), lambda: "one" in listed(watched))
    after(
        lambda: (studies / "one.nii.gz").rename(studies / "two.nii.gz"),
        lambda: "two" in listed(watched) and "one" not in listed(watched),
    )
    after(lambda: (studies / "two.nii.gz").rename(studies / "two.nii.gz.off"), lambda: "two" not in listed(watched))
    assert "two.nii.gz.off" in said(watched)
    # As rsync and browsers finish a copy.
    shutil.copy(new, studies / ".three.nii.gz.Ab12")
    after(lambda: (studies / ".three.nii.gz.Ab12").rename(studies / "three.nii.gz"), lambda: "three" in listed(watched))
    assert ".three.nii.gz.Ab12" not in said(watched)
    after(lambda: (studies / "three.nii.gz").rename(outside / "four.nii.gz"), lambda: "three" not in listed(watched))
    after(lambda: (outside / "four.nii.gz").rename(studies / "four.nii.gz"), lambda: "four" in listed(watched))
    after(lambda: (studies / "four.nii.gz").unlink(), lambda: "four" not in listed(watched))


def test_renamed_labels_are_noticed(watched: LiveApp) -> None:
    final = watched.studies / "labels/final"
    write(watched.folder / "label.nii.gz")
    label = watched.folder / "label.nii.gz"
    after(lambda: shutil.copy(label, final / "b.nii.gz"), lambda: "labels/final/b.nii.gz" in said(watched))
    assert said(watched)["labels/final/b.nii.gz"] == reasons.NO_IMAGE
    after(lambda: (final / "b.nii.gz").rename(final / "a.nii.gz"), lambda: tags(watched) == {"final"})
    assert "labels/final/b.nii.gz" not in said(watched)
    # A tag that is new since the start.
    second = watched.studies / "labels/second"
    second.mkdir()
    after(lambda: os.link(final / "a.nii.gz", second / "a.nii.gz"), lambda: tags(watched) == {"final", "second"})
    after(lambda: (second / "a.nii.gz").rename(second / "z.nii.gz"), lambda: tags(watched) == {"final"})


def test_the_app_says_it_when_it_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr("lib.host.not_served.logger.warning", lambda text, *values: said.append(text % values))
    studies = write_all(tmp_path / "studies", ("a.nii", "a.nii.gz"))
    with live_app(copy_app(tmp_path), studies, tmp_path):
        pass
    assert len(said) == 2 and "served: 1, each another file" in said[0]
