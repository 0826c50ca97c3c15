"""Which images /infer may open: ids, sessions, uploads, and nothing else of the server."""

import io
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from fastapi import HTTPException
from monailabel.utils.sessions import Sessions

from lib.host.patches.image_access import admit_image
from lib.host.uploads.received_file import received


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


@dataclass(frozen=True)
class File:
    """As FastAPI hands an upload over."""

    filename: str | None
    file: io.BytesIO


@pytest.mark.parametrize(
    ("name", "extension"),
    [
        ("from.mitk.nii.gz", ".nii.gz"),
        ("a.2 final.nrrd", ".nrrd"),
        ("A.NII", ".nii"),
        ("a.mha", None),
        ("a", None),
    ],
)
def test_file_uploaded_with_the_request(tmp: Path, name: str, extension: str | None) -> None:
    with received(File(name, io.BytesIO(b"image"))) as path:
        assert Path(path).read_bytes() == b"image" and tmp in Path(path).parents
        assert admit(path).get("result_extension") == extension
        assert admit(path, result_extension=".nii")["result_extension"] == ".nii"
    assert list(tmp.iterdir()) == []
    assert refused(path)  # it was of that request alone


def test_no_file_is_no_path() -> None:
    with received(None) as path:
        assert path == ""


def test_file_goes_when_the_request_fails(tmp: Path) -> None:
    with pytest.raises(KeyError), received(File("a.nii", io.BytesIO(b"image"))):
        raise KeyError
    assert list(tmp.iterdir()) == []


@pytest.mark.parametrize("name", ["a.png", "a.zip", "a.nii.exe", "a." + "x" * 5000, "a.b\x00"])
def test_files_of_other_types(tmp: Path, name: str) -> None:
    with pytest.raises(HTTPException) as caught, received(File(name, io.BytesIO(b"image"))):
        pytest.fail("was taken")
    assert caught.value.status_code == 422 and ".nii.gz" in caught.value.detail and len(caught.value.detail) < 300


def test_other_files_beside_uploads(tmp: Path) -> None:
    assert refused(str(upload("secret.nii.gz", tmp)))
    assert refused(str(upload("tmpab12_x9z.nii.gz", tmp)))
    with received(File("a.nii", io.BytesIO(b"image"))) as path:
        assert refused(f"{Path(path).parent}/../secret.nii.gz")
        assert refused(str(upload("b.nii", Path(path).parent)))


def test_image_of_a_session(tmp_path: Path, sessions: Sessions) -> None:
    session_id, info = sessions.add_session(str(upload("volume.nii.gz", tmp_path)))
    assert admit(info.image, sessions)["image"] == info.image
    assert refused(info.image, None)  # sessions switched off
    assert refused(str(Path(info.path) / "meta.info"), sessions)
    assert refused(f"{info.path}/../../volume.nii.gz", sessions)
    sessions.remove_session(session_id)
    assert refused(info.image, sessions)
