"""Wrapping functions of the host, and unwrapping them."""

import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from lib.host.patches.wrapping import replace, unwrap, wrap

NAME = "monailabel.endpoints.made_up"


@pytest.fixture
def module() -> Iterator[ModuleType]:
    made = ModuleType(NAME)
    made.answer = lambda number: number
    made.json = "json"
    sys.modules[NAME] = made
    yield made
    unwrap()
    del sys.modules[NAME]


def plus(more: int) -> Any:
    return lambda host, number: host(number) + more


def test_absent_module_is_no_error() -> None:
    wrap("monailabel.endpoints.absent", "answer", plus(1))
    replace("monailabel.endpoints.absent", "answer", str)


def test_newest_patch_alone_is_in_force(module: ModuleType) -> None:
    wrap(NAME, "answer", plus(1))
    assert module.answer(0) == 1
    wrap(NAME, "answer", plus(10))
    assert module.answer(0) == 10


def test_wrappers_of_others_stay(module: ModuleType) -> None:
    wrap(NAME, "answer", plus(1))
    patched = module.answer
    module.answer = lambda number: patched(number) * 100
    wrap(NAME, "answer", plus(2))
    assert module.answer(0) == 200


def test_unwrap(module: ModuleType) -> None:
    host = module.answer
    wrap(NAME, "answer", plus(1))
    replace(NAME, "json", lambda was: was + "!")
    replace(NAME, "json", lambda was: was + "?")
    patched = module.answer
    assert module.json == "json?"
    unwrap()
    assert module.answer is host and module.json == "json"
    assert patched(0) == 0  # kept by somebody
    wrap(NAME, "answer", plus(3))
    assert module.answer(0) == 3
