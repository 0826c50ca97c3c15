"""Next Sample's choice beside chance: which cases count, when it is told, and where their Dice comes from."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from lib.audit.auditor import Auditor
from lib.configs.task_config import Sam3dAdapterConfig
from lib.evaluation.metrics import dice
from lib.learning.arms import ARMS, LEAST_PATIENTS, compare_arms, read_arms, write_arms
from lib.learning.versions_page import versions_page
from lib.workflow.first_dice import FirstDice, read_first_dice
from lib.workflow.served import FALLBACK, RANDOM, STRATEGY, Served, note_served
from tests.support.hospital import Hospital

SAVED_AT = 100.0


def measured(image: str, dice: float | None, at: float = SAVED_AT) -> FirstDice:
    return FirstDice(image, "ct", "label", f"patient of {image}", "version", dice, at)


def site(chosen: Sequence[float | None], drawn: Sequence[float | None]) -> tuple[list[Served], dict[str, FirstDice]]:
    """A case for each score, all given by the strategy `coverage` before their labels were saved."""
    scores = [(STRATEGY, score) for score in chosen] + [(RANDOM, score) for score in drawn]
    served = [Served(n, f"case_{n}", "coverage", arm, float(n)) for n, (arm, _) in enumerate(scores)]
    return served, {f"case_{n}": measured(f"case_{n}", score) for n, (_, score) in enumerate(scores)}


def test_a_strategy_that_finds_hard_cases_is_told_with_its_interval() -> None:
    (found,) = compare_arms(*site([0.50, 0.54] * 8, [0.70, 0.74] * 6))
    assert (found.strategy, found.n_chosen, found.n_drawn) == ("coverage", 16, 12)
    assert found.mean == pytest.approx(-0.20) and found.low < -0.20 < found.high < 0
    assert "0.52 on the 16 patients that 'coverage' chose and 0.72 on 12 drawn at random: -0.20" in found.sentence
    assert found.sentence.endswith("knows less well than most.")


@pytest.mark.parametrize(
    ("chosen", "drawn", "words"), [(0.9, 0.6, "random' would do better"), (0.7, 0.7, "better than chance is not shown")]
)
def test_the_other_verdicts(chosen: float, drawn: float, words: str) -> None:
    (found,) = compare_arms(*site([chosen - 0.1, chosen + 0.1] * 6, [drawn - 0.1, drawn + 0.1] * 6))
    assert words in found.sentence


def test_nothing_is_told_of_few_patients() -> None:
    many, few = [0.5] * 30, [0.7] * (LEAST_PATIENTS - 1)
    assert compare_arms(*site(many, few)) == compare_arms(*site(few, many)) == compare_arms([], {}) == []
    # Answers that cannot be computed again do not count.
    assert compare_arms(*site(many, [*few, None])) == []
    served, found = site(many, [0.7] * LEAST_PATIENTS)
    assert len(compare_arms(served, found)) == 1
    # Two cases of one patient are one.
    one = found["case_39"].patient
    assert compare_arms(served, {**found, "case_38": FirstDice("case_38", "ct", "l", one, "v", 0.7, SAVED_AT)}) == []


def test_a_case_counts_for_what_gave_it_last_before_its_label() -> None:
    served, found = site([0.5] * 10, [0.7] * 11)
    given = [
        *served,
        Served(50, "case_20", "coverage", STRATEGY, 60.0),
        Served(51, "case_19", "coverage", STRATEGY, SAVED_AT + 60),
        Served(52, "case_18", "coverage", STRATEGY, 61.0),
        Served(53, "case_18", "coverage", RANDOM, 62.0),
        Served(54, "elsewhere", "coverage", RANDOM, 63.0),
    ]
    (one,) = compare_arms(given, found)
    assert (one.n_chosen, one.n_drawn) == (11, 10)
    assert compare_arms([*given, Served(55, "case_18", "coverage", FALLBACK, 64.0)], found) == []
    assert compare_arms([*given, Served(55, "case_18", "queue", STRATEGY, 64.0)], found) == []


def test_it_is_kept_and_damage_makes_silence(tmp_path: Path) -> None:
    found = compare_arms(*site([0.50, 0.54] * 8, [0.70, 0.74] * 6))
    write_arms(tmp_path / "versions", found)
    assert read_arms(tmp_path / "versions") == found and read_arms(tmp_path) == []
    for damage in ('[{"strategy": "coverage"}]', "{", "[3]"):
        (tmp_path / "versions" / ARMS).write_text(damage)
        assert read_arms(tmp_path / "versions") == []


def given(hospital: Hospital, arms: dict[str, str]) -> None:
    with hospital.task()._workflow.database(hospital.store).changing() as connection:
        for number, (image, arm) in enumerate(arms.items()):
            note_served(connection, image, "coverage", arm, float(number))


def kept(hospital: Hospital) -> dict[str, FirstDice]:
    with hospital.task()._workflow.database(hospital.store).reading() as connection:
        return read_first_dice(connection, "test")


def clicked(hospital: Hospital, name: str, *clicks: list[int]) -> list[np.ndarray]:
    """The masks of one click, of two, ..., as the app answers and records them."""
    task = Sam3dAdapterConfig(hospital.app, {"models": "test", "learning_dir": str(hospital.registry.learning_dir)})
    auditor, infer, masks = Auditor(hospital.audit_log, {"test": hospital.preset}), task.infers()["test"], []
    for count in range(1, len(clicks) + 1):
        request: dict[str, Any] = {"image": str(hospital.studies / f"{name}.nii.gz"), "foreground": clicks[:count]}
        file, answer = infer({**request, "device": "cpu", "result_extension": ".nii.gz"})
        auditor.record(name, {"file": file, "params": answer}, None)
        masks.append(np.asarray(nib.load(file).dataobj) > 0)
        Path(file).unlink()
    return masks


def truth(hospital: Hospital, name: str) -> np.ndarray:
    return np.asarray(nib.load(hospital.studies / "labels" / "final" / f"{name}.nii.gz").dataobj) > 0


@pytest.mark.slow
def test_a_training_measures_the_first_answers_of_the_cases_that_were_given(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    hospital.submit(4)
    names = [f"patient_{number:02d}" for number in range(4)]
    inside = {name: [voxel.tolist() for voxel in np.argwhere(truth(hospital, name))[[0, 500]]] for name in names}
    masks = {name: clicked(hospital, name, *inside[name]) for name in names[:3]}
    hospital.submit(4)  # labels are saved after the answers
    given(hospital, {names[0]: STRATEGY, names[1]: RANDOM, names[3]: STRATEGY})
    hospital.train()
    found = kept(hospital)
    assert set(found) == {names[0], names[1], names[3]}, "nobody was given the other one"
    for name in names[:2]:
        assert found[name].dice == pytest.approx(dice(masks[name][0], truth(hospital, name)))
        assert found[name].dice != pytest.approx(dice(masks[name][1], truth(hospital, name)))
        assert len(found[name].version) == 64 and name not in found[name].patient
    assert found[names[3]].dice is None, "nobody clicked on it"
    # Each label once; a label that was replaced, anew.
    hospital.spoil(names[:1])
    monkeypatch.setattr("lib.learning.first_answers.replay", None)
    hospital.train()
    again = kept(hospital)
    assert again[names[1]] == found[names[1]] and again[names[0]].dice is None


@pytest.mark.slow
def test_page_and_training_do_without(hospital: Hospital, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: object) -> None:
        raise RuntimeError("the disk is full")

    hospital.submit(1)
    monkeypatch.setattr("lib.trainers.train_task.write_arms", fails)
    assert hospital.train()["version"] is not None
    assert "Next Sample" not in versions_page(hospital.versions)
    write_arms(hospital.versions.folder, compare_arms(*site([0.50, 0.54] * 8, [0.70, 0.74] * 6)))
    assert "0.72 on 12 drawn at random" in versions_page(hospital.versions)
