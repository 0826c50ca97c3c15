"""All that a user said of a structure, in one container."""

import numpy as np
import pytest

from lib.prompts.box import Box
from lib.prompts.click import Click
from lib.prompts.mask import MaskPrompt
from lib.prompts.prompt import prompt_kinds
from lib.prompts.prompts import Prompts
from lib.prompts.reading import PromptError

SHAPE = (50, 40, 30)
CLICKS = (Click((1, 2, 3)), Click((4, 5, 6), False), Click((7, 8, 9)))
BOX = Box((0, 0, 0), (20, 20, 20))


def some_mask() -> MaskPrompt:
    mask = np.zeros(SHAPE, bool)
    mask[10:15, 20:22, 3:8] = True
    return MaskPrompt(mask, "upload", 3, "hash")


def test_each_file_of_the_package_adds_its_kind() -> None:
    assert {name: kind for name, kind in prompt_kinds().items() if kind.__module__.startswith("lib.")} == {
        "click": Click, "box": Box, "mask": MaskPrompt,
    }  # fmt: skip


def test_foreground_clicks_come_first() -> None:
    prompts = Prompts((*CLICKS, BOX))
    assert prompts.clicks == (CLICKS[0], CLICKS[2], CLICKS[1])
    assert prompts.foreground == (CLICKS[0], CLICKS[2]) and prompts.background == (CLICKS[1],)
    assert prompts.of(Click) == CLICKS and prompts.kinds == {"click", "box"}
    assert prompts.box == BOX and prompts.mask is None


def test_nothing_said() -> None:
    prompts = Prompts()
    assert (prompts.clicks, prompts.box, prompts.mask, prompts.kinds) == ((), None, None, frozenset())
    assert Prompts.read({}, SHAPE) == prompts


def test_written_and_read_again() -> None:
    prompts, start = Prompts((*CLICKS, BOX)), some_mask()
    assert prompts.to_json() == {
        "foreground": [[1, 2, 3], [7, 8, 9]], "background": [[4, 5, 6]], "box": [[0, 0, 0], [20, 20, 20]],
    }  # fmt: skip
    again = Prompts.read(prompts.to_json(), SHAPE, [start])
    assert again.clicks == prompts.clicks and again.box == BOX and again.mask is start
    # The voxels of a mask are not written.
    assert again.to_json() == prompts.to_json() | {"start_from": "upload", "start_value": 3}


@pytest.mark.parametrize("request_", [{"foreground": [[1, 2, 30]]}, {"box": [1, 1, 2, 3, 4, 5]}, {"background": "x"}])
def test_what_cannot_be_used(request_: dict) -> None:
    with pytest.raises(PromptError):
        Prompts.read(request_, SHAPE)


def test_the_middle_of_a_mask() -> None:
    assert some_mask().centre == (12.0, 20.5, 5.0)
    assert MaskPrompt(np.zeros(SHAPE, bool), "label", 1, "h").centre == (24.5, 19.5, 14.5)
