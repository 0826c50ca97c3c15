"""The worst a client or a disk can do to a real server process; after each, a good click gives the same mask."""

import contextlib
import hashlib
import http.client
import json
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from tests.support.hostile_images import nifti, packed, patched, voxels, zeros_packed
from tests.support.noise_site import CLICK, copy_app, write_studies
from tests.support.server import AppServer, start_server
from tests.support.small_disk import SmallDisk, small_disk

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

FOREGROUND = {"foreground": [CLICK]}
SAVE = {**FOREGROUND, "save_label": True}
LIMIT_MB = 4
ROOM = 16 * 2**20  # bytes; more than the largest body


def temporary_files(folder: Path) -> set[str]:
    """Names of the files that the server made up: masks and uploads."""
    return {path.name for path in folder.rglob("*") if path.is_file() and path.name.startswith(("tmp", "upload"))}


@dataclass(frozen=True)
class Site:
    """A server whose temporary files and images each lie on a small disk, and what the former held at first."""

    server: AppServer
    temporary: SmallDisk
    studies: SmallDisk
    at_start: set[str]

    def infer(self, params: dict | None = None, *, image: str = "case_1", **more: object) -> requests.Response:
        files: dict = {"params": (None, json.dumps(params or FOREGROUND)), **more}
        return requests.post(
            f"{self.server.url}/infer/test", params={"image": image, "output": "image"}, files=files, timeout=120
        )

    def good_click(self) -> str:
        answer = self.infer()
        assert answer.status_code == 200, answer.text
        return hashlib.sha256(answer.content).hexdigest()

    def left_behind(self) -> set[str]:
        """Names of files that stay in the temporary folder; an answer goes when it was sent."""
        for _ in range(100):
            if not (left := temporary_files(self.temporary.folder) - self.at_start):
                break
            time.sleep(0.05)
        return left

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.server.url.removeprefix("http://").split(":")
        return host, int(port)

    def peak_bytes(self) -> int:
        """Most memory the process ever held."""
        status = Path(f"/proc/{self.server.running.process.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("hostile")
    with contextlib.ExitStack() as stack:
        try:
            temporary, studies = (stack.enter_context(small_disk(folder / name, ROOM)) for name in ("tmp", "images"))
        except (OSError, FileNotFoundError) as error:
            pytest.skip(f"needs the right to mount a small disk: {error}")
        write_studies(studies.folder / "studies")
        server = stack.enter_context(
            start_server(
                copy_app(folder),
                studies.folder / "studies",
                folder / "server",
                conf={"models": "test", "max_upload_mb": str(LIMIT_MB)},
                env={"TMPDIR": str(temporary.folder), "MONAI_LABEL_SESSION_PATH": str(temporary.folder / "sessions")},
            )
        )
        yield Site(server, temporary, studies, temporary_files(temporary.folder))


@pytest.fixture(scope="module")
def good_mask(site: Site) -> str:
    return site.good_click()


def detail(answer: requests.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    text = answer.json()["detail"]
    assert isinstance(text, str)
    return text


# Eight kilobytes hold a part of the mask; compressed, it is smaller than that.
@pytest.mark.parametrize(
    ("extension", "left"), [(".nrrd", 0), (".nii", 0), (".nii.gz", 0), (".nrrd", 8192), (".nii", 8192)]
)
def test_no_room_for_the_mask(site: Site, good_mask: str, extension: str, left: int) -> None:
    request = {**FOREGROUND, "result_extension": extension}
    assert not site.left_behind()
    with site.temporary.full(left=left):
        assert "could not be written" in detail(site.infer(request), 503)
        assert not site.left_behind()  # not half a mask either
    assert site.infer(request).status_code == 200
    assert site.good_click() == good_mask


def test_no_room_for_an_upload(site: Site, good_mask: str) -> None:
    small, large = nifti(voxels()), nifti(voxels((128, 128, 64)))
    assert not site.left_behind()
    with site.temporary.full():
        for content in (small, large):  # the large one does not even get through the form
            answer = site.infer(image="", file=("a.nii", content))
            assert "disk of the server is full" in detail(answer, 503)
        put = requests.put(f"{site.server.url}/session/", files=[("files", ("a.nii", large))], timeout=60)
        assert "disk of the server is full" in detail(put, 503)
    assert site.infer(image="", file=("a.nii", small)).status_code == 200
    assert site.good_click() == good_mask


def test_temporary_folder_that_cannot_be_written(site: Site, good_mask: str) -> None:
    with site.temporary.read_only():
        assert "read-only" in detail(site.infer(), 503)
        assert "rights" in detail(site.infer(image="", file=("a.nii", nifti(voxels()))), 503)
    assert site.good_click() == good_mask


def test_images_that_cannot_be_written_beside(site: Site, good_mask: str) -> None:
    with site.studies.read_only():
        assert site.good_click() == good_mask
        assert "rights" in detail(site.infer(SAVE), 503)
    assert site.infer(SAVE).status_code == 200
    folder = site.studies.folder / "studies"
    saved = {path: path.read_bytes() for path in (folder / "labels/original/case_1.nrrd", folder / "datastore_v2.json")}
    with site.studies.full(left=8192):
        assert "full" in detail(site.infer(SAVE), 503)
    assert {path: path.read_bytes() for path in saved} == saved  # the label of before, and the index of all
    assert site.infer(SAVE).status_code == 200
    assert site.good_click() == good_mask


def test_data_store_that_cannot_be_written(site: Site, good_mask: str) -> None:
    def put(kind: str, image: str, name: str, content: bytes) -> requests.Response:
        files = {name: ("x.nii", content)}
        return requests.put(f"{site.server.url}/datastore/{kind}", params={"image": image}, files=files, timeout=60)

    folder = site.studies.folder / "studies"
    label = nifti((voxels() > 60).astype("u1"))
    assert put("label", "case_1", "label", label).status_code == 200
    saved = {path: path.read_bytes() for path in (folder / "labels/final/case_1.nii", folder / "datastore_v2.json")}
    with site.studies.full(left=8192):
        assert "full" in detail(put("label", "case_1", "label", label), 503)
        assert "full" in detail(put("image", "new", "file", nifti(voxels())), 503)
    with site.studies.read_only():
        assert "rights" in detail(put("label", "case_1", "label", label), 503)
        assert "rights" in detail(put("image", "new", "file", nifti(voxels())), 503)
    assert {path: path.read_bytes() for path in saved} == saved and not list(folder.glob("new*"))
    assert not site.left_behind()
    assert put("image", "new", "file", nifti(voxels())).status_code == 200
    assert site.good_click() == good_mask


def test_body_that_says_it_is_too_long(site: Site, good_mask: str) -> None:
    connection = http.client.HTTPConnection(*site.address, timeout=30)
    connection.putrequest("POST", "/infer/test?image=case_1")
    connection.putheader("Content-Type", "multipart/form-data; boundary=b")
    connection.putheader("Content-Length", str(10**12))
    connection.endheaders()
    answer = connection.getresponse()  # without a byte of the body
    text = json.loads(answer.read())["detail"]
    assert answer.status == 413 and "4 MiB" in text and "max_upload_mb" in text
    connection.close()
    assert site.good_click() == good_mask


def test_body_that_does_not_say_how_long_it_is(site: Site, good_mask: str) -> None:
    def endless() -> Iterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.nii"\r\n\r\n'
        for _ in range(LIMIT_MB + 1):
            yield bytes(2**20)

    answer = requests.post(
        f"{site.server.url}/infer/test",
        data=endless(),
        headers={"Content-Type": "multipart/form-data; boundary=b", "Origin": "http://viewer.test"},
        timeout=60,
    )
    assert "4 MiB" in detail(answer, 413)
    assert "access-control-allow-origin" in answer.headers  # else a browser shows no text
    assert site.good_click() == good_mask


@pytest.mark.parametrize(
    "start",
    [
        b"POST /infer/test?image=case_1 HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc",
        b"POST /infer/test?image=case_1 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        b"POST /infer/test?image=case_1 HTTP/1.1\r\nHost: x\r\nContent-Le",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x00" * 4096,
    ],
    ids=["body cut off", "chunk cut off", "header cut off", "TLS", "zeros"],
)
def test_client_that_goes_away(site: Site, good_mask: str, start: bytes) -> None:
    with socket.create_connection(site.address, timeout=10) as connection:
        connection.sendall(start)
    assert site.good_click() == good_mask


def test_names_that_no_file_can_have(site: Site, good_mask: str) -> None:
    for name in (
        b"a\\0.nii",
        b"../../../etc/cron.d/x.nii",
        b"x" * 5000 + b".nii",
        b"\xff\xfe.nii",
        b"a\xed\xa0\x80.nii",
    ):
        body = b'--b\r\nContent-Disposition: form-data; name="file"; filename="%b"\r\n\r\n' % name
        body += nifti(voxels()) + b'\r\n--b\r\nContent-Disposition: form-data; name="params"\r\n\r\n'
        body += json.dumps(FOREGROUND).encode() + b"\r\n--b--\r\n"
        header = {"Content-Type": "multipart/form-data; boundary=b"}
        answer = requests.post(f"{site.server.url}/infer/test", data=body, headers=header, timeout=60)
        # 400: the framework takes no name that is no text, and none that is too long.
        assert answer.status_code in (200, 400), answer.text
    assert site.good_click() == good_mask


def test_claims_take_no_memory(site: Site, good_mask: str) -> None:
    before = site.peak_bytes()
    good = nifti(voxels())
    for dim in ([3, 1000, 1000, 1000], [3, 30000, 30000, 30000], [4, 1000, 1000, 500, 2]):
        for name, content in (("a.nii", patched(good, dim=dim)), ("a.nii.gz", packed(patched(good, dim=dim)))):
            detail(site.infer(image="", file=(name, content)), 422)
    bomb = site.infer(image="", file=("a.nii.gz", zeros_packed(good, 2**30)))  # behind the voxels
    assert "unpacks to more" in detail(bomb, 422)
    assert site.peak_bytes() - before < 2**27
    assert site.good_click() == good_mask


def test_nothing_is_left_and_the_server_is_the_same_process(site: Site, good_mask: str) -> None:
    assert site.good_click() == good_mask
    assert site.server.running.process.poll() is None
    assert not site.left_behind()
