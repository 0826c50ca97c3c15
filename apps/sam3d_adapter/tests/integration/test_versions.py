"""Versions of the weights over HTTP, and the clicks that they answer."""

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from lib.audit.log import AuditLog
from lib.audit.replay import ReplayError, replay
from lib.files.checksums import file_sha256
from lib.registry.archive import import_version
from lib.registry.registry import Registry
from lib.registry.version import Facts
from lib.registry.versions import Versions
from tests.support.live_app import LiveApp, check_refusal
from tests.support.noise_site import CLICK, SECOND_CLICK
from tests.support.trained import write_trained

JONES = {"by": "Dr. Jones", "reason": "better here"}


@pytest.fixture(scope="module")
def versions(live: LiveApp) -> Versions:
    """As a process beside the server has them."""
    return Registry(live.folder / "app/model").of("test", "test")


@pytest.fixture(scope="module")
def trained(live: LiveApp, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder, base = tmp_path_factory.mktemp("trained"), live.folder / "app/weights/test_base.safetensors"
    return [write_trained(base, folder / f"{seed}.safetensors", seed=seed) for seed in range(2)]


@pytest.fixture
def ids(versions: Versions, trained: list[Path]) -> Iterator[list[str]]:
    """Two versions; afterwards all is as if there had been none."""
    yield [versions.add(path, Facts("training", metrics={"dice": 0.5})).id for path in trained]
    shutil.rmtree(versions.folder)


def click(live: LiveApp, model: str = "test", **params: Any) -> dict[str, Any]:
    answer = live.infer({"foreground": [CLICK], **params}, model=model)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def post(live: LiveApp, address: str, body: Any = JONES) -> requests.Response:
    return live.ask("POST", address, json=body)


def test_what_is_published_answers_the_next_click_and_a_rollback_brings_back_the_same_mask(
    live: LiveApp, versions: Versions, ids: list[str]
) -> None:
    first, other = click(live), click(live, "percentiles")
    assert first["version"] == other["version"] == "shipped"
    masks = {"shipped": first["mask_hash"]}
    for name in ids:
        answer = post(live, f"/versions/test/{name}/publish")
        assert answer.status_code == 200 and answer.json()["served"] == name, answer.text
        now = click(live)
        assert now["version"] == name and now["model_version"] == versions.get(name).sha256
        assert now["latency_ms"]["weights"] < 1000
        masks[name] = now["mask_hash"]
        assert click(live, "percentiles")["mask_hash"] == other["mask_hash"]
    assert len(set(masks.values())) == 3
    for name in (ids[0], "shipped"):
        answer = post(live, "/versions/test/roll_back")
        assert answer.json()["served"] == name, answer.text
        again = click(live)
        assert (again["version"], again["mask_hash"]) == (name, masks[name])
        assert click(live, "percentiles")["mask_hash"] == other["mask_hash"]
    assert first["model_version"] == again["model_version"]
    event = versions.history()[0].event
    assert event is not None and (event.by, event.reason) == ("Dr. Jones", "better here")


def test_what_another_process_publishes_is_served(live: LiveApp, versions: Versions, ids: list[str]) -> None:
    for name in (ids[0], "shipped", ids[1]):
        versions.publish(name, "training")
        assert click(live)["version"] == name
        assert live.ask("GET", "/versions/test").json()["served"] == name
        assert live.ask("GET", "/info/").json()["models"]["test"]["version"] == name


def test_every_answer_is_of_one_version_while_they_change(live: LiveApp, versions: Versions, ids: list[str]) -> None:
    masks = {}
    for name in ("shipped", *ids):
        versions.publish(name, "me")
        masks[name] = [click(live)["mask_hash"], click(live, foreground=[CLICK, SECOND_CLICK])["mask_hash"]]

    def ask(number: int) -> dict[str, Any]:
        return click(live, foreground=[CLICK, SECOND_CLICK][: 1 + number % 2]) | {"number": number}

    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(ask, number) for number in range(16)]
        while not all(answer.done() for answer in asked):
            for name in (*ids, "shipped"):
                versions.publish(name, "me")
    answers = [future.result() for future in asked]
    for answer in answers:
        assert answer["mask_hash"] == masks[answer["version"]][answer["number"] % 2]
    assert len({answer["version"] for answer in answers}) > 1


def test_what_there_is_can_be_seen(live: LiveApp, versions: Versions, ids: list[str]) -> None:
    versions.refuse(ids[0], ["Dice fell."])
    versions.publish(ids[1], "gate", "Dice rose.", is_best=True)
    presets = live.ask("GET", "/versions/").json()["presets"]
    assert presets["test"] == {"size": "test", "served": ids[1], "best": ids[1], "versions": 2, "problem": None}
    assert presets["percentiles"]["served"] == "shipped"
    listed = live.ask("GET", "/versions/test").json()
    assert [(v["id"], v["state"]) for v in listed["versions"]] == [(ids[0], "refused"), (ids[1], "served")]
    assert listed["previous"] == ["shipped"] and [e["action"] for e in listed["history"]] == ["refused", "published"]
    one = live.ask("GET", f"/versions/test/{ids[0]}").json()
    assert one["metrics"] == {"dice": 0.5} and one["history"][0]["reason"] == "Dice fell."
    assert live.ask("GET", "/versions/test/shipped").json()["state"] == "shipped"
    for address in ("/versions/", "/versions/test", f"/versions/test/{ids[0]}"):
        assert str(live.folder) not in live.ask("GET", address).text


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "by"),
        ({"by": ""}, "name of who"),
        ({"by": "  ", "reason": "x"}, "name of who"),
        ({"by": 3}, "by"),
        ({"by": "x" * 200}, "name of who"),
        ({"by": "me", "is_best": True}, "is_best"),
        ([], "body"),
    ],
)
def test_nothing_is_published_without_a_name(
    live: LiveApp, versions: Versions, ids: list[str], body: Any, words: str
) -> None:
    for address in (f"/versions/test/{ids[0]}/publish", "/versions/test/roll_back"):
        check_refusal(live, post(live, address, body), 422, (words,))
    assert versions.history() == []


def test_unknown_names_are_told_with_the_known_ones(live: LiveApp, ids: list[str]) -> None:
    for method, end in (("GET", ""), ("GET", "/export"), ("POST", "/publish")):
        answer = live.ask(method, f"/versions/test/v0009-00000000{end}", json=JONES)
        check_refusal(live, answer, 404, ("shipped", *ids))
        check_refusal(live, live.ask(method, f"/versions/nonsense/{ids[0]}{end}", json=JONES), 404, ("percentiles",))
    check_refusal(live, live.ask("GET", "/versions/nonsense"), 404, ("percentiles",))
    check_refusal(live, post(live, "/versions/nonsense/roll_back"), 404, ("percentiles",))
    for name in ("..%2f..", "a%00b", "%2e%2e", "v0001%20"):
        assert live.ask("GET", f"/versions/test/{name}").status_code in (404, 422)
        assert live.ask("GET", f"/versions/{name}/{ids[0]}").status_code in (404, 422)


def test_what_cannot_be_served_is_not_published(live: LiveApp, versions: Versions, ids: list[str]) -> None:
    click(live)
    check_refusal(live, post(live, "/versions/test/roll_back"), 409, ("nothing that was served before",))
    versions.weights(ids[0]).write_bytes(b"torn")
    check_refusal(live, post(live, f"/versions/test/{ids[0]}/publish"), 409)
    # Whole, but trained on another base.
    other = write_trained_elsewhere(versions.folder.parent)
    strange = versions.add(other, Facts("me")).id
    check_refusal(live, post(live, f"/versions/test/{strange}/publish"), 409, ("base",))
    assert versions.served() is None and click(live)["version"] == "shipped"


def write_trained_elsewhere(folder: Path) -> Path:
    from tests.support.weights import write_test_weights

    return write_test_weights(folder / "elsewhere", seed=9)[1]


def test_a_damaged_version_is_told_and_the_one_before_answers(
    live: LiveApp, versions: Versions, ids: list[str]
) -> None:
    versions.publish(ids[0], "me")
    kept = click(live)
    versions.publish(ids[1], "me")
    versions.weights(ids[1]).write_bytes(b"torn")
    answer = click(live)
    assert (answer["version"], answer["mask_hash"]) == (ids[0], kept["mask_hash"])
    assert any(ids[1] in warning and ids[0] in warning for warning in answer["warnings"])
    info = live.ask("GET", "/info/")
    assert "another version answers" in info.json()["models"]["test"]["description"]
    assert str(live.folder) not in info.json()["models"]["test"]["description"] + str(answer["warnings"])


def test_a_later_release_s_files_are_left_alone(live: LiveApp, versions: Versions, ids: list[str]) -> None:
    versions.publish(ids[0], "me")
    (versions.folder / "served.json").write_text('{"format": 99}')
    check_refusal(live, post(live, f"/versions/test/{ids[1]}/publish"), 503, ("later release",))
    told = click(live)["warnings"]
    assert any(warning.startswith("other-version: The published model could not be used") for warning in told)
    assert live.ask("GET", "/versions/").status_code == 200
    check_refusal(live, live.ask("GET", "/versions/test"), 503, ("later release",))


def test_export_can_be_imported_elsewhere(live: LiveApp, versions: Versions, ids: list[str], tmp_path: Path) -> None:
    answer = live.ask("GET", f"/versions/test/{ids[0]}/export")
    assert answer.status_code == 200 and answer.headers["content-type"] == "application/zip"
    (tmp_path / "version.zip").write_bytes(answer.content)
    weights = live.folder / "app/weights"
    shipped = (weights / "test_base.safetensors", weights / "test_weights.safetensors")
    got = import_version(Registry(tmp_path / "there").of("test", "test"), tmp_path / "version.zip", "me", shipped)
    assert got.sha256 == versions.get(ids[0]).sha256
    assert live.left_behind() == []


def test_who_is_no_administrator_may_look_and_no_more(
    live: LiveApp, versions: Versions, ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from monailabel.config import settings
    from monailabel.endpoints.user import auth

    user = auth.User(username="reader", roles=[settings.MONAI_LABEL_AUTH_ROLE_USER])
    monkeypatch.setattr(auth, "from_token", lambda token: user)
    monkeypatch.setattr(settings, "MONAI_LABEL_AUTH_ENABLE", True)
    head = {"headers": {"Authorization": "Bearer x"}}
    assert live.ask("GET", "/versions/test", **head).status_code == 200
    for method, address in (
        ("POST", f"/versions/test/{ids[0]}/publish"),
        ("POST", "/versions/test/roll_back"),
        ("GET", f"/versions/test/{ids[0]}/export"),
    ):
        assert live.ask(method, address, json=JONES, **head).status_code in (401, 403)
    assert versions.served() is None
    user.roles.append(settings.MONAI_LABEL_AUTH_ROLE_ADMIN)
    assert live.ask("POST", f"/versions/test/{ids[0]}/publish", json=JONES, **head).status_code == 200
    assert versions.history()[-1].event.by == "Dr. Jones (reader)"  # type: ignore[union-attr]


def test_an_old_answer_can_be_computed_again_until_its_version_is_pruned(
    live: LiveApp, versions: Versions, ids: list[str]
) -> None:
    app = live.folder / "app"
    log, image = AuditLog(app / "logs/audit", 2**30), live.studies / "case_1.nii.gz"
    versions.publish(ids[0], "me")
    answer = click(live)
    versions.publish(ids[1], "me")
    versions.publish("shipped", "me")
    record = log.find(answer["audit_id"])
    assert record["version"] == ids[0] and record["model_version"] == versions.get(ids[0]).sha256
    result = replay(record, image, app)
    assert result.is_equal
    shipped = log.find(click(live)["audit_id"])
    assert shipped["version"] == "shipped"
    assert shipped["model_version"] == file_sha256(app / "weights/test_weights.safetensors")
    versions.publish(ids[1], "me")  # whatever is served
    result = replay(shipped, image, app)
    assert result.is_equal
    versions.publish("shipped", "me")
    assert versions.prune(0) == [ids[0]]
    with pytest.raises(ReplayError, match=f"They were version {ids[0]}, whose weights were removed by pruning"):
        replay(record, image, app)


def test_the_endpoints_are_withdrawn_and_offered_again(live: LiveApp) -> None:
    from monailabel.interfaces.utils.app import app_instance

    from lib.host.case_endpoints import add_case_endpoints
    from lib.host.own_endpoints import ROUTES, remove_endpoints
    from lib.host.version_endpoints import add_version_endpoints

    remove_endpoints()
    remove_endpoints()
    assert {live.ask("GET", address).status_code for address in ("/versions/", "/cases/")} == {404}
    add_case_endpoints(app_instance().workflow)
    assert live.ask("GET", "/cases/").status_code == 200
    for _ in range(2):
        add_version_endpoints(app_instance()._infers, live.folder / "app")
        assert set(live.ask("GET", "/versions/").json()["presets"]) >= {"test", "percentiles"}
    from monailabel.app import app

    assert {name: len(routes) for name, routes in getattr(app, ROUTES).items()} == {"cases": 1, "versions": 1}


def test_many_may_look_at_the_page_at_once(live: LiveApp, versions: Versions, ids: list[str]) -> None:
    versions.publish(ids[0], "me")
    before = live.files()
    with ThreadPoolExecutor(6) as pool:
        pages = list(pool.map(lambda _: live.ask("GET", "/versions/test/page"), range(60)))
    assert {page.status_code for page in pages} == {200} and all(ids[0] in page.text for page in pages)
    assert {page.headers["content-type"] for page in pages} == {"text/html; charset=utf-8"}
    assert live.files() == before, "looking writes nothing"


def test_an_export_names_no_patient(live: LiveApp, versions: Versions, ids: list[str], tmp_path: Path) -> None:
    (versions.path(ids[0]) / "candidate.jsonl").write_text('{"patient": "MRN-4711"}')
    answer = live.ask("GET", f"/versions/test/{ids[0]}/export")
    assert answer.status_code == 200 and b"MRN-4711" not in answer.content and b"candidate" not in answer.content


def test_publishing_over_a_best_version_of_another_base_resets_it(
    live: LiveApp, versions: Versions, ids: list[str]
) -> None:
    strange = versions.add(write_trained_elsewhere(versions.folder.parent), Facts("me")).id
    versions.publish(strange, "gate", is_best=True)
    versions.publish(ids[0], "me")
    answer = post(live, f"/versions/test/{ids[1]}/publish")
    assert answer.status_code == 200 and (answer.json()["served"], answer.json()["best"]) == (ids[1], ids[1])
