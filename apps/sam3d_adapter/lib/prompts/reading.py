"""Values that clients sent, read with care: they may be of any type, as long or as deep as a client likes."""

import json
import reprlib
from typing import Any

import numpy as np

_MAX_DEPTH = 16
# repr() of a client's list would write all of it, or run out of stack.
_REPR = reprlib.Repr()
_REPR.maxlevel, _REPR.maxstring, _REPR.maxother = 4, 80, 80


class PromptError(ValueError):
    """A prompt that cannot be used: what was sent, what is expected, what to do."""


class ClickError(PromptError):
    """Clicks that cannot be used."""


class BoxError(PromptError):
    """A box that cannot be used."""


def read_list(name: str, value: Any) -> list[Any]:
    """The list that a client sent, as such or as JSON text; empty where it sent nothing.

    Args:
        name: of the key, for messages.
        value: of the key; None where it was absent.

    Raises:
        ClickError: something else than a list.
    """
    if isinstance(value, str) and value.strip():
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise _list_error(name, value) from error
        if is_nested_beyond(value, _MAX_DEPTH):
            raise ClickError(f"Clicks '{name}' are nested too deeply; a list of [i, j, k] voxel indices is expected.")
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if value is None or (isinstance(value, str) and not value.strip()):
        return []
    if not isinstance(value, list | tuple):
        raise _list_error(name, value)
    return list(value)


def is_nested_beyond(value: Any, depth: int) -> bool:
    """Whether lists and objects lie in one another deeper than ``depth``; what copies or prints them has a limit."""
    level = [value]
    for _ in range(depth):
        inner = [item for item in level if isinstance(item, dict | list)]
        level = [item for each in inner for item in (each.values() if isinstance(each, dict) else each)]
    return any(isinstance(item, dict | list) for item in level)


def short(value: Any) -> str:
    """A client's value for messages: quoted, so that it cannot break the answer, and of bounded length."""
    text = _REPR.repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _list_error(name: str, value: Any) -> ClickError:
    return ClickError(f"Clicks '{name}' are {short(value)}; a list of [i, j, k] voxel indices is expected.")


def clicks_of_another_label(key: Any, label: str) -> ClickError:
    """What to say of clicks that are meant for a structure which this task does not segment."""
    return ClickError(
        f"Clicks for {short(key)} were sent, but this task segments {short(label)} only. Select that label, or choose "
        "the model of the other structure."
    )
