"""Coverage: the case that covers most of what nobody has yet, and the queue where there are no scores."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monailabel.datastore.local import LocalDatastore

from lib.activelearning.coverage import Coverage, representative
from lib.host.workflow import Workflow
from lib.presets import load_preset
from lib.serving.preset_segmenter import PresetSegmenter, SharedState
from lib.workflow.scores import WHOLE, Score, keep_score
from lib.workflow.served import FALLBACK, RANDOM, STRATEGY, read_served
from tests.support.server import APP_DIR

PLACES = {"a": (0.0, 0.0), "b": (1.0, 0.0), "c": (0.0, 9.0), "d": (10.0, 0.0), "e": (10.0, 8.0)}


class Site:
    """Images with known features, and the strategy that serves them."""

    def __init__(self, folder: Path, **more: float) -> None:
        preset = load_preset(APP_DIR / "configs/ct.yaml")
        self.weights = folder / "app" / preset.model.files[-1]
        self.weights.parent.mkdir(parents=True)
        (folder / "app" / preset.model.files[0]).write_bytes(b"a base")
        self.weights.write_bytes(b"the first weights")
        images = folder / "images"
        images.mkdir()
        for name in PLACES:
            nib.save(nib.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4)), images / f"{name}.nii.gz")
        self.store, self.workflow = LocalDatastore(str(images)), Workflow(folder / "learning")
        self.segmenter = PresetSegmenter(preset, folder / "app", SharedState.of())
        self.begun = 0
        self.strategy = Coverage(self.workflow, self.segmenter, self.begin, **more)

    def begin(self) -> bool:
        self.begun += 1
        return True

    def score(self, *names: str) -> None:
        version = self.segmenter.served.weights_sha256()
        with self.workflow.database(self.store).changing() as connection:
            for name in names or PLACES:
                features = np.array(PLACES[name], "<f4").tobytes()
                keep_score(connection, Score(name, "ct", WHOLE, name, name, version, features, 1.0))

    def ask(self, who: str = "anna") -> str | None:
        answer = self.strategy({"client_id": who}, self.store)
        return None if answer is None else str(answer["id"])

    def submit(self, image: str) -> None:
        file = Path(self.store.get_image_uri(image))
        self.store.save_label(image, str(file), "final", {})

    def arms(self) -> list[str]:
        with self.workflow.database(self.store).reading() as connection:
            return [one.arm for one in read_served(connection)]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def left(chosen: str, covered: set[str]) -> float:
    """How far all images lie from a covered one, if this one is taken."""
    places = np.array(list(PLACES.values()))
    at = dict(zip(PLACES, (places - places.mean(0)) / places.std(0), strict=True))
    return sum(min(float(np.linalg.norm(at[one] - at[other])) for other in {*covered, chosen}) for one in PLACES)


def test_what_covers_most_comes_next_and_what_others_have_counts_as_covered(site: Site) -> None:
    site.score()
    site.submit("a")
    covered = {"a"}
    for who in ("anna", "ben", "anna", "ben"):
        best = min(sorted(set(PLACES) - covered), key=lambda one: left(one, covered))
        assert site.ask(who) == best
        covered.add(best)
    assert site.ask("carl") is None and site.arms() == [STRATEGY] * 4 and site.begun == 0


def test_the_first_case_is_the_most_typical(site: Site) -> None:
    site.score()
    assert site.ask() == min(PLACES, key=lambda one: left(one, set()))


def test_a_single_outlier_comes_after_the_groups() -> None:
    """The farthest case first would take it second."""
    rng = np.random.default_rng(0)
    groups = {"left": (0, 0), "right": (10, 0), "top": (5, 8)}
    features = {
        f"{name} {number}": np.array(middle) + rng.normal(0, 0.3, 2)
        for name, middle in groups.items()
        for number in range(10)
    }
    features["outlier"] = np.array([5.0, -20.0])
    chosen: list[str] = []
    while len(chosen) < 4:
        chosen.append(representative(features, [name for name in features if name not in chosen], chosen))
    assert {name.split()[0] for name in chosen[:3]} == set(groups) and chosen[3] == "outlier"


def test_a_large_pool_is_judged_by_a_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lib.activelearning.coverage.SAMPLE", 20)
    rng = np.random.default_rng(0)
    features = {f"{number:03d}": rng.normal(10 * (number % 2), 1, 3) for number in range(101)}
    first = representative(features, sorted(features), [])
    second = representative(features, [name for name in features if name != first], [first])
    assert int(first) % 2 != int(second) % 2


def test_a_feature_s_unit_does_not_matter() -> None:
    features = {name: np.array(place, np.float32) for name, place in PLACES.items()}
    stretched = {name: place * np.array([1.0, 1000.0], np.float32) for name, place in features.items()}
    for covered in (["a"], ["a", "e"], ["b", "c"]):
        rest = [name for name in PLACES if name not in covered]
        assert representative(features, rest, covered) == representative(stretched, rest, covered)
    constant = {name: np.append(place, np.float32(5)) for name, place in features.items()}
    assert representative(constant, ["b", "e"], ["a"]) == "e"


def test_without_scores_cases_come_in_turn_and_it_is_said(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    assert {site.ask() for _ in range(5)} == set(PLACES) and site.arms() == [FALLBACK] * 5
    assert caplog.text.count("so cases come in turn") == 1
    assert site.begun == 1, "once for the same images"
    site.score()
    site.ask()
    assert site.arms()[-1] == STRATEGY and "by coverage again" in caplog.text


def test_cases_with_a_score_come_before_those_without(site: Site) -> None:
    site.score("a", "d")
    assert {site.ask(), site.ask()} == {"a", "d"}
    assert site.ask() in {"b", "c", "e"} and site.arms() == [STRATEGY, STRATEGY, FALLBACK]


def test_scores_of_other_weights_do_not_count(site: Site) -> None:
    site.score()
    site.weights.write_bytes(b"the second weights, which were published since")
    site.ask()
    assert site.arms() == [FALLBACK] and site.begun == 1
    site.score()
    site.ask()
    assert site.arms() == [FALLBACK, STRATEGY]


def test_an_image_that_cannot_be_scored_is_served_and_not_asked_for_again(site: Site) -> None:
    site.score("a", "b", "c", "d")
    with site.workflow.database(site.store).changing() as connection:
        version = site.segmenter.served.weights_sha256()
        keep_score(connection, Score("e", "ct", WHOLE, "", "e", version, b"", 1.0))
    assert {site.ask() for _ in range(5)} == set(PLACES) and site.begun == 0


def test_missing_weights_stop_nobody(site: Site) -> None:
    site.score()
    site.weights.unlink()
    assert site.ask() in PLACES and site.arms() == [FALLBACK]


def test_its_random_arm_is_marked(tmp_path: Path) -> None:
    site = Site(tmp_path, random_share=1.0)
    site.score()
    assert {site.ask() for _ in range(5)} == set(PLACES) and site.arms() == [RANDOM] * 5
