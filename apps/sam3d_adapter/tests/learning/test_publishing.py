"""Which versions a candidate is compared with, and what the gate may do with it while people decide as well."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from lib.learning.gate import Decision
from lib.learning.publishing import ReferenceVersions, UnusableServed, find_reference_versions, publish_or_refuse
from lib.learning.versions_page import versions_page, write_versions_page
from lib.models.checkpoint_error import CheckpointError
from lib.registry.errors import DamagedFile
from lib.registry.registry import Registry
from lib.registry.version import SHIPPED, Facts, Version
from lib.registry.versions import Versions
from lib.segmenters import families
from lib.segmenters.frozen_store import FrozenStore
from tests.support.trained import write_trained
from tests.support.weights import write_test_weights

YES = Decision(True, ("Published: it is shown to be no worse than what was there.",), 8, True, ())
NO = Decision(False, ("Not published; the served model stays.", "Its Dice fell."), 8, False, ())
SCORES = {"dice_at": {"1": {"mean": 0.7}}, "nsd2_at": {}, "n": 8}

Add = Callable[..., Version]


@pytest.fixture
def versions(tmp_path: Path) -> Versions:
    return Registry(tmp_path / "learning").of("ct", "tiny")


@pytest.fixture
def add(versions: Versions, tmp_path: Path) -> Add:
    """A version that was compared with what is served and best now."""

    def add(decision: Decision = YES, measured: tuple[str, ...] = ("candidate", "served", "best")) -> Version:
        path = tmp_path / "weights.safetensors"
        save_file({"a": np.arange(8.0) + len(versions.ids())}, path, metadata={"base_sha256": "ab" * 32})
        state = versions.state()
        metrics: dict[str, Any] = {
            "compared_with": {"served": state.served, "best": state.best or SHIPPED},
            "validation": dict.fromkeys(measured, SCORES),
            "decision": decision.as_json(),
            "reasons": list(decision.reasons),
        }
        return versions.add(path, Facts("training", metrics=metrics))

    return add


def test_the_gate_is_obeyed(versions: Versions, add: Add) -> None:
    good = add()
    assert publish_or_refuse(versions, good, YES, YES.reasons).published
    assert (versions.state().served, versions.state().best) == (good.id, good.id)
    bad = add(NO)
    assert publish_or_refuse(versions, bad, NO, NO.reasons).reasons == NO.reasons
    assert versions.state().served == good.id and versions.stages()[bad.id] == "refused"
    kept = add()
    assert not publish_or_refuse(versions, kept, None, ("Kept and not published, as it was asked for.",)).published


@pytest.mark.parametrize("decide", ["roll_back", "publish"])
def test_what_a_person_decided_while_it_was_measured_stays(versions: Versions, add: Add, decide: str) -> None:
    first, second, other = add(), add(), add()
    versions.publish(first.id, "gate")
    versions.publish(second.id, "gate")
    candidate = add()
    if decide == "roll_back":
        versions.roll_back("Dr. Jones", "it leaks")
    else:
        versions.publish(other.id, "Dr. Jones")
    chosen = versions.state().served
    outcome = publish_or_refuse(versions, candidate, YES, YES.reasons)
    assert not outcome.published and versions.state().served == chosen != second.id
    assert outcome.reasons[0].startswith("Not published; the served model stays.")
    assert second.id in outcome.reasons[0] and chosen in outcome.reasons[0] and "Jones" not in outcome.reasons[0]
    assert versions.stages()[candidate.id] == "refused" and versions.verify(candidate.id)
    # The page does not call it accepted, whatever was measured.
    page = versions_page(versions)
    assert f"The newest, {candidate.id}, was refused." in page and outcome.reasons[0] in page


def test_another_best_version_is_no_less_of_a_change(versions: Versions, add: Add) -> None:
    first, candidate = add(), add()
    versions.publish(first.id, "Dr. Jones", is_best=True)
    versions.publish(SHIPPED, "Dr. Jones")
    assert not publish_or_refuse(versions, candidate, YES, YES.reasons).published


def test_a_round_that_was_killed_after_publishing_does_not_publish_again(versions: Versions, add: Add) -> None:
    candidate = add()
    assert publish_or_refuse(versions, candidate, YES, YES.reasons).published
    seq = versions.state().seq
    assert publish_or_refuse(versions, candidate, YES, YES.reasons).reasons == YES.reasons
    assert versions.state().seq == seq
    versions.publish(SHIPPED, "Dr. Jones")
    outcome = publish_or_refuse(versions, candidate, YES, YES.reasons)
    assert not outcome.published and "taken back" in outcome.reasons[-1] and versions.served() is None


def test_what_a_person_published_meanwhile_is_not_refused(versions: Versions, add: Add) -> None:
    candidate = add(NO)
    versions.publish(candidate.id, "Dr. Jones")
    outcome = publish_or_refuse(versions, candidate, NO, NO.reasons)
    assert outcome.published and outcome.reasons == ("A person published it in the meantime.",)
    assert versions.stages()[candidate.id] == "served"


def test_a_best_version_that_could_not_be_measured_makes_room(versions: Versions, add: Add) -> None:
    lost = add()
    versions.publish(lost.id, "gate", is_best=True)
    versions.publish(SHIPPED, "Dr. Jones")
    candidate = add(measured=("candidate", "served"))
    no_better = Decision(True, YES.reasons, 8, False, ())
    assert publish_or_refuse(versions, candidate, no_better, YES.reasons).published
    assert versions.state().best == candidate.id


def test_the_page_is_made_without_a_file(versions: Versions, add: Add) -> None:
    add()
    before = sorted(path for path in versions.folder.rglob("*"))
    text = versions_page(versions)
    assert sorted(path for path in versions.folder.rglob("*")) == before and versions.ids()[0] in text
    assert write_versions_page(versions).read_text(encoding="utf-8") == text


class Site:
    """The weights of a preset of the test size, and versions of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.base, self.weights = write_test_weights(folder / "weights")
        self.versions: Versions = Registry(folder / "learning").of("test", "test")

    def add(self, seed: int, *, is_elsewhere: bool = False) -> str:
        """A version; of another base if it is from elsewhere."""
        path = self.folder / f"{seed}.safetensors"
        elsewhere = self.folder / "elsewhere"
        path = write_test_weights(elsewhere, seed=9)[1] if is_elsewhere else write_trained(self.base, path, seed=seed)
        return self.versions.add(path, Facts("me")).id

    def reference_versions(self) -> ReferenceVersions:
        """As a round asks for it."""

        def weights_of(version: str) -> Path:
            return self.weights if version == SHIPPED else self.versions.weights(version)

        def load(weights: Path) -> object:
            files = {"base": self.base, "weights": weights}
            return families()["sam3d_adapter"].load("test", files, "cpu", FrozenStore())

        return find_reference_versions(self.versions, load, weights_of)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_what_is_in_force_is_compared_with(site: Site) -> None:
    assert site.reference_versions() == ReferenceVersions(
        SHIPPED, SHIPPED
    ) and site.reference_versions().to_measure == {"served": SHIPPED}
    first, second = site.add(1), site.add(2)
    site.versions.publish(first, "gate", is_best=True)
    assert site.reference_versions().to_measure == {"served": first}
    site.versions.publish(second, "me")
    assert (
        site.reference_versions().to_measure == {"served": second, "best": first}
        and site.reference_versions().remarks == ()
    )
    (site.versions.folder / "served.json").unlink()
    (site.versions.folder / "history.jsonl").unlink()
    site.versions.publish(second, "me")
    assert site.reference_versions().to_measure == {"served": second, "best": SHIPPED}


def damage(path: Path) -> None:
    path.write_bytes(b"{")


LOST: dict[str, Callable[[Path], None]] = {
    "facts": lambda folder: damage(folder / "version.json"),
    "weights": lambda folder: damage(folder / "weights.safetensors"),
    "no_facts": lambda folder: (folder / "version.json").unlink(),
    "gone": shutil.rmtree,
}


@pytest.mark.parametrize("how", LOST)
def test_a_lost_best_version_is_left_out(site: Site, how: str) -> None:
    best, served = site.add(1), site.add(2)
    site.versions.publish(best, "gate", is_best=True)
    site.versions.publish(served, "me")
    LOST[how](site.versions.path(best))
    found = site.reference_versions()
    assert (found.served, found.best, found.to_measure) == (served, best, {"served": served})
    assert best in found.remarks[0] and str(site.folder) not in found.remarks[0]


def test_a_best_version_of_another_base_is_left_out(site: Site) -> None:
    best = site.add(1, is_elsewhere=True)
    site.versions.publish(best, "gate", is_best=True)
    site.versions.publish(SHIPPED, "me")
    (remark,) = site.reference_versions().remarks
    assert best in remark and "trained on the base" in remark and str(site.folder) not in remark


def test_shipped_weights_that_are_gone_are_left_out(site: Site) -> None:
    served = site.add(1)
    site.versions.publish(served, "me")
    site.weights.unlink()
    found = site.reference_versions()
    assert found.to_measure == {"served": served} and "shipped" in found.remarks[0]


@pytest.mark.parametrize("how", LOST)
def test_without_the_served_version_there_is_nothing_to_compare_with(site: Site, how: str) -> None:
    served = site.add(1)
    site.versions.publish(served, "me")
    LOST[how](site.versions.path(served))
    with pytest.raises(UnusableServed, match=f"The served version, {served}, cannot be loaded.*Roll back or publish"):
        site.reference_versions()
    # As it says.
    site.versions.roll_back("me")
    assert site.reference_versions().served == SHIPPED


def test_a_served_version_of_another_base_is_told(site: Site) -> None:
    site.versions.publish(site.add(1, is_elsewhere=True), "me")
    with pytest.raises(UnusableServed, match="trained on the base"):
        site.reference_versions()
    assert not issubclass(UnusableServed, CheckpointError | DamagedFile)
