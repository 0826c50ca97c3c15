"""A box that a user drew around a structure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lib.prompts.click import Click
from lib.prompts.prompt import Prompt
from lib.prompts.reading import BoxError, ClickError, read_list, short

_FORMS = (
    "two opposite corner voxels [[i, j, k], [i, j, k]], or [i, i, j, j, k, k] as 3D Slicer sends it, in either order"
)


@dataclass(frozen=True)
class Box(Prompt):
    """A box along the axes of an image.

    Attributes:
        first: voxel [i, j, k] of the corner of lowest indices.
        last: voxel of the opposite corner; both belong to the box.
    """

    kind = "box"
    keys = ("box",)

    first: tuple[int, int, int]
    last: tuple[int, int, int]

    @classmethod
    def read(cls, request: Mapping[str, Any], image_shape: Sequence[int]) -> tuple["Box", ...]:
        """The part of the box that lies in the image.

        Args:
            request: ``box``: two corners, three pairs or six numbers, as such or as JSON text.
            image_shape: voxels along i, j, k.

        Raises:
            BoxError: other forms or numbers, no extent along an axis, or no part of it in the image.
        """
        value = request.get("box")
        pairs = _read_pairs(value)
        if pairs is None:
            return ()
        shape = [int(length) for length in image_shape]
        sizes = " x ".join(map(str, shape))
        low, high = ([end(pair) for pair in pairs] for end in (min, max))
        for axis, a, b, length in zip("ijk", low, high, shape, strict=True):
            if a == b:
                raise BoxError(
                    f"The box is {short(value)}, without extent along {axis} (both corners at {a}); at least 2 voxels "
                    "along each axis are expected. Draw it in the other views too, around the whole structure."
                )
            if min(b, length - 1) <= max(a, 0):
                raise BoxError(
                    f"The box is {short(value)}, along {axis} outside the image of {sizes} voxels (i, j, k, counted "
                    "from 0). If its corners are in mm, convert them with the inverse of the image's affine, "
                    "then round."
                )
        first, last = [max(a, 0) for a in low], [min(b, length - 1) for b, length in zip(high, shape, strict=True)]
        return (Box((first[0], first[1], first[2]), (last[0], last[1], last[2])),)

    @classmethod
    def to_json(cls, prompts: Sequence["Box"]) -> dict[str, Any]:
        return {"box": [list(prompts[0].first), list(prompts[0].last)] if prompts else None}

    @property
    def centre(self) -> tuple[int, int, int]:
        """The voxel in the middle, the lower one of two."""
        i, j, k = ((low + high) // 2 for low, high in zip(self.first, self.last, strict=True))
        return i, j, k

    def holds(self, click: Click) -> bool:
        """Whether a click lies in the box."""
        return all(low <= at <= high for low, at, high in zip(self.first, click.ijk, self.last, strict=True))

    def widened(self, share: float) -> "Box":
        """With each face moved outwards by a share of the side, at least by one voxel; it may leave the image."""
        first, last = np.array(self.first), np.array(self.last)
        more = np.maximum(1, np.ceil(share * (last - first + 1))).astype(int)
        (a, b, c), (d, e, f) = (first - more).tolist(), (last + more).tolist()
        return Box((a, b, c), (d, e, f))

    def slices(self, shape: Sequence[int]) -> tuple[slice, slice, slice]:
        """Of an array of that shape."""
        i, j, k = (
            slice(max(low, 0), min(high + 1, length))
            for low, high, length in zip(self.first, self.last, shape, strict=True)
        )
        return i, j, k


def _read_pairs(value: Any) -> list[tuple[int, int]] | None:
    """The two ends along i, j and k, unsorted."""
    try:
        read = read_list("roi", value)
    except ClickError as error:
        raise _form_error(value) from error
    if not read:
        return None
    lengths = [len(part) if isinstance(part, list | tuple) else 0 for part in read]
    if lengths == [3, 3]:
        ends = list(zip(*read, strict=True))
    elif lengths == [2, 2, 2]:
        ends = [tuple(pair) for pair in read]
    elif lengths == [0] * 6:
        ends = [(read[0], read[1]), (read[2], read[3]), (read[4], read[5])]
    else:
        raise _form_error(value)
    return [(_whole(a, value), _whole(b, value)) for a, b in ends]


def _whole(number: Any, value: Any) -> int:
    is_number = isinstance(number, int | float) and not isinstance(number, bool)
    if not is_number or not -math.inf < number < math.inf or number != int(number):
        raise BoxError(
            f"The box is {short(value)}, and {short(number)} in it is no whole number; voxel indices are expected: "
            f"{_FORMS}."
        )
    return int(number)


def _form_error(value: Any) -> BoxError:
    return BoxError(f"The box is {short(value)}; {_FORMS}, are expected. Send whole voxel indices.")
