"""Labels through the real application: their history, what is recorded of them, and a folder that goes away."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from lib.audit.log import AuditLog
from lib.files.checksums import file_sha256
from lib.studies.folder import StudiesFolder
from lib.studies.label_changes import By
from tests.support.hostile_images import nifti, packed, voxels
from tests.support.live_app import LiveApp, check_refusal
from tests.support.noise_site import CLICK, SHAPE

pytestmark = pytest.mark.timeout(300)

FIRST, SECOND = (packed(nifti((voxels() > limit).astype("u1"))) for limit in (60, 90))


@pytest.fixture(autouse=True)
def _clean(live: LiveApp) -> Iterator[None]:
    yield
    assert live.left_behind() == []


def put_label(live: LiveApp, content: bytes, name: str, image: str = "case_1") -> requests.Response:
    return requests.put(
        f"{live.url}/datastore/label",
        params={"image": image, "tag": "final"},
        data={"params": json.dumps({"label_info": [{"name": name, "idx": 1}]})},
        files={"label": ("x.nii.gz", content)},
        timeout=60,
    )


def records(live: LiveApp) -> list[dict[str, Any]]:
    log = AuditLog(live.folder / "app/logs/audit", 2**29)
    return [record for record in log.records() if "label" in record]


def names(live: LiveApp, image: str = "case_1") -> list[str]:
    info = live.ask("GET", f"/datastore/label/info?label={image}&tag=final").json()
    return [segment["name"] for segment in info["label_info"]]


def test_each_change_is_kept_and_recorded(live: LiveApp) -> None:
    done = len(records(live))
    label = live.studies / "labels/final/case_1.nii.gz"
    assert put_label(live, FIRST, "liver").status_code == 200
    first = file_sha256(label)
    assert put_label(live, SECOND, "tumour").status_code == 200
    second = file_sha256(label)
    assert label.read_bytes() == SECOND and names(live) == ["tumour"]
    assert live.ask("GET", "/datastore/label?label=case_1&tag=final").content == SECOND
    archive = live.ask("GET", "/datastore/dataset")
    assert archive.status_code == 200
    assert live.ask("DELETE", "/datastore/label?id=case_1&tag=final").status_code == 200
    assert not label.exists()
    # By the command, in another process, while the server runs.
    StudiesFolder(live.studies).restore_label("case_1", "final", None, By("Dr. Jones"))
    assert names(live) == ["tumour"] and label.read_bytes() == SECOND
    change = StudiesFolder(live.studies).history("case_1", "final")[1]
    StudiesFolder(live.studies).restore_label("case_1", "final", change.id, By("Dr. Jones"))
    assert names(live) == ["liver"] and label.read_bytes() == FIRST

    log = AuditLog(live.folder / "app/logs/audit", 2**29)
    found = records(live)[done:]
    assert [record["label"] for record in found] == ["submit", "overwrite", "export", "export", "delete"]
    pairs = [(record["sha256_before"], record["sha256"]) for record in found if record["label"] != "export"]
    assert pairs == [(None, first), (first, second), (second, None)]
    hashed = log.name_hash("case_1")
    assert [record["labels"] for record in found[2:4]] == 2 * [[{"image_id_hash": hashed, "sha256": second}]]
    assert found[2]["archive_sha256"] is None and len(found[3]["archive_sha256"]) == 64
    for record in found:
        assert record["address"] == "127.0.0.1" and record["user"] is None and record["time"].endswith("+00:00")
        assert "case_1" not in json.dumps(record) and "tumour" not in json.dumps(record)


def test_images_that_are_away_and_back(live: LiveApp, good_mask: str) -> None:
    assert put_label(live, FIRST, "liver").status_code == 200
    away = live.studies.rename(live.folder / "away")
    try:
        info = live.ask("GET", "/info/")
        assert info.status_code == 200 and "mount it again" in info.json()["datastore"]["problem"]
        for answer in (
            live.infer({"foreground": [CLICK]}),
            live.infer({"foreground": [CLICK], "save_label": True}),
            live.ask("GET", "/datastore/?output=all"),
            live.ask("GET", "/datastore/?output=train"),
            live.ask("GET", "/datastore/image?image=case_1"),
            live.ask("GET", "/datastore/label?label=case_1&tag=final"),
            live.ask("DELETE", "/datastore/label?id=case_1&tag=final"),
            live.ask("DELETE", "/datastore/image?id=case_1"),
            live.ask("GET", "/datastore/dataset"),
            live.ask("PUT", "/datastore/image/info?image=case_1", data={"info": "{}"}),
            live.ask("PUT", "/datastore/label/info?label=case_1&tag=final", data={"info": "{}"}),
            live.ask("PUT", "/datastore/image?image=new", files={"file": ("x.nii.gz", FIRST)}),
            live.ask("POST", "/activelearning/random", json={}),
            put_label(live, SECOND, "tumour"),
        ):
            check_refusal(live, answer, 503, ("without a restart",))
        # What needs no folder is served.
        assert live.upload("a.nii", nifti(voxels())).status_code == 200
        assert not live.studies.exists()
        live.studies.mkdir()
        check_refusal(live, put_label(live, SECOND, "tumour"), 503)
        assert not list(live.studies.iterdir())
        live.studies.rmdir()
    finally:
        away.rename(live.studies)
    assert "problem" not in live.ask("GET", "/info/").json()["datastore"]
    assert names(live) == ["liver"] and live.good_click() == good_mask
    assert put_label(live, SECOND, "tumour").status_code == 200 and names(live) == ["tumour"]


@pytest.mark.parametrize("content", [b"", b"{", b'{"objects": []}'])
def test_an_index_that_breaks_while_the_server_runs(live: LiveApp, good_mask: str, content: bytes) -> None:
    assert put_label(live, FIRST, "liver").status_code == 200
    index = live.ask("GET", "/datastore/?output=all").json()
    (live.studies / "datastore_v2.json").write_bytes(content)
    assert live.ask("GET", "/datastore/?output=all").json() == index
    assert names(live) == ["liver"] and live.good_click() == good_mask


def test_next_sample_is_noted_in_the_index_and_kept_with_the_images(live: LiveApp) -> None:
    (live.studies / "label_history/.workflow.sqlite").unlink(missing_ok=True)
    image = live.ask("POST", "/activelearning/random", json={"client_id": "me"}).json()["id"]
    (live.studies / "datastore_v2.json").write_bytes(b"")
    objects = live.ask("GET", "/datastore/?output=all").json()["objects"]
    assert objects[image]["image"]["info"]["strategy"]["random"]["client_id"] == "me"


def test_nothing_of_ours_is_taken_for_an_image_or_a_label(live: LiveApp) -> None:
    put_label(live, FIRST, "liver")
    put_label(live, SECOND, "tumour")
    objects = live.ask("GET", "/datastore/?output=all").json()["objects"]
    assert objects.keys() == {"case_1", "case_2", "four_d"}
    assert {tag for case in objects.values() for tag in case["labels"]} <= {"final", "original"}
    assert voxels().shape == SHAPE
    assert Path(objects["case_1"]["labels"]["final"]["info"]["name"]).suffix == ".gz"
