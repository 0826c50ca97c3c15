"""What MONAI Label answers without the patches: the day one of these fails, its patch can go.

Each request is sent twice, to the real application: without the patches it ends as the patch's file says, with
them in a refusal or a mask.
"""

import errno
import functools
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import requests
from monailabel.endpoints import infer as endpoint
from monailabel.utils.sessions import Sessions

from lib.host.patches.endpoints import patch_endpoints
from lib.host.patches.web_app import patch_web_app, restore_web_app
from tests.support.hostile_images import nifti, packed, voxels
from tests.support.live_app import LiveApp
from tests.support.noise_site import CLICK

pytestmark = [
    pytest.mark.timeout(300),
    # The host's own, of folders it leaves when it fails.
    pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning"),
]

FOREGROUND = {"foreground": [CLICK]}
LIMIT = 3 * 2**20
Send = Callable[[LiveApp], requests.Response]


def post(live: LiveApp, **files: tuple) -> requests.Response:
    return requests.post(f"{live.url}/infer/test", params={"image": "case_1"}, files=files, timeout=60)


def session(live: LiveApp, name: str, content: bytes = b"x", **query: str) -> requests.Response:
    return requests.put(f"{live.url}/session/", params=query, files=[("files", (name, content))], timeout=60)


# Patch: (request, status without it, status with it).
REQUESTS: dict[str, tuple[Send, int, int]] = {
    "infer_endpoint, no JSON": (lambda live: live.infer("nonsense"), 500, 422),
    "infer_endpoint, no object": (lambda live: live.infer("[1]"), 500, 422),
    "infer_endpoint, deep params": (lambda live: live.infer('{"a":' + "[" * 900 + "]" * 900 + "}"), 500, 422),
    "infer_endpoint, key twice": (lambda live: live.infer(f'{{"foreground": [], "foreground": [{CLICK}]}}'), 200, 422),
    "infer_endpoint, another image": (lambda live: live.infer({**FOREGROUND, "image": "case_2"}), 200, 422),
    "infer_endpoint, nothing": (lambda live: live.infer(FOREGROUND, image=""), 500, 422),
    "infer_endpoint, session": (lambda live: live.infer(FOREGROUND, session_id="over"), 200, 404),
    "received_file, name": (lambda live: live.upload("a." + "x" * 300, b"x"), 500, 422),
    "received_file, mask": (lambda live: post(live, label=("a.bin", b"12345")), 500, 422),
    "dicom_seg": (lambda live: live.infer(FOREGROUND, output="dicom_seg"), 500, 422),
    "request_errors, text": (lambda live: post(live, file=(None, "x")), 422, 422),
    "body_limit": (lambda live: live.upload("a.nii", bytes(LIMIT)), 404, 413),
    "sessions, archive": (lambda live: session(live, "a.zip", b"x", uncompress="true"), 500, 422),
    "sessions, name": (lambda live: session(live, ".."), 500, 200),
}


@pytest.mark.parametrize("case", REQUESTS)
def test_host_without_the_patch(unpatched: LiveApp, case: str) -> None:
    send, without, _ = REQUESTS[case]
    assert send(unpatched).status_code == without


@pytest.mark.parametrize("case", REQUESTS)
def test_host_with_the_patch(live: LiveApp, case: str) -> None:
    send, _, patched = REQUESTS[case]
    answer = send(live)
    assert answer.status_code == patched, answer.text
    if patched >= 400:
        assert isinstance(answer.json()["detail"], str)


def test_answers_of_the_framework_are_no_text(unpatched: LiveApp) -> None:
    assert isinstance(post(unpatched, file=(None, "x")).json()["detail"], list)


def test_refused_upload_stays(unpatched: LiveApp) -> None:
    assert unpatched.upload("a.nii", nifti(voxels())).status_code == 404  # its name is the host's, not ours
    time.sleep(0.5)  # what is removed is removed after the answer
    assert [path.suffix for path in Path(tempfile.gettempdir()).iterdir()] == [".nii"]


def test_refused_upload_goes(live: LiveApp) -> None:
    assert live.upload("a.nii", b"").status_code == 422
    assert live.left_behind() == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO])
def test_disk_that_cannot_be_written(live: LiveApp, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Saving a mask beside its image on a disk that is full, or read-only."""

    def fail(*arguments: object, **keywords: object) -> None:
        raise OSError(number, "x")

    # Of the folder of images.
    monkeypatch.setattr("lib.studies.label_changes.copy_with_sha256", fail)
    request = {**FOREGROUND, "save_label": True}
    answer = live.infer(request)
    assert answer.status_code == 503 and "dministrator" in answer.json()["detail"]
    restore_web_app()
    try:
        assert live.infer(request).status_code == 500
    finally:
        patch_web_app(LIMIT)
    monkeypatch.undo()
    assert live.infer(request).status_code == 200


def test_wrappers_of_others_stay(live: LiveApp) -> None:
    """MONAI Label builds the app anew after /reload, and the patches are applied again."""
    calls = []

    @functools.wraps(endpoint.run_inference)
    def counting(*arguments: object, **keywords: object) -> object:
        calls.append(1)
        return before(*arguments, **keywords)

    before, endpoint.run_inference = endpoint.run_inference, counting
    try:
        patch_endpoints()
        assert live.infer("nonsense").status_code == 422 and calls == [1]
    finally:
        endpoint.run_inference = before


def test_app_built_anew_answers_as_before(live: LiveApp) -> None:
    before = live.good_click()
    assert requests.post(f"{live.url}/reload", timeout=60).status_code == 200
    assert live.good_click() == before
    assert live.upload("a.nii.gz", packed(nifti(voxels()))).status_code == 200
    assert live.infer("nonsense").status_code == 422


def test_session_of_another_folder_is_not_asked_for(tmp_path: Path, live: LiveApp) -> None:
    """The host would read, and may delete, a folder that an id leads to."""
    victim = live.folder / "victim"
    victim.mkdir()
    (victim / "meta.info").write_text(json.dumps({"image": "/nowhere"}))
    assert live.infer(FOREGROUND, session_id="../victim").status_code == 404
    assert victim.is_dir()
    Sessions(str(live.folder / "sessions")).get_session("../victim")
    assert not victim.exists()
