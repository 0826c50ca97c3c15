"""Reading of clicks: what is accepted, and what each refusal says."""

from typing import Any

import numpy as np
import pytest

from lib.prompts.click import MAX_CLICKS, Click
from lib.prompts.reading import ClickError

SHAPE = (50, 40, 30)


def read(foreground: Any, background: Any = None) -> tuple[Click, ...]:
    return Click.read({"foreground": foreground, "background": background}, SHAPE)


@pytest.mark.parametrize(
    "foreground",
    [
        [[45, 35, 25]],
        [(45, 35, 25)],
        ((45, 35, 25),),
        [[45.0, 35.0, 25.0]],
        "[[45, 35, 25]]",
        "  [[45.0, 35, 25]] ",
        [np.array([45, 35, 25])],
        np.array([[45, 35, 25]]),
        [[np.int64(45), np.int16(35), np.float32(25)]],
    ],
    ids=lambda value: f"{type(value).__name__} {value!r:.30}",
)
def test_accepts_what_clients_send(foreground: Any) -> None:
    (click,) = read(foreground)
    assert click == Click((45, 35, 25), is_foreground=True)
    assert [type(index) for index in click.ijk] == [int] * 3


def test_order_and_signs_are_kept() -> None:
    clicks = read([[3, 2, 1], [49, 0, 29]], [[1, 2, 3], [0, 39, 0]])
    assert [click.ijk for click in clicks] == [(3, 2, 1), (49, 0, 29), (1, 2, 3), (0, 39, 0)]
    assert [click.is_foreground for click in clicks] == [True, True, False, False]


@pytest.mark.parametrize("background", [None, [], "", "[]", (), np.zeros((0, 3))])
def test_background_may_be_absent(background: Any) -> None:
    assert len(read([[1, 2, 3]], background)) == 1


@pytest.mark.parametrize("nothing", [None, [], "", " ", "[]", "null", ()])
def test_none_at_all(nothing: Any) -> None:
    assert read(nothing, nothing) == Click.read({}, SHAPE) == ()


def test_written_and_read_again() -> None:
    clicks = read([[3, 2, 1], [49, 0, 29]], [[1, 2, 3]])
    assert Click.read(Click.to_json(clicks), SHAPE) == clicks


# (foreground, background, words of the message)
REFUSED: dict[str, tuple[Any, Any, list[str]]] = {
    "text": ("here", None, ["'foreground'", "'here'", "[i, j, k]"]),
    "mapping": ({"i": 1}, None, ["'foreground'", "{'i': 1}"]),
    "number": (7, None, ["7", "list"]),
    "flag": (True, None, ["True", "list"]),
    "flat triple": ([1, 2, 3], None, ["Click 1", "triples"]),
    "two numbers": ([[1, 2]], None, ["[1, 2]", "three"]),
    "four numbers": ([[1, 2, 3, 4]], None, ["[1, 2, 3, 4]", "three"]),
    "text in triple": ([[1, "2", 3]], None, ["'2'", "finite number"]),
    "null in triple": ([[1, None, 3]], None, ["None", "finite number"]),
    "flag in triple": ([[1, True, 3]], None, ["True", "finite number"]),
    "nan": ([[1, float("nan"), 3]], None, ["nan", "finite number"]),
    "nan in JSON": ("[[1, NaN, 3]]", None, ["nan", "finite number"]),
    "infinite": ([[1, 2, float("inf")]], None, ["inf", "finite number"]),
    "complex": ([[1, 2, 3j]], None, ["finite number"]),
    "not whole": ([[1, 2.5, 3]], None, ["2.5", "whole", "affine"]),
    "negative": ([[1, 2, -1]], None, ["-1", "50 x 40 x 30", "affine"]),
    "beyond i": ([[50, 0, 0]], None, ["[50, 0, 0]", "50 x 40 x 30"]),
    "beyond j": ([[0, 40, 0]], None, ["[0, 40, 0]", "50 x 40 x 30"]),
    "beyond k": ([[0, 0, 30]], None, ["[0, 0, 30]", "50 x 40 x 30"]),
    "second click": ([[1, 2, 3], [1, 2]], None, ["Click 2 of 'foreground'"]),
    "background": ([[1, 2, 3]], [[1, 2, 300]], ["Click 1 of 'background'", "300"]),
    "both": ([[1, 2, 3], [4, 5, 6]], [[7, 8, 9], [4, 5, 6]], ["[4, 5, 6]", "both", "background"]),
    "too many": ([[1, 2, 3]] * MAX_CLICKS, [[3, 2, 1]], ["1001", "1000"]),
    "deep": ("[" * 100_000, None, ["list"]),
    "nested in text": ("[" * 900 + "]" * 900, None, ["nested", "[i, j, k]"]),
    "nested": ([[[[[[[[[[[[1]]]]]]]]]]]], None, ["Click 1", "..."]),
    "long text": ("x" * 100_000, None, ["'xxx", "..."]),
    "huge number": ([[1, 2, 10**400]], None, ["1000", "50 x 40 x 30"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_say_what_and_why(case: str) -> None:
    foreground, background, words = REFUSED[case]
    with pytest.raises(ClickError) as caught:
        read(foreground, background)
    message = str(caught.value)
    for word in words:
        assert word in message
    assert len(message) < 500


def test_as_many_as_allowed() -> None:
    assert len(read([[1, 2, 3]] * MAX_CLICKS)) == MAX_CLICKS
