"""Predicted error and foreground: which case comes, by scores that are known."""

import random
from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monailabel.datastore.local import LocalDatastore

from lib.activelearning.by_score import ByScore
from lib.activelearning.first_clicks import FirstClicks
from lib.activelearning.foreground import Foreground
from lib.activelearning.next_case import Pool
from lib.activelearning.predicted_error import (
    CLUSTERS,
    FIRST_LABELS,
    LAST_LABELS,
    PredictedError,
    beta,
    clusters,
    noisiest,
    strata,
)
from lib.host.workflow import Workflow
from lib.presets import load_preset
from lib.serving.predicted_dice import Calibration, Line
from lib.serving.preset_segmenter import PresetSegmenter, SharedState
from lib.workflow.scores import WHOLE, Score, keep_score
from lib.workflow.served import FALLBACK, STRATEGY, read_served
from tests.support.server import APP_DIR

LABELLED = [f"labelled_{number:02}" for number in range(LAST_LABELS)]
POOL = ["easy", "hard", "unseen", "worst"]


class Site:
    """Labelled images and four others, and a strategy."""

    def __init__(self, folder: Path, strategy: type[ByScore], labels: int) -> None:
        preset = load_preset(APP_DIR / "configs/ct.yaml")
        weights = folder / "app" / preset.model.files[-1]
        weights.parent.mkdir(parents=True)
        (folder / "app" / preset.model.files[0]).write_bytes(b"a base")
        weights.write_bytes(b"weights")
        images = folder / "images"
        images.mkdir()
        image = nib.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4))
        self.names = [*LABELLED[:labels], *POOL]
        for name in self.names:
            nib.save(image, images / f"{name}.nii.gz")
        (images / "labels" / "final").mkdir(parents=True)
        for name in LABELLED[:labels]:
            nib.save(image, images / "labels" / "final" / f"{name}.nii.gz")
        self.store, self.workflow = LocalDatastore(str(images)), Workflow(folder / "learning")
        self.segmenter = PresetSegmenter(preset, folder / "app", SharedState.of())
        self.begun = 0
        self.strategy = strategy(self.workflow, self.segmenter, self.begin)  # type: ignore[call-arg]

    def begin(self) -> bool:
        self.begun += 1
        return True

    def score(self, structure: str, numbers: dict[str, np.ndarray]) -> None:
        version = self.segmenter.served.weights_sha256()
        with self.workflow.database(self.store).changing() as connection:
            for name, values in numbers.items():
                score = Score(name, "ct", structure, name, name, version, values.astype("<f4").tobytes(), 1.0)
                keep_score(connection, score)

    def see(self) -> None:
        """Features by which `unseen` is the odd one out."""
        self.score(WHOLE, {name: np.array([9.0 if name == "unseen" else len(name) / 99]) for name in self.names})

    def click(self, structure: str = "lesion", **errors: float | None) -> None:
        """Clicks with these predicted errors; None where nothing was found."""
        found = {
            name: FirstClicks(0.0) if error is None else FirstClicks(500.0, 1 - error, (1 - error,) * 2)
            for name, error in errors.items()
        }
        self.score(structure, {name: one.numbers() for name, one in found.items()})

    def ask(self, who: str = "anna") -> str:
        answer = self.strategy({"client_id": who}, self.store)
        assert answer is not None
        return str(answer["id"])

    def arms(self) -> list[str]:
        with self.workflow.database(self.store).reading() as connection:
            return [one.arm for one in read_served(connection)]


ERRORS = {"easy": 0.02, "hard": 0.6, "worst": 0.9}


def test_with_many_labels_the_worst_comes_first_and_what_was_not_found_last(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    site = Site(tmp_path, PredictedError, LAST_LABELS)
    site.see()
    site.click(**ERRORS, unseen=None)
    # Noise of scale 1/100 and one stratum: the network sees no clusters here but the odd one.
    given = [site.ask() for _ in range(4)]
    assert given[0] == "worst" and given[2:] == ["easy", "unseen"]
    assert site.arms() == [STRATEGY] * 4 and site.begun == 0
    assert "no case that is left has a predicted error" in caplog.text


def test_the_first_cases_come_by_coverage(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    site = Site(tmp_path, PredictedError, FIRST_LABELS - 1)
    site.see()
    site.click(**ERRORS, unseen=0.01)
    assert site.ask() == "unseen" and site.arms() == [STRATEGY] and "Next sample" not in caplog.text


def test_without_any_score_cases_come_in_turn_and_are_scored(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    site = Site(tmp_path, PredictedError, FIRST_LABELS)
    assert {site.ask() for _ in range(4)} == set(POOL) and site.arms() == [FALLBACK] * 4
    assert caplog.text.count("so cases come in turn") == 1 and site.begun == 1
    site.see()
    site.ask()
    assert site.begun == 1, "what was asked for is not asked for again"
    site.click(**ERRORS, unseen=None)
    assert site.ask() in ERRORS and site.begun == 1 and "by predicted_error again" in caplog.text


def test_foreground_draws_where_something_was_found(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    site = Site(tmp_path, Foreground, 3)
    first = site.ask()
    assert site.begun == 1 and site.arms() == [FALLBACK] and "any case is drawn" in caplog.text
    site.click(**{name: 0.5 if name in ("easy", "hard", "worst") else None for name in POOL})
    given = [site.ask() for _ in range(3)]
    found = [name for name in ("easy", "hard", "worst") if name != first]
    assert set(given[: len(found)]) == set(found)
    assert site.arms()[1:] == [STRATEGY] * len(found) + [FALLBACK] * (3 - len(found))


def test_below_three_labels_nobody_knows_where_to_click(tmp_path: Path) -> None:
    site = Site(tmp_path, Foreground, 2)
    site.ask()
    assert site.begun == 0


def test_the_noise_shrinks_with_the_labels() -> None:
    assert [round(beta(labels), 6) for labels in (0, 10, 30, 50, 500)] == [1, 1, 10, 100, 100]
    draw, scores = random.Random(0), {"a": 0.2, "b": 0.6}
    counts = Counter(noisiest(scores, 1.0, draw) for _ in range(4000))
    # A chance like the score: 3 in 4, within four deviations.
    assert abs(counts["b"] / 4000 - 0.75) < 4 * (0.75 * 0.25 / 4000) ** 0.5
    assert {noisiest(scores, 100.0, draw) for _ in range(100)} == {"b"}
    assert noisiest({"only": 0.0}, 1.0, draw) == "only"


def test_two_in_three_choices_go_to_a_stratum_that_is_drawn(tmp_path: Path) -> None:
    liver, rare = {f"liver_{number}": 0.9 for number in range(19)}, {"rare": 0.1}
    assert strata({"liver": liver, "spleen": rare}, {}) == [liver, rare]
    site = Site(tmp_path, PredictedError, LAST_LABELS)
    site.click(structure="liver", easy=0.9, hard=0.9, worst=0.9)
    site.click(structure="spleen", unseen=0.1)
    with site.workflow.database(site.store).reading() as connection:
        pool = Pool(POOL, {}, frozenset(LABELLED), LAST_LABELS, random.Random(0), connection)
        chosen = [site.strategy.choose(pool)[0] for _ in range(400)]
    # 66 % of the choices, each second of them: the chance of the spleen, within four deviations. Over all, never.
    assert abs(chosen.count("unseen") / 400 - 0.33) < 4 * (0.33 * 0.67 / 400) ** 0.5


def test_clusters_keep_together_what_looks_alike() -> None:
    rng = np.random.default_rng(0)
    at = {f"{group}_{n}": (10.0 * np.eye(CLUSTERS)[group] + rng.normal(size=CLUSTERS)).astype(np.float32)
          for group in range(CLUSTERS) for n in range(6)}  # fmt: skip
    found = clusters(at)
    groups = {frozenset(name for name in found if found[name] == number) for number in set(found.values())}
    assert groups == {frozenset(name for name in at if name[0] == str(group)) for group in range(CLUSTERS)}
    errors = {"lesion": {"0_1": 0.5, "0_2": 0.5, "3_1": 0.5, "new": 0.5}}
    assert sorted(map(sorted, strata(errors, at))) == [["0_1", "0_2"], ["3_1"], ["new"]]
    assert set(clusters(dict(list(at.items())[:CLUSTERS])).values()) == {0}


def test_what_the_error_is_made_of() -> None:
    clicks = FirstClicks(800.0, 0.5, (0.75, 0.25))
    assert FirstClicks.of_numbers(clicks.numbers().tobytes()) == clicks
    assert FirstClicks.of_numbers(b"") is None
    unsure = FirstClicks(800.0, 0.5, (float("nan"),) * 2)
    assert unsure.error(None) == 0.5, "a network without probabilities"
    worse = Calibration("key", 20, (Line(0.0, 0.5, 0.1),))
    assert clicks.error(worse) > clicks.error(None)
    nothing = FirstClicks.of_numbers(FirstClicks(0.0).numbers().tobytes())
    assert nothing is not None and not nothing.is_found
