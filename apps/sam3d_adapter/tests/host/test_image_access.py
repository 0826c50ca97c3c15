"""Which images /infer may open: ids, sessions, uploads, and nothing else of the server."""

import os
import tempfile
import time
from pathlib import Path

import pytest
from fastapi import HTTPException
from monailabel.datastore.dicom import DICOMWebDatastore
from monailabel.utils.sessions import Sessions

from lib.host.image_access import admit_image


class Datastore:
    def list_images(self) -> list[str]:
        return ["case_1"]

    def get_image_uri(self, image: str) -> str:
        return f"/studies/{image}.nii.gz"


@pytest.fixture
def tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder where the server puts uploads."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def sessions(tmp_path: Path) -> Sessions:
    return Sessions(str(tmp_path / "sessions"))


def admit(image: object, sessions: Sessions | None = None, **more: object) -> dict:
    return admit_image({"image": image, **more}, Datastore(), sessions)


def refused(image: object, sessions: Sessions | None = None) -> bool:
    with pytest.raises(HTTPException) as caught:
        admit(image, sessions)
    return caught.value.status_code == 404


def test_id_of_the_datastore_passes_unchanged() -> None:
    assert admit("case_1", other=1) == {"image": "case_1", "other": 1}


def test_id_wins_over_a_file_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "case_1").write_text("something else")
    monkeypatch.chdir(tmp_path)
    assert admit("case_1")["image"] == "/studies/case_1.nii.gz"


@pytest.mark.parametrize(
    "image", ["case_2", "", None, 3, ["case_1"], "/etc/passwd", "../case_1", "/studies/case_1.nii.gz"]
)
def test_anything_else_is_not_found(tmp: Path, sessions: Sessions, image: object) -> None:
    assert refused(image, sessions)


def upload(name: str, folder: Path) -> Path:
    path = folder / name
    path.write_bytes(b"image")
    return path


@pytest.mark.parametrize(
    ("name", "extension"),
    [("tmpab12_x9z.nii.gz", ".nii.gz"), ("tmpab12_x9z.2 final.nrrd", ".nrrd"), ("tmpab12_x9z.mha", None)],
)
def test_file_uploaded_with_the_request(tmp: Path, name: str, extension: str | None) -> None:
    path = upload(name, tmp)
    assert admit(str(path)).get("result_extension") == extension
    assert admit(str(path), result_extension=".nii")["result_extension"] == ".nii"


def test_upload_name_is_what_the_host_makes(tmp: Path) -> None:
    path = Path(tempfile.NamedTemporaryFile(suffix=".nii.gz").name)  # noqa: SIM115 (as MONAI Label does it)
    path.write_bytes(b"image")
    assert admit(str(path))


def test_other_files_beside_uploads(tmp: Path) -> None:
    assert refused(str(upload("secret.nii.gz", tmp)))
    (tmp / "deeper").mkdir()
    assert refused(str(upload("tmpab12_x9z.nii.gz", tmp / "deeper")))
    assert refused(str(tmp / "deeper" / ".." / "tmpaaaaaaaa.nii"))


def test_link_that_looks_like_an_upload(tmp: Path) -> None:
    link = tmp / "tmpab12_x9z.nii"
    link.symlink_to(upload("secret.nii", tmp))
    assert refused(str(link))


def test_old_upload(tmp: Path) -> None:
    path = upload("tmpab12_x9z.nii", tmp)
    os.utime(path, (time.time() - 3600,) * 2)
    assert refused(str(path))


def test_image_of_a_session(tmp_path: Path, sessions: Sessions) -> None:
    session_id, info = sessions.add_session(str(upload("volume.nii.gz", tmp_path)))
    assert admit(info.image, sessions)["image"] == info.image
    assert refused(info.image, None)  # sessions switched off
    assert refused(str(Path(info.path) / "meta.info"), sessions)
    assert refused(f"{info.path}/../../volume.nii.gz", sessions)
    sessions.remove_session(session_id)
    assert refused(info.image, sessions)


class Pacs(DICOMWebDatastore):
    """A PACS that knows one series the cached list lacks."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def list_images(self) -> list[str]:
        return []

    def get_image_uri(self, image_id: str) -> str:
        self.asked.append(image_id)
        if image_id != "1.2.840.1":
            raise RuntimeError("404 from the PACS")
        return "/cache/1.2.840.1.nii.gz"


def test_new_series_is_asked_for_by_its_uid() -> None:
    pacs = Pacs()
    assert admit_image({"image": "1.2.840.1"}, pacs, None)["image"] == "1.2.840.1"
    for image in ("1.2.840.2", "../1.2", "1.2/../../x"):
        with pytest.raises(HTTPException):
            admit_image({"image": image}, pacs, None)
    assert pacs.asked == ["1.2.840.1", "1.2.840.2"]  # no path ever reaches the store
