"""What the real server prints and leaves behind while patients' data go through it."""

import json
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import requests

from lib.host.process import launch
from tests.support.server import AppServer, start_server
from tests.support.small_app import copy_small_app

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PATIENT = "Mustermann_Erika_19700101"
UID = "1.2.840.113619.2.55.3.604688119.971"
FOLDER = "Station_Zauberberg"
TELLTALES = ("Mustermann", "604688119", "Zauberberg", "Castorp", "Settembrini", "0.4321")
CLICK = [12, 10, 8]
PATCHES = ("remove_values_from_log", "use_logfmt", "use_private_temp_folder")


def write_image(path: Path) -> Path:
    voxels = np.random.default_rng(0).normal(40, 60, (24, 20, 16)).astype(np.int16)
    nib.save(nib.Nifti1Image(voxels, np.eye(4)), path)
    return path


@dataclass(frozen=True)
class Traffic:
    """What a server said, and the temporary files it had before and after everything that was asked of it."""

    console: str
    log: str
    before: list[str]
    after: list[str]


def temporary_files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def send_all(server: AppServer, studies: Path, upload: Path) -> None:
    """Uploads, clicks, sessions, the data store, a task, and errors of every kind, with telltale names in each."""

    def send(method: str, address: str, status: int, **more: Any) -> requests.Response:
        with requests.request(method, f"{server.url}{address}", timeout=120, **more) as response:
            assert response.status_code == status, (address, response.status_code, response.text)
            return response

    def infer(status: int, query: str, params: Any, **files: Path) -> None:
        opened = {name: (path.name, path.read_bytes()) for name, path in files.items()}
        body = params if isinstance(params, str) else json.dumps(params)
        send("POST", f"/infer/{query}", status, data={"params": body}, files=opened or None)

    good = {"foreground": [CLICK], "threshold": 0.4321, "patient": "Castorp", "description": "Castorp"}
    bad = good | {"foreground": [[-1, 0, 0]]}
    infer(200, f"test?image={PATIENT}", good)
    infer(200, f"test?image={UID}&output=image", good)
    infer(200, "test", good, file=upload)
    infer(200, "test", good, file=upload, label=upload)
    infer(422, "test", bad, file=upload)
    infer(422, f"test?image={PATIENT}", bad)
    infer(404, "test?image=Castorp_Hans", good)
    infer(404, f"test?image=/data/{FOLDER}/Castorp.nii.gz", good)
    infer(404, f"Settembrini?image={PATIENT}", good)
    for response in (
        requests.post(f"{server.url}/infer/test", data={"params": "{Castorp"}, files={"file": upload.read_bytes()}),
        requests.post(f"{server.url}/infer/test?image={PATIENT}", data={"params": '["Castorp"]'}),
    ):
        assert response.status_code >= 400
        response.close()
    (torn := upload.with_name("Castorp_torn.nii.gz")).write_bytes(upload.read_bytes()[:300])
    infer(422, "test", good, file=torn)

    with upload.open("rb") as file:
        session = send("PUT", "/session/", 200, files={"files": (upload.name, file)}).json()["session_id"]
    infer(200, f"test?session_id={session}", good)
    send("GET", f"/session/{session}", 200)
    send("DELETE", f"/session/{session}", 200)
    send("GET", "/session/Castorp", 404)
    with upload.open("rb") as file:
        send("PUT", "/session/?uncompress=true", 422, files={"files": (upload.name, file)})

    with upload.open("rb") as file:
        send("PUT", "/datastore/?image=Castorp_Hans", 200, files={"file": (upload.name, file)})
    mask = nib.Nifti1Image(np.ones((24, 20, 16), np.uint8), np.eye(4)).to_bytes()
    label = {"label": ("Castorp.nii", mask)}
    author = {"params": '{"author": "Settembrini"}'}
    send("PUT", f"/datastore/label?image={PATIENT}&tag=final", 200, data=author, files=label)
    send("PUT", "/datastore/label?image=Castorp_unknown&tag=final", 404, files=label)
    send("PUT", f"/datastore/label?image={PATIENT}&tag=Castorp/../x", 422, files=label)
    # An error of the disk, with a path in its text: a file lies where the folder of a tag has to be.
    (studies / "labels/Settembrini").write_text("")
    send("PUT", f"/datastore/label?image={PATIENT}&tag=Settembrini", 503, files=label)
    send("PUT", "/datastore/image?image=../Castorp", 422, files={"file": ("Castorp.nii", mask)})
    send("PUT", f"/datastore/image?image={PATIENT}", 409, files={"file": ("Castorp.nii", mask)})
    send("PUT", f"/datastore/image/info?image={PATIENT}", 200, data={"info": "{}"})
    send("GET", f"/datastore/image?image={PATIENT}", 200)
    send("GET", "/datastore/image?image=Castorp_unknown", 404)
    send("GET", "/datastore/dataset", 200)
    send("DELETE", f"/datastore/label?id={PATIENT}&tag=final", 200)
    send("DELETE", "/datastore/?id=Castorp_Hans", 200)
    send("POST", "/activelearning/random", 200, json={"client_id": "Settembrini"})
    send("POST", "/activelearning/Settembrini", 404, json={})
    send("POST", "/train/Settembrini", 404, json={"patient": "Castorp"})
    # Fails, for there is no click.
    task = {"patient": "Castorp", "device": "cpu", "multi_gpu": False, "max_workers": 1}
    send("POST", "/batch/infer/test", 200, json=task)
    deadline = time.monotonic() + 200
    while send("GET", "/batch/infer", 200).json()["status"] not in ("DONE", "ERROR") and time.monotonic() < deadline:
        time.sleep(0.2)
    send("GET", "/info/", 200)
    send("GET", "/logs/?text=true&lines=1000", 200)


def run(folder: Path, how: str) -> Traffic:
    """Starts a server, sends everything, stops it.

    Args:
        how: "launcher" as ``make serve`` does it, "plain" as ``monailabel start_server`` does it, "unpatched" as that,
            without what is tested here.
    """
    app = copy_small_app(folder / "app")
    studies = folder / FOLDER
    (folder / "tmp").mkdir()
    studies.mkdir()
    for name in (PATIENT, UID):
        write_image(studies / f"{name}.nii.gz")
    upload = write_image(folder / "Castorp^Hans.1.2.840.604688119.nii.gz")
    if how == "unpatched":
        main = app / "main.py"
        text = main.read_text()
        for patch in PATCHES:
            assert f"        {patch}()\n" in text
            text = text.replace(f"        {patch}()\n", "")
        main.write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        if how != "launcher":
            command = launch.server_command
            patch.setattr(
                launch, "server_command", lambda *a, **k: [(c := command(*a, **k))[0], "-m", "monailabel.main", *c[2:]]
            )
        env = {"TMPDIR": str(tmp := folder / "tmp")}
        with start_server(app, studies, folder / "server", env=env, timeout_s=300) as server:
            before = temporary_files(tmp)
            send_all(server, studies, upload)
            after = temporary_files(tmp)
            deadline = time.monotonic() + 10
            while after != before and time.monotonic() < deadline:  # removal follows the answer
                time.sleep(0.1)
                after = temporary_files(tmp)
    log = (app / "logs" / "app.log").read_text()
    return Traffic(server.log_path.read_text(), log, before, after)


@pytest.fixture(scope="module", params=["launcher", "plain"])
def traffic(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traffic]:
    folder = tmp_path_factory.mktemp(request.param)
    done = run(folder, request.param)
    if request.param == "plain":
        # MONAI Label prints its own arguments before it builds the app; no request has come by then.
        marker = "Subclass for MONAILabelApp Found"
        done = Traffic(
            done.console.partition(marker)[2].partition("\n")[2],
            done.log.partition(marker)[2].partition("\n")[2],
            done.before,
            done.after,
        )
    yield done
    shutil.rmtree(folder, ignore_errors=True)


def leaks(text: str) -> list[str]:
    return [line for line in text.splitlines() if any(telltale in line for telltale in TELLTALES)]


def test_nothing_of_a_patient_or_request_is_logged(traffic: Traffic) -> None:
    assert leaks(traffic.console) == []
    assert leaks(traffic.log) == []


def test_the_log_still_tells_what_happened(traffic: Traffic) -> None:
    for event in ('event="Infer Request: …"', 'event="Click answered."'):
        assert event in traffic.log
    failed = next(line for line in traffic.log.splitlines() if 'event="A request could not be answered."' in line)
    assert 'error="FileExistsError EEXIST" at=' in failed and "studies/label_changes.py:" in failed
    assert re.search(r'stack="[^"]* < endpoints/datastore\.py:\d+ in \w+ < [^"]*"', failed)
    lines = traffic.log.splitlines()
    assert all(line.startswith("time=") for line in lines), [x for x in lines if not x.startswith("time=")]
    answered = next(line for line in lines if "Click answered" in line)
    assert "preset=test" in answered and "audit_id=" in answered
    # Of the task's process: cleaned there, and not wrapped again here.
    uncaught = [line for line in lines if 'event="An error was not caught."' in line]
    assert len(uncaught) == 1 and "RuntimeError" in uncaught[0] and uncaught[0].count("time=") == 1


def test_no_temporary_file_stays(traffic: Traffic) -> None:
    assert traffic.after == traffic.before


def test_the_host_still_needs_it(tmp_path: Path) -> None:
    """Without the patches everything is in the log; when this fails, they can go."""
    done = run(tmp_path, "unpatched")
    for telltale in TELLTALES:
        assert any(telltale in line for line in leaks(done.log)), telltale
    assert len(done.after) > len(done.before)
