"""Where clicks may stand in a request."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.prompts.reading import ClickError
from lib.requests.request import Request
from lib.requests.viewers import viewers

A, B, C = [1, 2, 3], [4, 5, 6], [7, 8, 9]


def read(request_: dict[str, Any], label: str = "lesion") -> tuple[list, list]:
    prompts = Request.read(request_, label).prompts
    return prompts["foreground"], prompts["background"]


def test_each_file_is_a_viewer() -> None:
    assert {viewer.__name__.rpartition(".")[2] for viewer in viewers()} == {"common", "ohif", "slicer", "vista3d"}


@pytest.mark.parametrize(
    ("request_", "foreground", "background"),
    [
        ({}, [], []),
        ({"foreground": None, "background": "", "points": [], "point_labels": "[]", "lesion": ()}, [], []),
        ({"foreground": [A, B], "background": [C]}, [A, B], [C]),
        ({"foreground": "[[1, 2, 3]]"}, [A], []),
        ({"foreground": {"lesion": [A]}, "background": [C]}, [A], [C]),
        ({"foreground": {"lesion": [A], "liver": []}}, [A], []),
        ({"foreground": {}}, [], []),
        ({"lesion": [A], "background": [C]}, [A], [C]),
        ({"foreground": [], "lesion": [A]}, [A], []),
        ({"points": [A, B, C], "point_labels": [1, 0, 1]}, [A, C], [B]),
        ({"points": "[[1, 2, 3]]", "point_labels": "[1]"}, [A], []),
        ({"points": [A], "point_labels": [1.0], "background": [C]}, [A], [C]),
        ({"foreground": [A], "lesion": [A], "points": [A], "point_labels": [1]}, [A], []),
        ({"liver": [], "spleen": "", "foreground": [A]}, [A], []),
    ],
)
def test_accepted(request_: dict[str, Any], foreground: list, background: list) -> None:
    assert read(request_) == (foreground, background)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"liver": [A]}, "'liver'.*'lesion' only"),
        ({"liver": [[1.5, 2.5]]}, "'liver'"),
        ({"liver": "[[1, 2, 3, 4]]"}, "'liver'"),
        ({"foreground": {"liver": [A]}}, "'liver'.*'lesion' only"),
        ({"foreground": {"lesion": "x"}}, "'lesion'.*list"),
        ({"foreground": [A], "lesion": [B]}, "'foreground' and as 'lesion'"),
        ({"background": [A], "points": [B, C], "point_labels": [1, 0]}, "'background' and as 'points'"),
        ({"points": [A]}, "1 'points' and 0 'point_labels'"),
        ({"points": [A], "point_labels": [7]}, "Label 1.*7"),
        ({"points": [A, B], "point_labels": [1, "1"]}, "Label 2.*'1'"),
    ],
)
def test_refused(request_: dict[str, Any], words: str) -> None:
    with pytest.raises(ClickError, match=words):
        read(request_)


@pytest.mark.parametrize("value", [3, "red", True, None, {}, [1, 2, 3], [[]], [["a", "b"]], [[1]], [[1] * 5], "[1, 2]"])
def test_foreign_keys_that_hold_no_clicks_pass(value: Any) -> None:
    assert read({"colour": value}) == ([], [])


def test_label_that_is_called_like_a_key_is_no_third_list() -> None:
    assert read({"background": [A]}, "background") == ([], [A])


@given(st.lists(st.tuples(st.tuples(*[st.integers()] * 3), st.booleans())))
def test_points_are_the_two_lists(clicks: list[tuple[tuple[int, int, int], bool]]) -> None:
    split = [[list(click) for click, sign in clicks if sign is wanted] for wanted in (True, False)]
    points = {"points": [list(click) for click, _ in clicks], "point_labels": [int(sign) for _, sign in clicks]}
    assert read(points) == read({"foreground": split[0], "background": split[1]}) == tuple(split)
