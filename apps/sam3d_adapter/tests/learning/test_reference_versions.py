"""What a candidate is compared with, where versions are lost or do not fit the app any more."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lib.learning.reference_versions import Compared, UnusableServed, find_compared
from lib.models.checkpoint_error import CheckpointError
from lib.registry.errors import DamagedFile
from lib.registry.registry import Registry
from lib.registry.version import SHIPPED, Facts
from lib.registry.versions import Versions
from tests.support.trained import write_trained
from tests.support.weights import write_test_weights


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

    def compared(self) -> Compared:
        """As a round asks for it."""

        def weights_of(version: str) -> Path:
            return self.weights if version == SHIPPED else self.versions.weights(version)

        return find_compared(self.versions, self.base, "test", weights_of)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_what_is_in_force_is_compared_with(site: Site) -> None:
    assert site.compared() == Compared(SHIPPED, SHIPPED) and site.compared().measured == {"served": SHIPPED}
    first, second = site.add(1), site.add(2)
    site.versions.publish(first, "gate", is_best=True)
    assert site.compared().measured == {"served": first}
    site.versions.publish(second, "me")
    assert site.compared().measured == {"served": second, "best": first} and site.compared().remarks == ()
    (site.versions.folder / "served.json").unlink()
    (site.versions.folder / "history.jsonl").unlink()
    site.versions.publish(second, "me")
    assert site.compared().measured == {"served": second, "best": SHIPPED}


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
    found = site.compared()
    assert (found.served, found.best, found.measured) == (served, best, {"served": served})
    assert best in found.remarks[0] and str(site.folder) not in found.remarks[0]


def test_a_best_version_of_another_base_is_left_out(site: Site) -> None:
    best = site.add(1, is_elsewhere=True)
    site.versions.publish(best, "gate", is_best=True)
    site.versions.publish(SHIPPED, "me")
    (remark,) = site.compared().remarks
    assert best in remark and "trained on the base" in remark and str(site.folder) not in remark


def test_shipped_weights_that_are_gone_are_left_out(site: Site) -> None:
    served = site.add(1)
    site.versions.publish(served, "me")
    site.weights.unlink()
    found = site.compared()
    assert found.measured == {"served": served} and "shipped" in found.remarks[0]


@pytest.mark.parametrize("how", LOST)
def test_without_the_served_version_there_is_nothing_to_compare_with(site: Site, how: str) -> None:
    served = site.add(1)
    site.versions.publish(served, "me")
    LOST[how](site.versions.path(served))
    with pytest.raises(UnusableServed, match=f"The served version, {served}, cannot be loaded.*Roll back or publish"):
        site.compared()
    # As it says.
    site.versions.roll_back("me")
    assert site.compared().served == SHIPPED


def test_a_served_version_of_another_base_is_told(site: Site) -> None:
    site.versions.publish(site.add(1, is_elsewhere=True), "me")
    with pytest.raises(UnusableServed, match="trained on the base"):
        site.compared()
    assert not issubclass(UnusableServed, CheckpointError | DamagedFile)
