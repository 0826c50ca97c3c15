"""What may be done with versions, and what is refused."""

import json
import logging
import re
import threading
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from lib.files.checksums import file_sha256
from lib.registry.errors import DamagedFile, NewerFormat, RegistryBusy, RegistryError, UnknownVersion
from lib.registry.registry import Registry
from lib.registry.version import Facts, Version
from lib.registry.versions import Versions


def again(versions: Versions) -> Versions:
    """As another process sees it."""
    return Versions(versions.folder, versions.preset, versions.size, versions.family)


def test_reading_makes_nothing(versions: Versions) -> None:
    assert versions.served() is None and versions.best() is None and versions.versions() == []
    assert versions.stages() == {} and versions.problems() == [] and versions.history() == []
    versions.prepare()
    assert not versions.folder.exists()


def test_a_version_says_where_it_comes_from(versions: Versions, write_weights, tmp_path: Path) -> None:
    curve = tmp_path / "curve.json"
    curve.write_text("{}")
    facts = Facts("Dr. Jones", data=("a", "b"), metrics={"dice": 0.7, "by_case": [1, 2]}, files={"curve.json": curve})
    weights = write_weights(1)
    version = versions.add(weights, facts)
    assert re.fullmatch(r"v0001-[0-9a-f]{8}", version.id) and version.id.endswith(version.sha256[:8])
    assert version.sha256 == file_sha256(weights) and version.nbytes == weights.stat().st_size
    assert version.base_sha256 == "ab" * 32 and version.parent == "shipped" and version.size == "tiny"
    assert datetime.fromisoformat(version.created).utcoffset() == timedelta(0)
    assert again(versions).get(version.id) == version == Version.from_dict(json.loads(json.dumps(version.to_dict())))
    assert versions.weights(version.id).read_bytes() == weights.read_bytes()
    assert (versions.path(version.id) / "curve.json").read_text() == "{}"
    assert versions.served() is None and versions.stages() == {version.id: "trained"}


def test_ids_sort_and_are_never_used_again(versions: Versions, ids: list[str], write_weights) -> None:
    assert ids == sorted(ids) == versions.ids()
    versions.publish(ids[0], "me")
    assert versions.prune(0) == ids[1:]
    assert versions.add(write_weights(3), Facts("me", parent=ids[3])).id == ids[3].replace("v0004", "v0005")


def test_publish_and_roll_back_follow_the_rollback_stack(versions: Versions, ids: list[str]) -> None:
    versions.publish(ids[0], "me", "first", is_best=True)
    versions.publish(ids[1], "gate", is_best=True)
    versions.publish(ids[1], "me", "once more")
    versions.publish(ids[2], "me")
    other = again(versions)
    assert other.served().id == ids[2] and other.best().id == ids[1]  # type: ignore[union-attr]
    assert [versions.roll_back("me") for _ in range(3)] == [ids[1], ids[0], "shipped"]
    assert other.served() is None and other.best().id == ids[1]  # type: ignore[union-attr]
    with pytest.raises(RegistryError, match="nothing that was served before"):
        versions.roll_back("me")
    assert versions.stages() == {ids[0]: "published", ids[1]: "published", ids[2]: "published", ids[3]: "trained"}
    versions.publish(ids[0], "me")
    versions.publish("shipped", "Dr. Jones", "the new one leaks")
    assert other.served() is None and other.history()[-1].event.by == "Dr. Jones"  # type: ignore[union-attr]
    assert versions.roll_back("me") == ids[0]
    assert [state.seq for state in other.history()] == list(range(1, 11))


def test_refusals_are_kept_and_a_person_may_overrule_them(versions: Versions, ids: list[str]) -> None:
    versions.refuse(ids[0], ["Dice fell by 0.1.", "Worse than blind."])
    assert versions.stages()[ids[0]] == "refused" and versions.served() is None
    assert versions.events_of(ids[0])[0].event.reason == "Dice fell by 0.1.; Worse than blind."  # type: ignore[union-attr]
    versions.publish(ids[0], "Dr. Jones", "for the demonstration")
    assert versions.stages()[ids[0]] == "served"
    with pytest.raises(RegistryError, match="roll back before"):
        versions.refuse(ids[0], ["no"])


@pytest.mark.parametrize("by", ["", "  ", "x" * 101, "two\nlines"])
def test_who_does_it_must_be_said(versions: Versions, ids: list[str], by: str) -> None:
    for act in (lambda: versions.publish(ids[0], by), lambda: versions.roll_back(by), lambda: versions.prune(0, by)):
        with pytest.raises(RegistryError, match="name of who"):
            act()
    assert versions.history() == []


@pytest.mark.parametrize("name", ["v0009-00000000", "../../etc", "", "shipped/..", "v0001"])
def test_unknown_ids_are_told_with_the_known_ones(versions: Versions, ids: list[str], name: str) -> None:
    for act in (versions.get, versions.weights, versions.verify, lambda n: versions.publish(n, "me")):
        with pytest.raises(UnknownVersion, match=f"choose from: shipped, {ids[0]}, {ids[1]}"):
            act(name)


def test_what_cannot_be_kept_is_refused(versions: Versions, write_weights, tmp_path: Path) -> None:
    torn = tmp_path / "torn.safetensors"
    torn.write_bytes(write_weights(1).read_bytes()[:-4])
    with pytest.raises(RegistryError, match="no readable safetensors"):
        versions.add(torn, Facts("me"))
    with pytest.raises(RegistryError, match="plain JSON"):
        versions.add(write_weights(1), Facts("me", metrics={"dice": float("nan")}))
    with pytest.raises(UnknownVersion):
        versions.add(write_weights(1), Facts("me", parent="v0007-00000000"))
    with pytest.raises(RegistryError, match="under these names"):
        versions.add(write_weights(1), Facts("me", files={"../x": torn}))
    with pytest.raises(FileNotFoundError):
        versions.add(tmp_path / "absent", Facts("me"))
    assert list((versions.folder / "versions").iterdir()) == []


def test_prune_keeps_what_is_needed(versions: Versions, ids: list[str], write_weights) -> None:
    more = [versions.add(write_weights(number), Facts("me")).id for number in range(4, 10)]
    versions.publish(ids[0], "me", is_best=True)
    versions.publish(ids[1], "me")
    versions.publish(ids[2], "me")
    versions.pin("run-1", ids[3])
    kept = [ids[0], ids[1], ids[2], ids[3]]  # best, next of a rollback, served, held
    known = {name: versions.get(name) for name in versions.ids()}
    assert versions.prune(2, in_use=[more[0]]) == more[1:4]
    assert versions.ids() == [*kept, more[0], *more[4:]]
    assert versions.pruned() == {name: known[name] for name in more[1:4]} == again(versions).pruned()
    assert versions.stages()[more[1]] == "pruned"
    with pytest.raises(UnknownVersion, match="removed by pruning"):
        versions.publish(more[1], "me")
    versions.unpin("run-1")
    assert versions.prune(0) == [ids[3], more[0], *more[4:]]
    assert versions.roll_back("me") == ids[1]
    assert versions.prune(0) == [ids[2]]
    with pytest.raises(RegistryError, match="0 or more"):
        versions.prune(-1)


def test_presets_and_sizes_do_not_meet(tmp_path: Path, write_weights) -> None:
    registry = Registry(tmp_path)
    one, other, size = registry.of("ct", "tiny"), registry.of("mr", "tiny"), registry.of("ct", "vit_b")
    assert registry.of("ct", "tiny") is one
    one.publish(one.add(write_weights(1), Facts("me")).id, "me")
    assert other.ids() == size.ids() == [] and other.served() is None and size.served() is None


def test_a_rollback_passes_over_damaged_versions(versions: Versions, ids: list[str]) -> None:
    for name in ids[:3]:
        versions.publish(name, "me")
    versions.weights(ids[1]).write_bytes(b"torn")
    assert versions.roll_back("me") == ids[0]


def test_damaged_weights_are_not_published(versions: Versions, ids: list[str]) -> None:
    content = bytearray(versions.weights(ids[0]).read_bytes())
    content[-1] ^= 1
    versions.weights(ids[0]).write_bytes(content)
    with pytest.raises(DamagedFile, match="sha256 is"):
        versions.publish(ids[0], "me")
    assert versions.served() is None and versions.history() == []


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format": 2}', b'{"format": "x"}', b"\xff\xfe", b"[" * 9999])
def test_damaged_facts_concern_one_version(versions: Versions, ids: list[str], content: bytes) -> None:
    (versions.path(ids[1]) / "version.json").write_bytes(content)
    assert [version.id for version in versions.versions()] == [ids[0], *ids[2:]]
    assert len(versions.problems()) == 1 and ids[1] in versions.problems()[0]
    with pytest.raises(DamagedFile, match=ids[1]):
        versions.publish(ids[1], "me")
    versions.publish(ids[2], "me")
    assert versions.prune(0) == [ids[0], ids[3]]  # what is damaged is left for somebody to look at
    assert ids[1] in versions.ids()


def test_a_folder_copied_by_hand_is_no_version(versions: Versions, ids: list[str]) -> None:
    versions.path(ids[0]).rename(versions.path("v0008-00000000"))
    with pytest.raises(DamagedFile, match="moved or copied"):
        versions.get("v0008-00000000")


@pytest.mark.parametrize("content", [b"", b"{", b'{"format": 2, "seq": 1}'])
def test_a_damaged_pointer_is_read_from_the_history(
    versions: Versions, ids: list[str], content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    versions.publish(ids[0], "me")
    versions.publish(ids[1], "me", is_best=True)
    (versions.folder / "served.json").write_bytes(content)
    other = again(versions)
    assert other.served().id == ids[1] and other.best().id == ids[1]  # type: ignore[union-attr]
    assert "taken from the history" in caplog.text
    other.publish(ids[2], "me")
    assert other.roll_back("me") == ids[1]
    assert [state.seq for state in again(versions).history()] == [1, 2, 3, 4]


def test_a_pointer_without_history_that_is_damaged_is_told_and_can_be_replaced(
    versions: Versions, ids: list[str]
) -> None:
    versions.publish(ids[0], "me")
    (versions.folder / "served.json").write_bytes(b"torn")
    (versions.folder / "history.jsonl").unlink()
    with pytest.raises(DamagedFile, match="served.json"):
        again(versions).served()
    versions.publish(ids[1], "me")
    assert again(versions).served().id == ids[1]  # type: ignore[union-attr]


def test_a_torn_line_of_the_history_is_passed_over(versions: Versions, ids: list[str]) -> None:
    versions.publish(ids[0], "me")
    with (versions.folder / "history.jsonl").open("ab") as file:
        file.write(b'{"format": 2, "seq": 2, "ser')
    versions.publish(ids[1], "me")
    assert [state.served for state in again(versions).history()] == ids[:2]


@pytest.mark.parametrize("file", ["served.json", "version.json"])
def test_a_newer_format_is_left_alone(versions: Versions, ids: list[str], file: str) -> None:
    versions.publish(ids[0], "me")
    path = versions.folder / file if file == "served.json" else versions.path(ids[0]) / file
    path.write_text(json.dumps({"format": 3, "all": "else"}))
    left = versions.folder / "versions" / ".new-1"
    left.mkdir()
    other = again(versions)
    with pytest.raises(NewerFormat, match="format 3.*later release"):
        other.served()
    if file == "served.json":
        for act in (lambda: other.publish(ids[1], "me"), lambda: other.roll_back("me"), other.prepare):
            with pytest.raises(NewerFormat):
                act()
        assert left.exists() and json.loads(path.read_text())["format"] == 3
    else:
        with pytest.raises(NewerFormat):
            other.publish(ids[0], "me")
        other.publish(ids[1], "me")


def test_state_is_parsed_only_when_it_changed(versions: Versions, ids: list[str], monkeypatch) -> None:
    import os

    from lib.registry import reader

    versions.publish(ids[0], "me")
    # As if it was written long ago: within the same tick of the clock a file may be replaced unseen.
    os.utime(versions.folder / "served.json", (1, 1))
    other, reads = again(versions), []
    real = reader.read_json
    monkeypatch.setattr(reader, "read_json", lambda path: reads.append(path) or real(path))
    states = [other.state() for _ in range(5)]
    assert len(reads) == 1 and all(state is states[0] for state in states)
    versions.publish(ids[1], "me")
    assert other.state().served == ids[1]


def test_a_file_replaced_within_a_tick_of_the_clock_is_seen(versions: Versions, ids: list[str]) -> None:
    import os

    versions.publish(ids[0], "me")
    other, path = again(versions), versions.folder / "served.json"
    assert other.state().served == ids[0]
    date = path.stat().st_mtime_ns
    path.write_bytes(path.read_bytes().replace(ids[0].encode(), ids[1].encode()))
    os.utime(path, ns=(date, date))
    assert other.state().served == ids[1]


def test_no_event_is_lost_while_the_history_cannot_be_written(versions: Versions, ids: list[str], monkeypatch) -> None:
    from lib.registry import versions as changes

    real, refusals = changes.append_state, [True, False, True]

    def failing(path, state):
        if refusals and refusals.pop(0):
            raise OSError(28, "No space left on device")
        real(path, state)

    monkeypatch.setattr(changes, "append_state", failing)
    with versions.lock():
        versions.publish(ids[0], "me")
        versions.publish(ids[1], "me")
        with pytest.raises(OSError, match="No space"):
            refusals[:] = [True]
            (versions.folder / "history.jsonl").write_bytes(
                (versions.folder / "history.jsonl").read_bytes().splitlines(keepends=True)[0]
            )
            versions.publish(ids[2], "me")
    assert [state.served for state in again(versions).history()] == ids[:2]
    versions.publish(ids[2], "me")
    assert [state.served for state in again(versions).history()] == ids[:3]


def test_another_writer_is_waited_for_but_not_for_ever(versions: Versions, ids: list[str]) -> None:
    hasty = Versions(versions.folder, "ct", "tiny", versions.family, lock_timeout_s=0.1)
    with versions.lock():
        versions.publish(ids[0], "me")  # the holder may
        with pytest.raises(RegistryBusy, match="locked"):
            hasty.publish(ids[1], "me")
        assert hasty.served().id == ids[0]  # type: ignore[union-attr]  # readers never wait
    hasty.publish(ids[1], "me")


def test_threads_of_one_process_exclude_each_other(versions: Versions, ids: list[str]) -> None:
    threads = [
        threading.Thread(target=lambda name=name: [versions.publish(name, "me") for _ in range(10)]) for name in ids
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    history = again(versions).history()
    assert [state.seq for state in history] == list(range(1, 41))
    for before, after in zip(history, history[1:], strict=False):
        assert after.served == before.served or after.rollback_stack[-1] == before.served


def test_what_is_decided_is_logged_without_the_name(
    versions: Versions, ids: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        versions.publish(ids[0], "Dr. Jones")
    assert f"Preset ct: {ids[0]} published." in caplog.text and "Jones" not in caplog.text


def test_the_rollback_stack_keeps_its_key_in_the_files(versions: Versions, ids: list[str]) -> None:
    """Registries on disks have it under this name."""
    versions.publish(ids[0], "me")
    versions.publish(ids[1], "me")
    stored = json.loads((versions.folder / "served.json").read_text())
    assert stored.keys() == {"format", "seq", "served", "best", "trail", "event"}
    assert stored["trail"] == ["shipped", ids[0]] == list(again(versions).state().rollback_stack)
