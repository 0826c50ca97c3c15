"""Records -> interactions: order of clicks across both signs, undo, reset, other places, users who take turns."""

from datetime import UTC, datetime

import numpy as np
import pytest

from lib.annotations.recorded_interactions import MAX_IDLE_S, in_order, interactions
from lib.prompts.click import Click

SHAPE = (40, 40, 40)
A, B, C, D = ([n, n, n] for n in (5, 6, 7, 8))
FAR = [30, 30, 30]


def record(time, foreground, background=(), user=None, mask="m"):
    return {
        "id": f"r{time}",
        "time": datetime.fromtimestamp(1_700_000_000 + time, UTC).isoformat(timespec="milliseconds"),
        "user": user,
        "request": {"foreground": list(foreground), "background": list(background)},
        "mask_hash": f"{mask}{time}",
        "mask_voxels": 10,
        "model_version": "v1",
    }


def clicks(*signed):
    return tuple(Click(tuple(ijk), sign == "+") for sign, ijk in signed)


def grouped(*records):
    return interactions(records, SHAPE)


def test_order_across_both_lists_comes_from_successive_records():
    (found,) = grouped(record(0, [A]), record(1, [A], [B]), record(2, [A], [B, C]), record(3, [A, D], [B, C]))
    assert found.last.clicks == clicks(("+", A), ("-", B), ("-", C), ("+", D))
    assert [len(step.clicks) for step in found.steps] == [1, 2, 3, 4]


def test_several_clicks_between_two_records_are_taken_in_turn():
    (found,) = grouped(record(0, [A]), record(1, [A, B, C], [D]))
    assert found.last.clicks == clicks(("+", A), ("+", B), ("-", D), ("+", C))


def test_undo_shrinks():
    (found,) = grouped(record(0, [A]), record(1, [A, B]), record(2, [A]), record(3, [A], [C]))
    assert [step.clicks for step in found.steps][2:] == [clicks(("+", A)), clicks(("+", A), ("-", C))]


def test_moved_point_stays_in_the_interaction():
    (found,) = grouped(record(0, [A]), record(1, [A, B]), record(2, [A, C]))
    assert found.last.clicks == clicks(("+", A), ("+", C))


def test_click_that_changes_its_sign_is_a_new_one():
    (found,) = grouped(record(0, [A]), record(1, [A, B]), record(2, [A], [B]))
    assert found.last.clicks == clicks(("+", A), ("-", B))


def test_another_place_and_a_reset_begin_anew():
    first, second, third = grouped(record(0, [A]), record(1, [A, B]), record(2, [FAR]), record(3, [C]))
    assert (first.last.clicks, second.last.clicks) == (clicks(("+", A), ("+", B)), clicks(("+", FAR)))
    assert third.last.clicks == clicks(("+", C))


def test_same_request_again_is_a_step():
    (found,) = grouped(record(0, [A]), record(9, [A]))
    assert len(found.steps) == 2 and found.last.mask_hash == "m9"


def test_users_are_kept_apart():
    found = grouped(record(0, [A], user="x"), record(1, [A], user="y"), record(2, [A, B], user="x"))
    assert [len(each.steps) for each in found] == [2, 1]


def test_unknown_users_who_take_turns():
    found = grouped(record(0, [A]), record(1, [FAR]), record(2, [A, B]), record(3, [FAR], [[31, 30, 30]]))
    assert [each.last.clicks for each in found] == [
        clicks(("+", A), ("+", B)), clicks(("+", FAR), ("-", [31, 30, 30])),
    ]  # fmt: skip


def test_records_come_in_any_order():
    records = [record(0, [A]), record(1, [A], [B]), record(2, [A, C], [B])]
    assert grouped(*reversed(records)) == grouped(*records)


@pytest.mark.parametrize(
    "wrong",
    [
        record(1, [[40, 0, 0]]),
        record(1, [[0.5, 0, 0]]),
        record(1, []),
        record(1, "x"),
        record(1, [A], [A]),
        record(1, [A]) | {"time": "yesterday"},
        record(1, [A]) | {"request": None},
        {key: value for key, value in record(1, [A]).items() if key != "mask_hash"},
    ],
)
def test_records_of_something_else_are_passed_over(wrong):
    (found,) = grouped(record(0, [A]), wrong, record(2, [A, B]))
    assert len(found.steps) == 2


def test_seconds_leave_pauses_out():
    (found,) = grouped(record(0, [A]), record(10, [A, B]), record(5000, [A, B, C]))
    assert found.seconds() == 10 + MAX_IDLE_S
    end = found.last.time
    assert found.seconds(end + 7) == 17 + MAX_IDLE_S and found.seconds(end + 9999) == 10 + 2 * MAX_IDLE_S
    assert found.seconds(end - 3) == 10 + MAX_IDLE_S
    assert found.until(1).seconds() == 10 and len(found.until_time(end - 1).steps) == 2


@pytest.mark.parametrize("seed", range(20))
def test_any_history_of_single_clicks_is_told_in_its_order(seed):
    rng = np.random.default_rng(seed)
    voxels = [list(map(int, v)) for v in rng.permutation(np.argwhere(np.ones((4, 4, 4))))[:12]]
    history, records = [("+", voxels[0])], []
    for time, voxel in enumerate(voxels[1:]):
        by_sign = {sign: [v for s, v in history if s == sign] for sign in "+-"}
        records.append(record(time, by_sign["+"], by_sign["-"]))
        history.append(("+" if rng.random() < 0.5 else "-", voxel))
    (found,) = grouped(*records)
    assert found.last.clicks == clicks(*history[:-1])
    if seed == 0:  # the order in which the lists alone would be read is another
        assert in_order(found.last.clicks) != found.last.clicks
