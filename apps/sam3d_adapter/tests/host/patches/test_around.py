"""How mends are put around functions of the host, and taken off."""

import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from lib.host.patches.around import put_around, put_in_place, take_off

NAME = "monailabel.endpoints.made_up"


@pytest.fixture
def module() -> Iterator[ModuleType]:
    made = ModuleType(NAME)
    made.answer = lambda number: number
    made.json = "json"
    sys.modules[NAME] = made
    yield made
    take_off()
    del sys.modules[NAME]


def plus(more: int) -> Any:
    return lambda host, number: host(number) + more


def test_absent_module_is_no_error() -> None:
    put_around("monailabel.endpoints.absent", "answer", plus(1))
    put_in_place("monailabel.endpoints.absent", "answer", str)


def test_newest_mend_alone_is_in_force(module: ModuleType) -> None:
    put_around(NAME, "answer", plus(1))
    assert module.answer(0) == 1
    put_around(NAME, "answer", plus(10))
    assert module.answer(0) == 10


def test_what_others_put_around_stays(module: ModuleType) -> None:
    put_around(NAME, "answer", plus(1))
    mended = module.answer
    module.answer = lambda number: mended(number) * 100
    put_around(NAME, "answer", plus(2))
    assert module.answer(0) == 200


def test_take_off(module: ModuleType) -> None:
    host = module.answer
    put_around(NAME, "answer", plus(1))
    put_in_place(NAME, "json", lambda was: was + "!")
    put_in_place(NAME, "json", lambda was: was + "?")
    mended = module.answer
    assert module.json == "json?"
    take_off()
    assert module.answer is host and module.json == "json"
    assert mended(0) == 0  # kept by somebody
    put_around(NAME, "answer", plus(3))
    assert module.answer(0) == 3
