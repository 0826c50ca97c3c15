"""From the keys of a request to clicks and the ROI's place."""

import pytest
import torch

from lib.infers.read_clicks import ReadClicksd
from lib.prompts.click import Click
from lib.prompts.reading import ClickError

IMAGE = torch.zeros(20, 30, 40, dtype=torch.int16)


def test_clicks_of_a_request() -> None:
    request = {"image": IMAGE, "foreground": [[19, 29, 39], [1, 2, 3]], "foregroundx": 7, "points": [[9, 9, 9]]}
    data = ReadClicksd()(request)
    assert data["clicks"] == (Click((19, 29, 39)), Click((1, 2, 3)))
    assert data["warnings"] == []
    assert "clicks" not in request


def test_clicks_of_both_kinds_are_taken_in_turn() -> None:
    before = ["earlier"]
    data = {"image": IMAGE, "foreground": [[1, 2, 3]], "background": [[4, 5, 6], [7, 8, 9]], "warnings": before}
    found = ReadClicksd()(data)
    assert [click.is_foreground for click in found["clicks"]] == [True, False, False]
    assert found["warnings"] == ["earlier"] and found["warnings"] is not before


@pytest.mark.parametrize("request_", [{}, {"foreground": [[20, 0, 0]]}, {"foreground": [[1, 1, 1]], "background": "x"}])
def test_bad_requests(request_: dict) -> None:
    with pytest.raises(ClickError):
        ReadClicksd()({"image": IMAGE, **request_})
