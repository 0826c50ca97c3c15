"""What the other endpoints of MONAI Label answer without the patches, as ``test_still_needed`` has it for ``/infer``.

Each request is sent twice, to the real application. The host does as it is told, so what lies in the folder of the
images is put back after it.
"""

import hashlib
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.hostile_images import nifti, packed, voxels
from tests.support.live_app import LiveApp, check_refusal
from tests.support.noise_site import SHAPE

pytestmark = pytest.mark.timeout(300)

Send = Callable[[LiveApp], requests.Response]
GOOD = packed(nifti(voxels()))
LABEL = packed(nifti((voxels() > 60).astype("u1")))


@pytest.fixture(autouse=True)
def _put_back(live: LiveApp) -> Iterator[None]:
    kept = live.folder.with_name("kept")
    shutil.copytree(live.studies, kept)
    yield
    shutil.rmtree(live.studies)
    shutil.move(kept, live.studies)


def image(name: str = "x.nii.gz", content: bytes = GOOD, *, params: str = "{}", **query: str) -> Send:
    return lambda live: requests.put(
        f"{live.url}/datastore/image",
        params=query,
        data={"params": params},
        files={"file": (name, content)},
        timeout=60,
    )


def label(name: str = "x.nii.gz", content: bytes = LABEL, *, params: str = "{}", **query: str) -> Send:
    address = {"image": "case_1", "tag": "final"} | query
    return lambda live: requests.put(
        f"{live.url}/datastore/label",
        params=address,
        data={"params": params},
        files={"label": (name, content)},
        timeout=60,
    )


def info(text: str, image: str = "case_1") -> Send:
    return lambda live: live.ask("PUT", f"/datastore/image/info?image={image}", data={"info": text})


def ask(method: str, address: str, **more: Any) -> Send:
    return lambda live: live.ask(method, address, **more)


def log(query: str) -> Send:
    def send(live: LiveApp) -> requests.Response:
        path = live.folder / "app/logs/app.log"
        path.parent.mkdir(exist_ok=True)
        path.write_text("a line\n")
        return live.ask("GET", f"/logs/?{query}")

    return send


def checksum(prefix: str = "SHA256:") -> Send:
    def send(live: LiveApp) -> requests.Response:
        digest = hashlib.sha256((live.studies / "case_1.nii.gz").read_bytes()).hexdigest()
        return live.ask("HEAD", f"/datastore/image?image=case_1&check_sum={prefix}{digest}")

    return send


def wait_until_idle(live: LiveApp, address: str) -> None:
    """One that was ended may take its time to be gone."""
    for _ in range(600):
        if live.ask("GET", f"{address}?check_if_running=true").status_code == 404:
            return
        time.sleep(0.1)
    pytest.fail(f"A task of {address} runs on after it was ended.")


def task(kind: str, name: str, body: Any) -> Send:
    def send(live: LiveApp) -> requests.Response:
        # As text, for requests does not write NaN.
        headers = {"Content-Type": "application/json"}
        address = "/batch/infer" if kind == "batch/infer" else f"/{kind}/"
        if kind != "activelearning":
            wait_until_idle(live, address)
        answer = live.ask("POST", f"/{kind}/{name}", data=json.dumps(body), headers=headers)
        if kind != "activelearning":
            live.ask("DELETE", address)
        return answer

    return send


# Patch: (request, status without it, status with it).
REQUESTS: dict[str, tuple[Send, int, int]] = {
    "datastore_endpoints, image": (ask("DELETE", "/datastore/image?id=nope"), 500, 404),
    "datastore_endpoints, image, old address": (ask("DELETE", "/datastore/?id=nope"), 500, 404),
    "datastore_endpoints, label": (ask("DELETE", "/datastore/label?id=nope&tag=final"), 200, 404),
    "datastore_endpoints, tag": (ask("DELETE", "/datastore/label?id=case_1&tag=nope"), 200, 404),
    "datastore_endpoints, image info": (ask("GET", "/datastore/image/info?image=nope"), 200, 404),
    "datastore_endpoints, label info": (ask("GET", "/datastore/label/info?label=nope&tag=final"), 200, 404),
    "stored_info, image": (info("{}", image="nope"), 500, 404),
    "stored_info, label": (ask("PUT", "/datastore/label/info?label=nope&tag=a", data={"info": "{}"}), 500, 404),
    "stored_info, label, old": (ask("PUT", "/datastore/updatelabelinfo?label=nope&tag=a"), 500, 404),
    "stored_info, no JSON": (info("nonsense"), 500, 422),
    "stored_info, list": (info("[1]"), 500, 422),
    "stored_info, NaN": (info('{"x": NaN}'), 200, 422),
    "stored_info, infinite": (info('{"x": 1e999}'), 200, 422),
    "stored_info, half a character": (info('{"x": "\\ud800"}'), 200, 422),
    "stored_info, strategy": (info('{"strategy": 5}'), 200, 422),
    "stored_info, time": (info('{"strategy": {"random": {"ts": "now"}}}'), 200, 422),
    "datastore_endpoints, checksum, right": (checksum(), 404, 200),
    "datastore_endpoints, checksum, kind": (checksum("CRC:"), 500, 422),
    "datastore_endpoints, checksum, other": (checksum("SHA512:"), 404, 404),
    "datastore_endpoints, empty data set": (ask("GET", "/datastore/dataset"), 500, 404),
    "image_upload, outside": (image(image="../evil"), 200, 422),
    "image_upload, folder": (image(image="a/b"), 500, 422),
    "image_upload, NUL": (image(image="a\x00b"), 500, 422),
    "image_upload, long": (image(image="x" * 300), 500, 422),
    "image_upload, hidden": (image(image=".x"), 200, 422),
    "image_upload, ending": (image(image="a.nii.gz"), 200, 422),
    "image_upload, nothing": (image(".nii.gz"), 200, 422),
    "image_upload, extension": (image("x.exe", image="new"), 200, 422),
    "image_upload, unreadable": (image(content=b"zz", image="new"), 200, 422),
    "image_upload, cut off": (image(content=GOOD[:2000], image="new"), 200, 422),
    "image_upload, empty": (image(content=b"", image="new"), 200, 422),
    "image_upload, no JSON": (image(params="nonsense", image="new"), 500, 422),
    "image_upload, no object": (image(params="[]", image="new"), 500, 422),
    "image_upload, NaN": (image(params='{"x": NaN}', image="new"), 200, 422),
    "image_upload, broken over good": (image(content=b"zz", image="case_1"), 200, 422),
    "image_upload, good over good": (image(image="case_1"), 200, 409),
    "label_upload, tag outside": (label(tag="../../evil"), 200, 422),
    "label_upload, tag": (label(tag="a b"), 200, 422),
    "label_upload, image": (label(image="nope"), 500, 404),
    "label_upload, path": (label(image="../studies/case_1"), 500, 404),
    "label_upload, no JSON": (label(params="nonsense"), 500, 422),
    "label_upload, no object": (label(params="[1]"), 500, 422),
    "label_upload, NaN": (label(params='{"x": NaN}'), 200, 422),
    "label_upload, segments": (label(params='{"label_info": "lesion"}'), 200, 422),
    "label_upload, unreadable": (label(content=b"zz"), 200, 422),
    "label_upload, empty": (label(content=b""), 200, 422),
    "label_upload, extension": (label("x.exe"), 200, 422),
    "label_upload, raw": (label("label.bin", bytes(48 * 40 * 24)), 200, 422),
    "label_upload, image for a label": (label(content=GOOD), 200, 422),
    "label_upload, 4-D": (label(content=packed(nifti(voxels((*SHAPE[:2], 4, 2)) * 0))), 200, 422),
    "label_upload, slice": (label(content=packed(nifti(voxels((*SHAPE[:2], 1)) * 0))), 200, 422),
    "unknown_names, strategy": (task("activelearning", "nope", {}), 500, 404),
    "unknown_names, trainer": (task("train", "nope", {}), 200, 404),
    "unknown_names, scoring": (task("scoring", "nope", {}), 200, 404),
    "unknown_names, model": (task("batch/infer", "nope", {}), 200, 404),
    "task_request, other": (task("activelearning", "random", {"strategy": "x"}), 500, 422),
    "task_request, NaN": (task("activelearning", "random", {"client_id": float("nan")}), 200, 422),
    "task_request, client": (task("activelearning", "random", {"client_id": {"a": 1}}), 200, 422),
    "task_request, tag": (task("batch/infer", "test", {"label_tag": "../x"}), 200, 422),
    "task_request, images": (task("batch/infer", "test", {"images": 5}), 200, 422),
    "task_request, workers": (task("batch/infer", "test", {"max_workers": "two"}), 200, 422),
    "task_request, negative": (task("batch/infer", "test", {"max_batch_size": -1}), 200, 422),
    "task_request, device": (task("batch/infer", "test", {"device": 5}), 200, 422),
    "task_request, long": (task("batch/infer", "test", {"x": "x" * 2**17}), 200, 413),
    "task_request, deep": (task("batch/infer", "test", {"x": json.loads("[" * 90 + "]" * 90)}), 200, 422),
    "refused_endpoints, slides": (ask("POST", "/infer/wsi_v2/test"), 500, 404),
    "refused_endpoints, slides, form": (ask("POST", "/infer/wsi_v2/test?image=case_1", data={"wsi": "x"}), 500, 404),
    "refused_endpoints, slides, old": (ask("POST", "/infer/wsi/test", json={}), 500, 404),
    "refused_endpoints, weights": (ask("PUT", "/model/test", files={"file": ("x.pt", b"x")}), 500, 403),
    "refused_endpoints, weights, unknown": (ask("PUT", "/model/nope", files={"file": ("x.pt", b"x")}), 500, 404),
    "log_endpoints": (log(f"lines={10**30}"), 500, 200),
    "ohif_files": (ask("GET", "/ohif/assets"), 500, 200),
    "ohif_files, outside": (ask("GET", "/ohif/%2e%2e"), 500, 200),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", REQUESTS)
def test_host_without_the_patch(unpatched: LiveApp, case: str) -> None:
    send, without, _ = REQUESTS[case]
    answer = send(unpatched)
    # The answer of the host is now and then 500 where its task has begun already.
    has_begun = "/batch/" in answer.url and answer.status_code == 500
    assert answer.status_code == without or has_begun, answer.text
    (unpatched.folder / "evil.nii.gz").unlink(missing_ok=True)


@pytest.mark.parametrize("case", REQUESTS)
def test_host_with_the_patch(live: LiveApp, case: str) -> None:
    send, _, patched = REQUESTS[case]
    before = live.files()
    answer = send(live)
    assert answer.status_code == patched, answer.text
    if patched >= 400:
        assert live.files() == before and live.left_behind() == []
        if answer.request.method != "HEAD":
            check_refusal(live, answer, patched)


@pytest.mark.parametrize("text", ['{"x": NaN}', '{"x": "\\ud800"}'])
def test_one_description_stops_the_data_store_of_the_host(unpatched: LiveApp, text: str) -> None:
    assert info(text)(unpatched).status_code == 200
    assert unpatched.ask("GET", "/datastore/?output=all").status_code == 500


def test_broken_image_takes_the_place_of_a_good_one_of_the_host(unpatched: LiveApp) -> None:
    assert image(content=b"zz", image="case_1")(unpatched).status_code == 200
    assert (unpatched.studies / "case_1.nii.gz").read_bytes() == b"zz"


def test_host_writes_outside(unpatched: LiveApp) -> None:
    assert image(image="../evil")(unpatched).status_code == label(tag="../../evil")(unpatched).status_code == 200
    for written in (unpatched.folder / "evil.nii.gz", unpatched.folder / "evil/case_1.nii.gz"):
        assert written.is_file()
        written.unlink()


def test_host_calls_all_series_of_a_scanner_alike(unpatched: LiveApp) -> None:
    assert image("1.2.840.nii.gz")(unpatched).json() == {"image": "1"}


def test_gpu_of_a_server_without_one(live: LiveApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    check_refusal(live, live.ask("GET", "/logs/gpu"), 404, ("nvidia-smi",))


def test_gpu_of_a_server_of_the_host(unpatched: LiveApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert unpatched.ask("GET", "/logs/gpu").status_code == 500


def test_gpu_that_does_not_answer(live: LiveApp, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], timeout: float, **keywords: Any) -> None:
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(subprocess, "run", run)
    check_refusal(live, live.ask("GET", "/logs/gpu"), 503, ("nvidia-smi", "again"))


def test_gpu_that_answers(live: LiveApp, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho a GPU\n")
    (tmp_path / "nvidia-smi").chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert live.ask("GET", "/logs/gpu").text == "a GPU\n"


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_session_that_is_a_folder(live: LiveApp, method: str) -> None:
    planted = _plant_session(live)
    check_refusal(live, live.ask(method, "/session/%2e"), 404, ("session",))
    assert planted.is_file()


def test_session_that_is_a_folder_of_the_host(unpatched: LiveApp) -> None:
    planted = _plant_session(unpatched)
    assert unpatched.ask("GET", "/session/%2e").status_code == 404
    assert not planted.exists()


def _plant_session(live: LiveApp) -> Path:
    folder = live.folder / "sessions"
    folder.mkdir(exist_ok=True)
    (folder / "meta.info").write_text(json.dumps({"image": "/nowhere"}))
    (folder / "victim").write_text("of others")
    return folder / "victim"


def test_session_of_several_files(live: LiveApp) -> None:
    files = [("files", (name, b"x")) for name in ("1.dcm", "2.dcm")]
    session = requests.put(f"{live.url}/session/", files=files, timeout=60).json()["session_id"]
    assert live.ask("GET", f"/session/{session}").status_code == 200
    check_refusal(live, live.ask("GET", f"/session/{session}?image=true"), 422, ("files",))
    assert live.ask("DELETE", f"/session/{session}").status_code == 200
