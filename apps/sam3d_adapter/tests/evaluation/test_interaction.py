"""Dialogues with tasks whose answers are known beforehand."""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from lib.evaluation.interaction import Answer, Trace, ball_interaction, play_interaction, standing, steps_of
from lib.evaluation.simulated_user import SimulatedClick, SimulatedUser

SPACING = (1.0, 1.0, 1.0)
TRUTH = np.zeros((12, 12, 12), bool)
TRUTH[3:9, 3:9, 3:9] = True
HALF = TRUTH.copy()
HALF[6:] = False


class Scripted:
    """Gives its answers in turn, the last one from then on; exceptions are raised."""

    def __init__(self, *answers: np.ndarray | Answer | Exception) -> None:
        self._answers = list(answers)
        self.asked: list[list[SimulatedClick]] = []

    def __call__(self, image: Path, clicks: Sequence[SimulatedClick]) -> Answer:
        self.asked.append(list(clicks))
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, Answer) else Answer(answer, encode_ms=5.0, encodes=1, click_ms=2.0)


def talk(task: Scripted, mode: str = "centre", **more: float) -> Trace:
    user = SimulatedUser(TRUTH, SPACING, mode, 42, "a")
    return play_interaction(task, Path("a.nii"), TRUTH, SPACING, user, steps_of(mode), **more)


def test_every_request_holds_the_dialogue_so_far() -> None:
    task = Scripted(HALF)
    trace = talk(task)
    assert [len(clicks) for clicks in task.asked] == list(range(1, 11))
    assert all(task.asked[-1][:n] == clicks for n, clicks in enumerate(task.asked, start=1))
    assert trace.dice == pytest.approx([2 / 3] * 10) and not any(trace.failed)
    assert [step for step, _ in trace.clicks] == list(range(1, 11))


def test_a_mask_without_error_ends_the_clicks_and_keeps_its_scores() -> None:
    task = Scripted(HALF, TRUTH)
    trace = talk(task)
    assert len(task.asked) == 2 and len(trace.clicks) == 2
    assert trace.dice == pytest.approx([2 / 3] + [1.0] * 9)
    assert trace.nsd2[1:] == [1.0] * 9 and trace.obeyed[1:] == [1.0] * 9
    assert trace.request_ms[2:] == trace.click_ms[2:] == trace.encode_ms[2:] == [None] * 8


FAILURES = [
    pytest.param(RuntimeError("out of order"), "out of order", id="exception"),
    pytest.param(Answer(np.ones((12, 12, 11), bool)), "shape", id="shape"),
    pytest.param(Answer(np.full(TRUTH.shape, np.nan)), "not finite", id="not finite"),
]


@pytest.mark.parametrize(("failure", "words"), FAILURES)
def test_a_failed_request_counts_as_an_empty_mask(failure: Exception | Answer, words: str) -> None:
    task = Scripted(HALF, failure, HALF, TRUTH)
    trace = talk(task)
    assert trace.failed == [False, True] + [False] * 8
    assert trace.dice == pytest.approx([2 / 3, 0, 2 / 3] + [1.0] * 7) and trace.nsd2[1] == 0
    assert words in (trace.errors[1] or "")
    # From an empty mask the user clicks the middle of the whole object again.
    assert task.asked[2][-1].ijk == task.asked[0][0].ijk


def test_a_request_that_takes_too_long_has_failed() -> None:
    class Slow(Scripted):
        def __call__(self, image: Path, clicks: Sequence[SimulatedClick]) -> Answer:
            if len(clicks) == 1:
                time.sleep(5)
            return super().__call__(image, clicks)

    began = time.monotonic()
    trace = talk(Slow(TRUTH), timeout_s=0.2)
    assert time.monotonic() - began < 4
    assert trace.failed == [True] + [False] * 9 and "longer than 0.2 s" in (trace.errors[0] or "")


def test_what_the_network_obeyed_is_taken_from_the_task_where_it_tells() -> None:
    told = Answer(TRUTH, obeyed_by_network=[False])
    assert talk(Scripted(told)).obeyed_before == [0.0] * 10
    assert talk(Scripted(told)).obeyed == [1.0] * 10
    ignored = talk(Scripted(~TRUTH))
    assert ignored.obeyed_before == ignored.obeyed and ignored.obeyed[0] == 0.0


def test_clicks_given_at_once_are_one_request() -> None:
    task = Scripted(HALF)
    trace = talk(task, "paper-3")
    assert len(task.asked) == 1 and len(task.asked[0]) == 3
    assert trace.dice == pytest.approx([2 / 3]) and [step for step, _ in trace.clicks] == [1, 1, 1]


def test_of_two_signs_in_one_voxel_the_later_stands() -> None:
    first, other, later = (
        SimulatedClick((1, 1, 1), (1, 1, 1), True),
        SimulatedClick((2, 1, 1), (2, 1, 1), True),
        SimulatedClick((1, 1, 1), (1, 2, 1), False),
    )
    assert standing([first, other, later]) == [other, later]
    assert standing([other, other, first]) == [other, other, first]


def test_encodings_are_counted_where_they_ran() -> None:
    task = Scripted(Answer(HALF, encodes=2, encode_ms=9.0, click_ms=1.0), Answer(HALF, click_ms=1.0))
    trace = talk(task)
    assert trace.encodes == [2] + [0] * 9 and trace.encode_ms == [9.0] + [None] * 9
    assert trace.click_ms == [1.0] * 10


def test_the_ball_is_clicked_on_as_a_task_is() -> None:
    truth = np.zeros((40, 40, 40), bool)
    truth[10:30, 10:30, 10:30] = True
    user = SimulatedUser(truth, SPACING, "centre", 42, "a")
    scores = ball_interaction(truth, SPACING, (8.0, 5.0), user, 10)
    assert len(scores) == 10 and scores[0] == pytest.approx(2 * 2109 / (2109 + 8000), rel=0.01)
    assert scores[-1] > scores[0]
