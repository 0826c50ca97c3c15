"""Which version answers, and what answers in its place."""

import json
import threading
import time
import weakref
from pathlib import Path

import pytest
import torch

from lib.families.sam3d_adapter import network as sam3d
from lib.files.checksums import file_sha256
from lib.models.checkpoint_error import CheckpointError
from lib.registry.registry import Registry
from lib.registry.version import Facts
from lib.registry.versions import Versions
from lib.serving import served_model
from lib.serving.model_store import ModelSpec, ModelStore
from lib.serving.served_model import ServedModel
from tests.support.trained import write_trained
from tests.support.weights import write_test_weights


@pytest.fixture
def spec(tmp_path: Path) -> ModelSpec:
    return ModelSpec("sam3d_adapter", "test", write_test_weights(tmp_path / "shipped"))


@pytest.fixture
def versions(tmp_path: Path) -> Versions:
    return Registry(tmp_path / "learning").of("test", "test")


@pytest.fixture
def ids(versions: Versions, spec: ModelSpec, tmp_path: Path) -> list[str]:
    paths = [write_trained(spec.files[0], tmp_path / f"{number}.safetensors", seed=number) for number in range(4)]
    return [versions.add(path, Facts("me")).id for path in paths]


@pytest.fixture
def store() -> ModelStore:
    return ModelStore()


@pytest.fixture
def served(spec: ModelSpec, store: ModelStore, versions: Versions) -> ServedModel:
    return ServedModel("test", spec, store, versions)


def answers(served: ServedModel, *, warns: str = "") -> tuple[str, str]:
    """Id and sha256 of what answers."""
    answering = served.get("cpu")
    assert warns in (answering.warning or "") and bool(warns) == bool(answering.warning)
    return answering.version, answering.loaded.version


def expected(versions: Versions, spec: ModelSpec, version_id: str) -> tuple[str, str]:
    path = spec.weights if version_id == "shipped" else versions.weights(version_id)
    return version_id, file_sha256(path)


def test_without_a_registry_the_shipped_weights_answer(spec: ModelSpec, store: ModelStore) -> None:
    served = ServedModel("test", spec, store)
    assert answers(served) == ("shipped", file_sha256(spec.weights))
    assert served.status().version == "shipped" and served.status().can_answer and served.missing_files() == []


def test_what_is_published_answers_the_next_request(
    served: ServedModel, versions: Versions, spec: ModelSpec, ids: list[str]
) -> None:
    assert answers(served) == expected(versions, spec, "shipped")
    for name in (ids[0], ids[1], "shipped", ids[0]):
        versions.publish(name, "me")
        assert answers(served) == expected(versions, spec, name)
        assert served.status() == served_model.Status(name, None, True)
    for name in ("shipped", ids[1], ids[0]):
        assert versions.roll_back("me") == name
        assert answers(served) == expected(versions, spec, name)


def test_a_request_keeps_the_model_it_began_with(served: ServedModel, versions: Versions, ids: list[str]) -> None:
    versions.publish(ids[0], "me")
    running = served.get("cpu")
    before = [parameter.clone() for parameter in running.loaded.model.parameters()]
    for name in (ids[1], ids[2], ids[3]):
        versions.publish(name, "me")
        served.get("cpu")
    versions.prune(0)
    assert all(torch.equal(a, b) for a, b in zip(before, running.loaded.model.parameters(), strict=True))


def test_two_versions_stay_in_memory_and_share_their_base(
    served: ServedModel, versions: Versions, spec: ModelSpec, store: ModelStore, ids: list[str]
) -> None:
    models = []
    for name in ids:
        versions.publish(name, "me")
        models.append(served.get("cpu").loaded.model)
    held = {slot_spec.weights.parent.name for slot_spec, _ in store._slots}
    assert held == set(ids[-2:])
    base = {id(models[0].model.get_parameter(name)) for name in ("image_encoder.blocks.0.attn.qkv.weight",)}
    assert base == {id(model.model.get_parameter("image_encoder.blocks.0.attn.qkv.weight")) for model in models}


def test_what_another_preset_needs_stays(
    served: ServedModel, spec: ModelSpec, store: ModelStore, versions: Versions, ids: list[str], monkeypatch
) -> None:
    other = ServedModel("other", spec, store)
    shipped = other.get("cpu").loaded
    for name in ids:
        versions.publish(name, "me")
        served.get("cpu")
    assert other.get("cpu").loaded is shipped


def test_what_is_loaded_and_never_served_goes_as_well(
    served: ServedModel, versions: Versions, store: ModelStore, ids: list[str]
) -> None:
    answers(served)
    for name in ids[:2]:
        served.prepare(name)
    for name in ids[2:]:
        versions.publish(name, "me")
        answers(served)
    assert {spec.weights.parent.name for spec, _ in store._slots} == set(ids[2:])


def test_a_rollback_reads_no_file(
    served: ServedModel, versions: Versions, ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ids[:2]:
        versions.publish(name, "me")
        served.get("cpu")

    def load_model(**_: object) -> None:
        raise AssertionError("weights were read")

    monkeypatch.setattr(sam3d, "load_model", load_model)
    versions.roll_back("me")
    assert served.get("cpu").version == ids[0]


@pytest.mark.parametrize("damage", ["weights", "version.json", "torn", "gone"])
def test_a_damaged_version_does_not_take_the_place_of_the_one_held(
    served: ServedModel, versions: Versions, spec: ModelSpec, ids: list[str], damage: str
) -> None:
    versions.publish(ids[0], "me")
    answers(served)
    versions.publish(ids[1], "me")
    spoil(versions, ids[1], damage)
    for _ in range(2):
        assert answers(served, warns=f"{ids[0]} answered instead") == expected(versions, spec, ids[0])
    status = served.status()
    assert status.problem and status.can_answer
    assert str(versions.folder) not in status.problem + str(served.get("cpu").warning)
    versions.publish(ids[2], "me")
    assert answers(served) == expected(versions, spec, ids[2])


@pytest.mark.parametrize("damage", ["weights", "version.json", "torn", "gone"])
def test_after_a_restart_the_one_before_answers_then_the_shipped_one(
    versions: Versions, spec: ModelSpec, ids: list[str], damage: str
) -> None:
    versions.publish(ids[0], "me")
    versions.publish(ids[1], "me")
    spoil(versions, ids[1], damage)
    served = ServedModel("test", spec, ModelStore(), versions)
    assert answers(served, warns="answered instead") == expected(versions, spec, ids[0])
    spoil(versions, ids[0], damage)
    served = ServedModel("test", spec, ModelStore(), versions)
    assert answers(served, warns="answered instead") == expected(versions, spec, "shipped")
    assert served.missing_files() == []


def spoil(versions: Versions, version_id: str, damage: str) -> None:
    folder = versions.path(version_id)
    if damage == "weights":
        # Whole weights, but not the ones that were added.
        other = next(name for name in reversed(versions.ids()) if name != version_id)
        (folder / "weights.safetensors").write_bytes(versions.weights(other).read_bytes())
    elif damage == "torn":
        (folder / "weights.safetensors").write_bytes(b"torn")
    elif damage == "version.json":
        (folder / "version.json").write_bytes(b"{")
    else:
        folder.rename(folder.with_name(f"elsewhere-{version_id}"))


@pytest.mark.parametrize("content", ["{", json.dumps({"format": 3})])
def test_an_unreadable_pointer_leaves_what_is_held_or_the_shipped_weights(
    served: ServedModel, versions: Versions, spec: ModelSpec, ids: list[str], content: str
) -> None:
    versions.publish(ids[0], "me")
    answers(served)
    (versions.folder / "served.json").write_text(content)
    (versions.folder / "history.jsonl").unlink()
    assert answers(served, warns="served.json") == expected(versions, spec, ids[0])
    restarted = ServedModel("test", spec, ModelStore(), versions)
    assert answers(restarted, warns="served.json") == expected(versions, spec, "shipped")
    assert restarted.status().version is None and restarted.status().can_answer


def test_a_version_serves_a_preset_without_weights_of_its_own(
    served: ServedModel, versions: Versions, spec: ModelSpec, ids: list[str]
) -> None:
    spec.weights.unlink()
    assert served.missing_files() == [spec.weights]
    with pytest.raises(CheckpointError, match="not found"):
        served.get("cpu")
    versions.publish(ids[0], "me")
    assert served.missing_files() == [] and answers(served)[0] == ids[0]
    spec.files[0].unlink()
    assert spec.files[0] in ServedModel("test", spec, ModelStore(), versions).missing_files()


@pytest.fixture
def slow_loads(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Loading waits for this event."""
    go = threading.Event()
    go.set()
    real = sam3d.load_model

    def waiting(**keywords):
        assert go.wait(30)
        return real(**keywords)

    monkeypatch.setattr(sam3d, "load_model", waiting)
    return go


def test_a_version_that_takes_long_to_load_is_not_waited_for(
    served: ServedModel, versions: Versions, ids: list[str], slow_loads: threading.Event, monkeypatch
) -> None:
    monkeypatch.setattr(served_model, "SWITCH_WAIT_S", 0.05)
    assert answers(served)[0] == "shipped"
    slow_loads.clear()
    versions.publish(ids[0], "me")
    began = time.perf_counter()
    assert [answers(served)[0] for _ in range(3)] == ["shipped"] * 3
    assert time.perf_counter() - began < 5
    slow_loads.set()
    deadline = time.monotonic() + 30
    while answers(served)[0] == "shipped":
        assert time.monotonic() < deadline
    assert answers(served)[0] == ids[0]


def test_what_is_prepared_is_not_waited_for(
    served: ServedModel, versions: Versions, ids: list[str], slow_loads: threading.Event
) -> None:
    answers(served)
    served.prepare(ids[0])
    slow_loads.clear()
    versions.publish(ids[0], "me")
    assert answers(served)[0] == ids[0]
    spoil(versions, ids[1], "torn")
    slow_loads.set()
    with pytest.raises(CheckpointError):
        served.prepare(ids[1])


def test_too_little_memory_keeps_what_answers_and_is_tried_again_later(
    served: ServedModel, versions: Versions, ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(served)
    real, loads = sam3d.load_model, []

    def short(**keywords):
        loads.append(keywords)
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(sam3d, "load_model", short)
    versions.publish(ids[0], "me")
    for _ in range(4):
        answering = served.get("cpu")
        assert answering.version == "shipped" and "out of memory" in str(answering.warning)
    assert len(loads) <= 2
    monkeypatch.setattr(sam3d, "load_model", real)
    monkeypatch.setattr(served, "_short", {})
    assert answers(served)[0] == ids[0]


def test_what_was_loaded_in_vain_is_gone_when_another_is_loaded(
    served: ServedModel, versions: Versions, ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, failed, left = sam3d.load_model, [], []

    def short(**keywords):
        if failed:
            left.append(failed[0]())
            return real(**keywords)
        model, _ = real(**keywords)
        weights = next(model.parameters())
        failed.append(weakref.ref(weights))
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(sam3d, "load_model", short)
    versions.publish(ids[0], "me")
    assert answers(served, warns="out of memory")[0] == "shipped"
    assert left == [None]


def test_threads_see_whole_models_while_versions_change(
    served: ServedModel, versions: Versions, spec: ModelSpec, ids: list[str]
) -> None:
    shas = dict(expected(versions, spec, name) for name in (*ids, "shipped"))
    answers(served)
    stop, seen, wrong = threading.Event(), set(), []

    def ask() -> None:
        while not stop.is_set():
            answering = served.get("cpu")
            seen.add(answering.version)
            if answering.loaded.version != shas[answering.version] or answering.warning:
                wrong.append(answering)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for name in [*ids, "shipped", *ids]:
        versions.publish(name, "me")
        time.sleep(0.02)
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == [] and len(seen) >= 2
    assert answers(served) == expected(versions, spec, ids[-1])
