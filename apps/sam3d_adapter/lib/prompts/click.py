"""Clicks of a user: strict reading of what viewers send."""

import json
import math
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np

MAX_CLICKS = 1000
"""Foreground and background together: far above what a hand sets, far below what the decoder's memory bears."""

_MAX_DEPTH = 16
# A client's list may be long or deep; repr() would write all of it, or run out of stack.
_REPR = reprlib.Repr()
_REPR.maxlevel, _REPR.maxstring, _REPR.maxother = 4, 80, 80


class ClickError(ValueError):
    """Clicks that cannot be used: what was sent, what is expected, what to do."""


@dataclass(frozen=True)
class Click:
    """One point the user set.

    Attributes:
        ijk: voxel index in the image array as stored in its file, before any reorientation.
        is_foreground: on the structure, as opposed to beside it.
    """

    ijk: tuple[int, int, int]
    is_foreground: bool = True


def read_clicks(
    foreground: Any, background: Any, image_shape: Sequence[int], *, needs_foreground: bool = True
) -> tuple[Click, ...]:
    """Checks the clicks of a request.

    Args:
        foreground: list of [i, j, k], or that list as JSON text; None where the key was absent.
        background: the same.
        image_shape: voxels along i, j, k.
        needs_foreground: whether nothing else says where the structure is.

    Returns:
        Foreground clicks in their order, then background clicks in theirs.

    Raises:
        ClickError: no foreground click, too many clicks, one that is no triple of whole numbers or lies outside the
            image, one voxel both foreground and background.
    """
    lists = {"foreground": read_list("foreground", foreground), "background": read_list("background", background)}
    count = sum(map(len, lists.values()))
    if count > MAX_CLICKS:
        raise ClickError(f"{count} clicks were sent; at most {MAX_CLICKS} are accepted. Remove some of them.")
    if needs_foreground and not lists["foreground"]:
        raise ClickError(
            "No foreground click: 'foreground' is missing or empty; at least one [i, j, k] is needed. "
            "Select the label in the viewer and click on the structure."
        )
    shape = tuple(int(length) for length in image_shape)
    clicks = tuple(
        Click(_read_triple(name, number, value, shape), is_foreground=name == "foreground")
        for name, values in lists.items()
        for number, value in enumerate(values, start=1)
    )
    both = {click.ijk for click in clicks if click.is_foreground} & {c.ijk for c in clicks if not c.is_foreground}
    if both:
        raise ClickError(
            f"Voxel {list(min(both))} is both a foreground and a background click; it can be one only. "
            "Remove one of the two, and click with the structure's own label selected, not with 'background'."
        )
    return clicks


def on_structure(clicks: Sequence[Click]) -> tuple[Click, ...]:
    """The foreground clicks."""
    return tuple(click for click in clicks if click.is_foreground)


def read_list(name: str, value: Any) -> list[Any]:
    """The list a client sent, as such or as JSON text; empty where it sent nothing.

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


def _list_error(name: str, value: Any) -> ClickError:
    return ClickError(f"Clicks '{name}' are {short(value)}; a list of [i, j, k] voxel indices is expected.")


def _read_triple(name: str, number: int, value: Any, shape: tuple[int, ...]) -> tuple[int, int, int]:
    what = f"Click {number} of '{name}' is {short(value)}"
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if not isinstance(value, list | tuple) or len(value) != 3:
        raise ClickError(f"{what}; three voxel indices [i, j, k] are expected. Send a list of such triples.")
    if not all(map(_is_finite_number, value)):
        raise ClickError(f"{what}; each of [i, j, k] must be a finite number.")
    if not all(part == int(part) for part in value):
        raise ClickError(
            f"{what}; whole voxel indices are expected. "
            "If the point is in mm, convert it with the inverse of the image's affine, then round."
        )
    i, j, k = (int(part) for part in value)
    if not all(0 <= index < length for index, length in zip((i, j, k), shape, strict=True)):
        raise ClickError(
            f"{what}, outside the image of {' x '.join(map(str, shape))} voxels (i, j, k, counted from 0). "
            "If the point is in mm, convert it with the inverse of the image's affine; otherwise check that the "
            "viewer shows this very image."
        )
    return i, j, k


def _is_finite_number(value: Any) -> bool:
    # bool is a number to Python; numpy's integers and floats are Real as well. Not isfinite: an int may exceed a float.
    is_number: bool = isinstance(value, Real) and not isinstance(value, bool)
    return is_number and -math.inf < value < math.inf


def short(value: Any) -> str:
    """What a client sent, for messages: quoted, so that nothing in it can break the answer, and of bounded length."""
    text = _REPR.repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
