"""``/cases``, ``/labels``, ``/reviews``: a second reader through the whole application, and what training learns."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from monailabel.interfaces.utils.app import app_instance

from lib.trainers.train_task import FineTuneTask
from tests.support.hostile_images import nifti, packed
from tests.support.live_app import LiveApp, check_refusal, live_app
from tests.support.noise_site import SHAPE, copy_app, write_studies

pytestmark = pytest.mark.timeout(300)

INFO = {"label_info": [{"name": "lesion", "idx": 1}]}


def drawn(size: int) -> bytes:
    """A label of a block with so many voxels along the first axis."""
    voxels = np.zeros(SHAPE, np.uint8)
    voxels[20 : 20 + size, 16:24, 10:14] = 1
    return packed(nifti(voxels))


@pytest.fixture(autouse=True)
def _clean(live: LiveApp) -> Iterator[None]:
    yield
    for folder in ("labels", "label_history"):
        shutil.rmtree(live.studies / folder, ignore_errors=True)
    app_instance().datastore().refresh()


def save(live: LiveApp, author: str = "", size: int = 8, tag: str = "final", **more: Any) -> dict[str, Any]:
    """Saves a label of case_1; the entry of `GET /labels/` for it."""
    params = {**INFO, **({"author": author} if author else {}), **more}
    answer = requests.put(
        f"{live.url}/datastore/label",
        params={"image": "case_1", "tag": tag},
        files={"label": ("x.nii.gz", drawn(size))},
        data={"params": json.dumps(params)},
        timeout=60,
    )
    assert answer.status_code == 200, answer.text
    return next(one for one in labels(live) if one["tag"] == tag)


def labels(live: LiveApp, image: str = "case_1") -> list[dict[str, Any]]:
    return list(live.ask("GET", f"/labels/?image={image}").json()["labels"])


def review(live: LiveApp, label: dict[str, Any], decision: str, by: str, comment: str = "", **more: Any) -> Any:
    body = {"label": label["id"], "decision": decision, "by": by, "comment": comment, **more}
    return live.ask("POST", "/reviews/", json=body)


def reviewed(live: LiveApp, *arguments: Any, **more: Any) -> dict[str, Any]:
    answer = review(live, *arguments, **more)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def case(live: LiveApp, image: str = "case_1") -> dict[str, Any]:
    return next(one for one in live.ask("GET", "/cases/").json()["cases"] if one["id"] == image)


def state(live: LiveApp, label: dict[str, Any]) -> str:
    return next(one["state"] for one in labels(live) if one["id"] == label["id"])


def learned(train_on: str = "submitted") -> tuple[dict[str, str], list[str]]:
    """What the real trainer takes: by image the sha256 of its label; and sentences on what it leaves out."""
    app = app_instance()
    task: FineTuneTask = app._trainers["test"]
    chosen = FineTuneTask(
        task.preset, task._app_dir, task._registry, task._audit_log, None, workflow=app.workflow, train_on=train_on
    ).training_data(app.datastore())
    return {one.image_id: one.label_sha256 for one in (*chosen.train, *chosen.validation)}, list(chosen.skipped)


def test_a_label_is_submitted_accepted_and_taken_back(live: LiveApp) -> None:
    label = save(live, "Dr. Roe")
    assert label | {"saved_at": 0, "id": "", "sha256": ""} == {
        "id": "", "image": "case_1", "tag": "final", "state": "submitted", "author": "Dr. Roe", "saved_at": 0,
        "sha256": "", "parent": "", "series": "", "is_current": True, "review": None,
    }  # fmt: skip
    given = reviewed(live, label, "accept", "Dr. Poe", "fine")
    assert (given["label"], given["image"], given["by"]) == (label["id"], "case_1", "Dr. Poe")
    (now,) = labels(live)
    assert now["state"] == "accepted" and now["review"] == given
    assert (case(live)["state"], case(live)["label"], case(live)["by"]) == ("accepted", label["id"], "Dr. Roe")
    reviewed(live, label, "withdraw", "Dr. Poe")
    assert state(live, label) == case(live)["state"] == "submitted"
    decisions = live.ask("GET", "/reviews/?image=case_1").json()["reviews"]
    assert [one["decision"] for one in decisions] == ["accept", "withdraw"]
    assert live.ask("GET", f"/reviews/?label={label['id']}").json()["reviews"] == decisions
    assert live.ask("GET", "/reviews/?image=case_2").json()["reviews"] == []


def test_training_takes_what_was_not_refused_or_what_was_accepted_alone(live: LiveApp) -> None:
    label = save(live, "Dr. Roe")
    assert learned()[0] == {"case_1": label["sha256"]}
    taken, left = learned("accepted")
    assert taken == {} and "nobody has accepted it" in left[0]
    reviewed(live, label, "accept", "Dr. Poe")
    assert learned()[0] == learned("accepted")[0] == {"case_1": label["sha256"]}
    reviewed(live, label, "reject", "Dr. Poe", "Seen again: the tail is missing.")
    for train_on in ("submitted", "accepted"):
        taken, left = learned(train_on)
        assert taken == {} and left == ["The label of case_1 is left out: it was rejected."]


def test_a_rejected_case_is_annotated_again(live: LiveApp) -> None:
    label = save(live, "Dr. Roe")
    reviewed(live, label, "reject", "Dr. Poe", "The tail is missing.")
    assert (case(live)["state"], case(live)["comment"]) == ("rejected", "The tail is missing.")
    given = {live.ask("POST", "/activelearning/random", json={"client_id": "anna"}).json()["id"] for _ in range(3)}
    assert "case_1" in given
    again = save(live, "Dr. Roe", size=9)
    assert again["state"] == case(live)["state"] == "submitted" and case(live)["comment"] == ""
    assert learned()[0] == {"case_1": again["sha256"]}
    former = next(one for one in labels(live) if not one["is_current"])
    assert (former["id"], former["state"], former["author"]) == (label["id"], "rejected", "Dr. Roe")
    # The very voxels that were rejected are the label that was rejected.
    assert save(live, "Dr. Roe")["state"] == "rejected"


def test_a_correction_in_one_step_is_a_new_label_with_its_parent(live: LiveApp) -> None:
    first = save(live, "Dr. Roe")
    second = save(live, "Dr. Poe", size=9, parent=first["id"])
    assert second["parent"] == first["id"] and second["state"] == "submitted"
    assert state(live, first) == "corrected"
    (decision,) = live.ask("GET", f"/reviews/?label={first['id']}").json()["reviews"]
    assert (decision["decision"], decision["by"], decision["new_label"]) == ("correct", "Dr. Poe", second["id"])
    check_refusal(live, review(live, second, "accept", "dr.  poe"), 403, ("own", "--conf own_review yes"))
    reviewed(live, second, "accept", "Dr. Roe")
    assert learned("accepted")[0] == {"case_1": second["sha256"]}


def test_a_correction_under_a_tag_of_its_own_takes_the_place_of_the_first(live: LiveApp) -> None:
    first, second = save(live, "Dr. Roe"), save(live, "Dr. Poe", size=9, tag="version_1")
    assert learned()[0] == {"case_1": first["sha256"]}
    given = reviewed(live, first, "correct", "Dr. Poe", "Tail added.", new_label=second["id"])
    assert (given["decision"], given["comment"]) == ("correct", "Tail added.")
    assert state(live, first) == "corrected" and learned()[0] == {"case_1": second["sha256"]}
    assert next(one for one in labels(live) if one["tag"] == "version_1")["parent"] == first["id"]
    assert len(live.ask("GET", "/reviews/").json()["reviews"]) == 1
    reviewed(live, second, "reject", "Dr. Roe", "Worse.")
    taken, left = learned()
    assert taken == {} and case(live)["state"] == "rejected"
    assert left == ["The label of case_1 is left out: it was rejected."]


def test_an_accepted_version_is_learned_from_in_place_of_the_final_label(live: LiveApp) -> None:
    first, second = save(live, "Dr. Roe"), save(live, "Dr. Poe", size=9, tag="version_1")
    reviewed(live, second, "accept", "Dr. Roe")
    assert learned()[0] == learned("accepted")[0] == {"case_1": second["sha256"]}
    reviewed(live, second, "withdraw", "Dr. Roe")
    assert learned()[0] == {"case_1": first["sha256"]}


def test_a_label_that_was_replaced_meanwhile_is_not_reviewed(live: LiveApp) -> None:
    first = save(live, "Dr. Roe")
    second = save(live, "Dr. Roe", size=9)
    check_refusal(live, review(live, first, "accept", "Dr. Poe"), 409, ("replaced", "/labels/"))
    assert state(live, second) == "submitted"


def test_what_cannot_be_meant_is_refused(live: LiveApp) -> None:
    label, draft = save(live, "Dr. Roe"), save(live, "Dr. Roe", size=7, tag="draft")
    check_refusal(live, review(live, {"id": "0" * 32}, "accept", "x"), 404, ("0" * 32, "/labels/"))
    check_refusal(live, review(live, {"id": "../x"}, "accept", "x"), 422)
    check_refusal(live, review(live, draft, "accept", "x"), 409, ("draft",))
    check_refusal(live, review(live, label, "reject", "x"), 422, ("comment",))
    check_refusal(live, review(live, label, "praise", "x"), 422)
    check_refusal(live, review(live, label, "accept", " "), 422, ("name",))
    check_refusal(live, review(live, label, "correct", "x"), 422, ("new_label",))
    for other in (label["id"], draft["id"], "0" * 32):
        check_refusal(live, review(live, label, "correct", "x", new_label=other), 422, ("new_label",))
    check_refusal(live, live.ask("GET", "/labels/?image=nope"), 404, ("nope",))
    check_refusal(live, live.ask("PUT", "/cases/case_1/mark", json={"mark": "odd"}), 422)
    check_refusal(live, live.ask("PUT", "/cases/nope/mark", json={"mark": None}), 404, ("nope",))
    assert live.ask("GET", "/reviews/").json()["reviews"] == []


def test_a_case_is_skipped_reported_and_taken_back(live: LiveApp) -> None:
    def mark(mark: str | None, comment: str = "") -> dict[str, Any]:
        answer = live.ask("PUT", "/cases/case_1/mark", json={"mark": mark, "by": "Dr. Roe", "comment": comment})
        assert answer.status_code == 200, answer.text
        assert answer.json() == case(live)
        return dict(answer.json())

    found = mark("skipped", "too noisy")
    assert (found["state"], found["by"], found["comment"]) == ("skipped", "Dr. Roe", "too noisy")
    label = save(live, "Dr. Poe")
    assert case(live)["state"] == "submitted" and learned()[0] == {"case_1": label["sha256"]}
    assert mark("problem", "another patient")["state"] == "problem"
    assert learned() == ({}, ["The label of case_1 is left out: its case is marked as a problem."])
    assert mark(None)["state"] == "submitted" and learned()[0] == {"case_1": label["sha256"]}


def test_a_case_in_progress_says_who_and_until_when(live: LiveApp) -> None:
    assert case(live, "case_2")["in_progress"] is None
    live.ask("PUT", "/cases/case_2/open", json={"by": "Dr. Roe", "client": "a"})
    held = case(live, "case_2")["in_progress"]
    assert held["by"] == ["Dr. Roe"] and held["until"] > 1e9
    given = live.ask("POST", "/activelearning/random", json={"client_id": "anna"}).json()["id"]
    later = case(live, given)["in_progress"]
    assert later["by"] and later["until"] > held["until"] + 600


def test_labels_are_not_lost_with_the_database_nor_are_their_newest_decisions(live: LiveApp) -> None:
    first = save(live, "Dr. Roe")
    reviewed(live, first, "reject", "Dr. Poe", "The tail is missing.")
    second = save(live, "Dr. Poe", size=9, parent=first["id"])
    reviewed(live, second, "withdraw", "Dr. Roe")
    reviewed(live, second, "accept", "Dr. Roe", "good")
    before = labels(live)
    (live.studies / "label_history/.workflow.sqlite").unlink()
    after = labels(live)
    for one in (*before, *after):
        (one["review"] or {}).pop("at", None)
    assert after == before
    decisions = [one["decision"] for one in live.ask("GET", "/reviews/").json()["reviews"]]
    assert sorted(decisions) == ["accept", "correct"], "earlier decisions are lost, as is said"
    assert learned("accepted")[0] == {"case_1": second["sha256"]}


def test_labels_that_come_and_go_by_hand_are_followed(live: LiveApp) -> None:
    label = save(live, "Dr. Roe")
    reviewed(live, label, "accept", "Dr. Poe")
    file = live.studies / "labels/final/case_1.nii.gz"
    content = file.read_bytes()
    file.unlink()
    assert [one["is_current"] for one in labels(live)] == [] and case(live)["state"] == "new"
    file.write_bytes(drawn(12))
    (found,) = labels(live)
    assert found["state"] == "submitted" and found["id"] != label["id"]
    file.write_bytes(content)
    assert state(live, label) == "accepted"


def test_of_a_label_without_a_name_nobody_can_tell(live: LiveApp) -> None:
    reviewed(live, save(live), "accept", "Dr. Roe")
    # 3D Slicer's client sends its name under another key.
    label = save(live, size=9, client_id="Dr. Roe")
    check_refusal(live, review(live, label, "accept", "Dr. Roe"), 403)


def test_looking_writes_nothing(live: LiveApp) -> None:
    save(live, "Dr. Roe")
    before = live.files()
    for address in ("/cases/", "/labels/", "/labels/?image=case_1", "/reviews/"):
        assert live.ask("GET", address).status_code == 200
    assert live.files() == before


def test_openapi_describes_all_of_it(live: LiveApp) -> None:
    document = live.ask("GET", "/openapi.json").json()
    for path, model in (("/cases/", "Case"), ("/labels/", "ALabel"), ("/reviews/", "AReview")):
        assert path in document["paths"]
        properties = document["components"]["schemas"][model]["properties"]
        assert all("title" in one or "anyOf" in one or "$ref" in one for one in properties.values())
    assert document["components"]["schemas"]["Case"]["properties"]["state"]["enum"]


# MONAILabelReviewer, as its code sends requests (plugins/slicer/MONAILabelReviewer/MONAILabelReviewerLib).


def put_meta(live: LiveApp, tag: str, status: str, by: str, comment: str = "", level: str = "") -> requests.Response:
    """``MonaiServerREST.updateLabelInfo``."""
    meta = {"status": status, "approvedBy": by, "level": level, "comment": comment, "editTime": 1_700_000_000}
    return requests.put(
        f"{live.url}/datastore/updatelabelinfo?label=case_1&tag={tag}",
        headers={"Content-Type": "application/x-www-form-urlencoded", "accept": "application/json"},
        data={"params": json.dumps({**INFO, "segmentationMeta": meta})},
        timeout=60,
    )


def read_meta(live: LiveApp) -> dict[str, dict[str, Any]]:
    """By tag, as ``JsonParser`` reads it: it fails where a key is missing, or a tag has no number."""
    found = {}
    for tag, label in live.ask("GET", "/datastore/?output=all").json()["objects"]["case_1"]["labels"].items():
        if meta := label["info"].get("segmentationMeta"):
            found[tag] = {key: meta[key] for key in ("status", "level", "approvedBy", "comment", "editTime")}
            assert tag in ("final", "original") or int(tag[tag.index("_") + 1 :])
    return found


def test_what_the_reviewer_extension_says_counts(live: LiveApp) -> None:
    label = save(live, "Dr. Roe")
    assert put_meta(live, "final", "approved", "Dr. Poe", "fine", "easy").status_code == 200
    (now,) = labels(live)
    assert now["state"] == "accepted" and (now["review"]["by"], now["review"]["comment"]) == ("Dr. Poe", "fine")
    assert now["review"]["at"] == 1_700_000_000
    assert put_meta(live, "final", "flagged", "Dr. Poe", "no tail").status_code == 200
    assert case(live)["state"] == "rejected" and case(live)["comment"] == "no tail" and learned()[0] == {}
    # It sends the same once more whenever somebody goes to the next image.
    assert put_meta(live, "final", "flagged", "Dr. Poe", "no tail").status_code == 200
    assert put_meta(live, "final", "", "Dr. Poe").status_code == 200
    assert state(live, label) == "submitted"
    decisions = [one["decision"] for one in live.ask("GET", "/reviews/").json()["reviews"]]
    assert decisions == ["accept", "reject", "withdraw"]


def test_the_reviewer_extension_sees_what_others_decide(live: LiveApp) -> None:
    label = save(live, "Dr. Roe")
    assert read_meta(live) == {}
    put_meta(live, "final", "segmented", "", level="hard")
    reviewed(live, label, "reject", "Dr. Poe", "no tail")
    meta = read_meta(live)["final"]
    assert meta.pop("editTime") > 1_700_000_000
    assert meta == {"status": "flagged", "level": "hard", "approvedBy": "Dr. Poe", "comment": "no tail"}
    reviewed(live, label, "accept", "Dr. Poe")
    assert read_meta(live)["final"]["status"] == "approved"
    info = live.ask("GET", "/datastore/label/info?label=case_1&tag=final").json()
    assert info["label_info"] == INFO["label_info"] and info["author"] == "Dr. Roe"


def test_a_version_that_the_reviewer_drew_is_his(live: LiveApp) -> None:
    """``MonaiServerREST.saveLabel``, with *approved* pressed while he draws."""
    save(live, "Dr. Roe")
    meta = {"status": "approved", "approvedBy": "Dr. Poe", "level": "easy", "comment": "tail added", "editTime": 1}
    answer = requests.put(
        f"{live.url}/datastore/label?image=case_1&tag=version_1",
        data={"params": json.dumps({**INFO, "segmentationMeta": meta})},
        files={"label": ("case_1.nii.gz", drawn(9))},
        timeout=60,
    )
    assert answer.status_code == 200, answer.text
    version = next(one for one in labels(live) if one["tag"] == "version_1")
    assert (version["author"], version["state"]) == ("Dr. Poe", "submitted")
    assert read_meta(live)["version_1"]["status"] == "segmented"
    check_refusal(live, put_meta(live, "version_1", "approved", "Dr. Poe"), 403, ("own",))
    assert put_meta(live, "version_1", "approved", "Dr. Roe").status_code == 200
    assert learned("accepted")[0] == {"case_1": version["sha256"]}
    # It withdraws its approval of one version when it approves another.
    assert put_meta(live, "version_1", "", "Dr. Roe").status_code == 200
    assert put_meta(live, "final", "approved", "Dr. Poe").status_code == 200
    assert learned("accepted")[0] == {"case_1": next(o for o in labels(live) if o["tag"] == "final")["sha256"]}
    assert live.ask("DELETE", "/datastore/label?id=case_1&tag=version_1").status_code == 200
    assert [one["tag"] for one in labels(live) if one["is_current"]] == ["final"]


@pytest.mark.parametrize("meta", [5, [], {"status": 5}, {"comment": None}])
def test_what_would_stop_the_reviewer_extension_is_refused(live: LiveApp, meta: object) -> None:
    save(live)
    data = {"params": json.dumps({"segmentationMeta": meta})}
    answer = live.ask("PUT", "/datastore/updatelabelinfo?label=case_1&tag=final", data=data)
    check_refusal(live, answer, 422, ("segmentationMeta",))
    answer = live.ask(
        "PUT", "/datastore/label?image=case_1&tag=version_1", data=data, files={"label": ("x.nii.gz", drawn(3))}
    )
    check_refusal(live, answer, 422, ("segmentationMeta",))


def test_keys_that_it_leaves_out_are_filled_in(live: LiveApp) -> None:
    save(live)
    data = {"params": json.dumps({"segmentationMeta": {"status": "flagged"}})}
    assert live.ask("PUT", "/datastore/updatelabelinfo?label=case_1&tag=final", data=data).status_code == 200
    assert read_meta(live)["final"] == {
        "status": "flagged",
        "level": "",
        "approvedBy": "",
        "comment": "",
        "editTime": "",
    }


def test_one_s_own_label_where_the_server_allows_it(tmp_path: Path) -> None:
    conf = {"own_review": "yes", "train_on": "accepted"}
    with live_app(copy_app(tmp_path), write_studies(tmp_path / "studies"), tmp_path, conf=conf) as live:
        label = save(live, "Dr. Roe")
        datastore = app_instance().datastore()
        task: FineTuneTask = app_instance()._trainers["test"]
        assert task.training_data(datastore).train == []
        reviewed(live, label, "accept", "Dr. Roe")
        assert [one.image_id for one in task.training_data(datastore).train] == ["case_1"]


def test_a_server_for_reviews_alone_has_no_model(tmp_path: Path) -> None:
    app_dir = copy_app(tmp_path)
    # Without weights: whatever read them would fail.
    shutil.rmtree(app_dir / "weights")
    conf = {"review_only": "yes"}
    with live_app(app_dir, write_studies(tmp_path / "studies"), tmp_path, conf=conf) as live:
        info = live.ask("GET", "/info/").json()
        assert info["models"] == info["trainers"] == {}
        label = save(live, "Dr. Roe")
        assert live.ask("GET", "/datastore/image?image=case_1").status_code == 200
        assert live.ask("GET", "/datastore/label?label=case_1&tag=final").content == drawn(8)
        reviewed(live, label, "accept", "Dr. Poe")
        assert case(live)["state"] == "accepted"
        assert live.ask("POST", "/activelearning/random", json={}).json()["id"] != "case_1"
        check_refusal(live, live.infer({"foreground": [[8, 8, 8]]}, model="test"), 404, ("--review-only",))
        answer = live.ask("POST", "/train/test", json={})
        assert answer.status_code == 404, answer.text
        assert live.ask("GET", "/versions/").json() == {"presets": {}}
