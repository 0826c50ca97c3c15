"""Clicks: points that a user set on a structure or beside it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np

from lib.prompts.prompt import Prompt
from lib.prompts.reading import ClickError, read_list, short

MAX_CLICKS = 1000
"""Foreground and background together: far above what a hand sets, far below what the decoder's memory bears."""


@dataclass(frozen=True)
class Click(Prompt):
    """One point that the user set.

    Attributes:
        ijk: voxel index in the image array as stored in its file, before any reorientation.
        is_foreground: on the structure, as opposed to beside it.
    """

    kind = "click"
    keys = ("foreground", "background")

    ijk: tuple[int, int, int]
    is_foreground: bool = True

    @classmethod
    def read(cls, request: Mapping[str, Any], image_shape: Sequence[int]) -> tuple["Click", ...]:
        """Foreground clicks in their order, then background clicks in theirs.

        Args:
            request: ``foreground`` and ``background``, each a list of [i, j, k] or that list as JSON text.
            image_shape: voxels along i, j, k.

        Raises:
            ClickError: too many clicks, one that is no triple of whole numbers or lies outside the image, one voxel
                both foreground and background.
        """
        lists = {key: read_list(key, request.get(key)) for key in cls.keys}
        count = sum(map(len, lists.values()))
        if count > MAX_CLICKS:
            raise ClickError(f"{count} clicks were sent; at most {MAX_CLICKS} are accepted. Remove some of them.")
        shape = tuple(int(length) for length in image_shape)
        clicks = tuple(
            cls(_read_triple(name, number, value, shape), is_foreground=name == "foreground")
            for name, values in lists.items()
            for number, value in enumerate(values, start=1)
        )
        both = {c.ijk for c in clicks if c.is_foreground} & {c.ijk for c in clicks if not c.is_foreground}
        if both:
            raise ClickError(
                f"Voxel {list(min(both))} is both a foreground and a background click; it can be one only. "
                "Remove one of the two, and click with the structure's own label selected, not with 'background'."
            )
        return clicks

    @classmethod
    def to_json(cls, prompts: Sequence["Click"]) -> dict[str, Any]:
        return {
            "foreground": [list(click.ijk) for click in prompts if click.is_foreground],
            "background": [list(click.ijk) for click in prompts if not click.is_foreground],
        }


def on_structure(clicks: Sequence[Click]) -> tuple[Click, ...]:
    """The foreground clicks."""
    return tuple(click for click in clicks if click.is_foreground)


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
