"""Decisions that rest on what is in force, and best versions that are lost."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from lib.registry.errors import ChangedMeanwhile, RegistryError
from lib.registry.version import SHIPPED, Facts, base_of, shipped_base
from lib.registry.versions import Versions

HERE, ELSEWHERE = "ab" * 32, "cd" * 32  # HERE: the base of the fixture's versions


def test_a_decision_is_carried_out_on_what_it_rests_on_alone(versions: Versions, ids: list[str]) -> None:
    versions.publish(ids[0], "gate", is_best=True, expected=(SHIPPED, None))
    versions.publish(ids[1], "gate", expected=(ids[0], ids[0]))
    before = versions.state()
    with pytest.raises(ChangedMeanwhile, match=rf"{ids[2]} was compared with {ids[0]} as the served.*{ids[1]} by now"):
        versions.publish(ids[2], "gate", expected=(ids[0], ids[0]))
    with pytest.raises(ChangedMeanwhile, match=rf"compared with shipped as the best version, which is {ids[0]} by now"):
        versions.publish(ids[2], "gate", expected=(ids[1], None))
    assert versions.state() == before


def test_it_is_checked_with_the_lock_in_the_hand(versions: Versions, ids: list[str], monkeypatch) -> None:
    """A rollback in the very last moment before the lock is taken."""
    versions.publish(ids[0], "me")
    versions.publish(ids[1], "me")
    real, other = versions.lock, Versions(versions.folder, "ct", "tiny", versions.family)

    def late():
        if other.state().served == ids[1]:
            other.roll_back("Dr. Jones")
        return real()

    monkeypatch.setattr(versions, "lock", late)
    with pytest.raises(ChangedMeanwhile):
        versions.publish(ids[2], "gate", expected=(ids[1], None))
    assert other.state().served == ids[0]


def damage_facts(versions: Versions, name: str) -> None:
    (versions.path(name) / "version.json").write_text("{")


def damage_weights(versions: Versions, name: str) -> None:
    versions.weights(name).write_bytes(b"torn")


def remove(versions: Versions, name: str) -> None:
    shutil.rmtree(versions.path(name))


@pytest.mark.parametrize("lose", [damage_facts, damage_weights, remove])
@pytest.mark.parametrize("is_shipped", [False, True])
def test_a_best_version_that_is_lost_makes_room_for_what_a_person_publishes(
    versions: Versions, ids: list[str], lose: Callable[[Versions, str], None], is_shipped: bool
) -> None:
    versions.publish(ids[0], "gate", is_best=True)
    versions.publish(ids[1], "me")
    lose(versions, ids[0])
    with pytest.raises(RegistryError):
        versions.publish(ids[0], "me")
    chosen = SHIPPED if is_shipped else ids[2]
    versions.publish(chosen, "Dr. Jones")
    state = versions.state()
    assert (state.served, state.best) == (chosen, None if is_shipped else chosen)
    assert versions.best() == (None if is_shipped else versions.get(ids[2]))


def test_a_best_version_of_another_base_makes_room_too(versions: Versions, ids: list[str], tmp_path: Path) -> None:
    weights = tmp_path / "elsewhere.safetensors"
    save_file({"a": np.arange(8.0)}, weights, metadata={"base_sha256": ELSEWHERE})
    strange = versions.add(weights, Facts("me")).id
    versions.publish(strange, "gate", is_best=True)
    versions.publish(ids[0], "me")
    assert versions.state().best == strange, "without a base nothing is known of it"
    versions.publish(ids[0], "me", base=ELSEWHERE)
    assert versions.state().best == strange, "it fits"
    versions.publish(ids[0], "me", base=HERE)
    assert versions.state().best == ids[0]
    # What is published does not become the best where it does not fit itself.
    versions.publish(ids[0], "me", base=ELSEWHERE)
    assert versions.state().best is None


def test_a_whole_best_version_stays_the_best(versions: Versions, ids: list[str]) -> None:
    versions.publish(ids[0], "gate", is_best=True, base=HERE)
    for chosen in (ids[1], SHIPPED):
        versions.publish(chosen, "me", base=HERE)
        assert versions.state().best == ids[0]


def test_the_base_is_read_from_the_header(tmp_path: Path, write_weights) -> None:
    assert base_of(write_weights(1)) == shipped_base(write_weights(1)) == HERE
    bare = tmp_path / "bare.safetensors"
    save_file({"a": np.arange(2.0)}, bare)
    assert base_of(bare) is None
    bare.write_bytes(b"torn")
    assert shipped_base(bare) is None and shipped_base(tmp_path / "absent") is None
    with pytest.raises(RegistryError, match="no readable safetensors"):
        base_of(bare)


def test_what_answered_or_came_from_elsewhere_is_known(versions: Versions, ids: list[str], write_weights) -> None:
    imported = versions.add(write_weights(7), Facts("me", parent=None, origin={"id": "v0009-00000000"})).id
    versions.publish(ids[0], "me")
    versions.publish(ids[1], "me")
    versions.refuse(ids[2], ["no"])
    versions.roll_back("me")
    versions.publish(SHIPPED, "me")
    needed = versions.answered_or_imported() - {SHIPPED}
    assert needed == {ids[0], ids[1], imported}
    assert versions.prune(0, in_use=needed) == ids[2:]
    # A line of the history that is lost takes nothing from it: the others say as much.
    lines = (versions.folder / "history.jsonl").read_bytes().splitlines(keepends=True)
    (versions.folder / "history.jsonl").write_bytes(b"".join(lines[1:]))
    assert versions.answered_or_imported() - {SHIPPED} == needed
