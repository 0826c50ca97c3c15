"""``/cases``: the list of images with their state, and who has one open."""

import json
from pathlib import Path

import numpy as np
import pytest
import requests
from monailabel.interfaces.utils.app import app_instance

from tests.support.hostile_images import nifti, packed
from tests.support.live_app import LiveApp, check_refusal
from tests.support.noise_site import SHAPE

LESION = np.zeros(SHAPE, np.uint8)
LESION[20:28, 16:24, 10:14] = 1


def cases(live: LiveApp, client: str = "") -> dict[str, dict[str, object]]:
    answer = live.ask("GET", f"/cases/?client={client}")
    assert answer.status_code == 200
    return {case["id"]: case for case in answer.json()["cases"]}


def save(live: LiveApp, tag: str, author: str) -> None:
    params = {"label_info": [{"name": "lesion", "idx": 1}], "author": author}
    answer = requests.put(
        f"{live.url}/datastore/label",
        params={"image": "case_1", "tag": tag},
        files={"label": ("x.nii.gz", packed(nifti(LESION)))},
        data={"params": json.dumps(params)},
        timeout=60,
    )
    assert answer.status_code == 200, answer.text


def test_the_state_is_that_of_the_newest_label(live: LiveApp) -> None:
    found = cases(live)
    assert {"case_1", "case_2"} <= found.keys()
    assert (found["case_1"]["state"], found["case_1"]["by"]) == ("new", "")
    for tag, author, state in (("draft", "Dr. Roe", "draft"), ("final", "Dr. Poe", "submitted")):
        save(live, tag, author)
        found = cases(live)
        assert (found["case_1"]["state"], found["case_1"]["by"]) == (state, author)
        assert found["case_2"]["state"] == "new"


def test_who_has_an_image_open_is_said_to_others(live: LiveApp) -> None:
    answer = live.ask("PUT", "/cases/case_2/open", json={"by": "Dr. Roe", "client": "a"})
    assert answer.json() == {"open_by": []}
    answer = live.ask("PUT", "/cases/case_2/open", json={"by": "Dr. Poe", "client": "b"})
    assert answer.json() == {"open_by": ["Dr. Roe"]}
    assert cases(live, "a")["case_2"]["open_by"] == ["Dr. Poe"]
    assert cases(live, "a")["case_1"]["open_by"] == []


@pytest.mark.parametrize(
    "body", [{}, {"client": ""}, {"client": "x" * 65}, {"client": "a", "by": 5}, {"client": "a", "x": 1}]
)
def test_what_cannot_be_meant_is_refused(live: LiveApp, body: dict[str, object]) -> None:
    check_refusal(live, live.ask("PUT", "/cases/case_1/open", json=body), 422, ())


def test_an_image_that_is_not_here_is_refused(live: LiveApp) -> None:
    check_refusal(live, live.ask("PUT", "/cases/nope/open", json={"client": "a"}), 404, ("nope",))


def test_a_folder_has_no_dicom_seg(live: LiveApp) -> None:
    image = next(iter(cases(live)))
    answer = live.ask("GET", f"/cases/{image}/segmentations")
    assert answer.status_code == 200 and answer.json() == {"segmentations": []}
    check_refusal(live, live.ask("GET", f"/cases/{image}/segmentations/1.2.3"), 404, ("folder",))
    check_refusal(live, live.ask("GET", "/cases/another/segmentations"), 404, ("another",))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "outcome"), [("none", "taken"), ("edge", "corrected"), ("elsewhere", "replaced"), ("more", "corrected")]
)
def test_what_becomes_of_a_proposal_is_kept_and_recorded(
    live: LiveApp, tmp_path: Path, change: str, outcome: str
) -> None:
    app = app_instance()
    file = tmp_path / "mask.nii.gz"
    file.write_bytes(packed(nifti(LESION)))
    predicted = {"dice": 0.81, "at_least": 0.7, "share": 0.9, "patients": 24}
    proposal = {"structure": "lesion", "version": "v", "file": "f", "predicted_dice": predicted, "at": 5.0}
    info = {"label_info": [{"name": "lesion", "idx": 1}], "proposal": proposal}
    app.datastore().save_label("case_2", str(file), "original", info)
    assert cases(live)["case_2"]["proposal"] == {"structure": "lesion", "predicted_dice": predicted}
    assert cases(live)["case_1"]["proposal"] is None
    shown = live.infer({"label": "lesion"}, image="case_2", model="proposal").json()["warnings"]
    words = "Dice is predicted 0.81: at least 0.70 in 9 of 10 cases like the 24 labelled here"
    assert any("nobody has looked at" in text and words in text for text in shown)
    mask = LESION.copy()
    mask[{"none": np.s_[:0], "edge": np.s_[20], "elsewhere": np.s_[:], "more": np.s_[:0]}[change]] = 0
    mask[{"elsewhere": np.s_[5:9, 5:9, 3:6]}.get(change, np.s_[:0])] = 1
    names = [{"name": "lesion", "idx": 1}]
    if change == "more":
        mask[5:9, 5:9, 3:6] = 2
        names.append({"name": "cyst", "idx": 2})
    answer = requests.put(
        f"{live.url}/datastore/label",
        params={"image": "case_2", "tag": "final"},
        files={"label": ("x.nii.gz", packed(nifti(mask)))},
        # What a client says of it counts for nothing.
        data={"params": json.dumps({"label_info": names, "proposal": {"outcome": "corrected", "dice": 7}})},
        timeout=60,
    )
    assert answer.status_code == 200, answer.text
    kept = app.datastore().get_label_info("case_2", "final")["proposal"]
    assert (kept["outcome"], kept["predicted_dice"]) == (outcome, predicted) and 0 <= kept["dice"] <= 1
    live.ask("PUT", "/datastore/label/info?label=case_2&tag=final", data={"info": json.dumps({"proposal": {}})})
    assert app.datastore().get_label_info("case_2", "final")["proposal"] == kept
    records = [record for record in app.auditor._log.records() if record.get("tag") == "final" and "label" in record]
    assert records[-1]["proposal"] == outcome
    assert cases(live)["case_2"]["proposal"] is None, "it has a label"
    assert live.ask("DELETE", "/datastore/label?id=case_2&tag=final").status_code == 200
    assert live.ask("DELETE", "/datastore/label?id=case_2&tag=original").status_code == 200


@pytest.mark.slow
def test_a_proposal_that_was_rejected_is_offered_to_nobody(live: LiveApp, tmp_path: Path) -> None:
    app = app_instance()
    file = tmp_path / "mask.nii.gz"
    file.write_bytes(packed(nifti(LESION)))
    proposal = {"structure": "lesion", "version": "v", "file": "f", "predicted_dice": None, "at": 5.0}
    info = {"label_info": [{"name": "lesion", "idx": 1}], "proposal": proposal}
    app.datastore().save_label("case_2", str(file), "original", info)
    stored = Path(app.datastore().get_label_uri("case_2", "original")).read_bytes()
    answer = live.ask("PUT", "/cases/case_2/proposal", json={"rejected": True, "by": "Dr. Roe"})
    assert answer.status_code == 200 and answer.json()["proposal"] is None and answer.json()["state"] == "new"
    assert cases(live)["case_2"]["proposal"] is None
    shown = live.infer({"label": "lesion"}, image="case_2", model="proposal").json()
    assert any(text.startswith("no-proposal: ") for text in shown["warnings"])
    # Nothing of it is lost, and the records say who did it.
    assert Path(app.datastore().get_label_uri("case_2", "original")).read_bytes() == stored
    kept = app.datastore().get_label_info("case_2", "original")["proposal"]
    assert kept == {**proposal, "outcome": "rejected", "by": "Dr. Roe"}
    records = [one for one in app.auditor._log.records() if one.get("tag") == "original" and one.get("label")]
    assert (records[-1]["label"], records[-1]["proposal"]) == ("describe", "rejected")
    # A mask that comes near it all the same is not its correction.
    mask = LESION.copy()
    mask[20] = 0
    sent = requests.put(
        f"{live.url}/datastore/label",
        params={"image": "case_2", "tag": "final"},
        files={"label": ("x.nii.gz", packed(nifti(mask)))},
        data={"params": json.dumps({"label_info": [{"name": "lesion", "idx": 1}]})},
        timeout=60,
    )
    assert sent.status_code == 200, sent.text
    assert app.datastore().get_label_info("case_2", "final")["proposal"]["outcome"] == "replaced"
    assert live.ask("DELETE", "/datastore/label?id=case_2&tag=final").status_code == 200
    answer = live.ask("PUT", "/cases/case_2/proposal", json={"rejected": False})
    assert answer.json()["proposal"] == {"structure": "lesion", "predicted_dice": None}
    assert live.ask("DELETE", "/datastore/label?id=case_2&tag=original").status_code == 200


def test_there_must_be_a_proposal_to_reject(live: LiveApp) -> None:
    check_refusal(live, live.ask("PUT", "/cases/case_1/proposal", json={"rejected": True}), 404, ("case_1", "proposed"))
    check_refusal(live, live.ask("PUT", "/cases/case_1/proposal", json={"rejected": "no idea"}), 422, ())
    check_refusal(live, live.ask("PUT", "/cases/nope/proposal", json={"rejected": True}), 404, ("nope",))
