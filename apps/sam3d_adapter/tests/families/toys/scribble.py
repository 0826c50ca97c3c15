"""A scribble: voxels that a user painted on the structure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lib.prompts.click import Click
from lib.prompts.prompt import Prompt


@dataclass(frozen=True)
class Scribble(Prompt):
    """Voxels on the structure.

    Attributes:
        voxels: indices [i, j, k] in the image.
    """

    kind = "scribble"
    keys = ("scribble",)

    voxels: tuple[tuple[int, int, int], ...]

    @classmethod
    def read(cls, request: Mapping[str, Any], image_shape: Sequence[int]) -> tuple["Scribble", ...]:
        clicks = Click.read({"foreground": request.get("scribble")}, image_shape)
        return (cls(tuple(click.ijk for click in clicks)),) if clicks else ()

    @classmethod
    def to_json(cls, prompts: Sequence["Scribble"]) -> dict[str, Any]:
        return {"scribble": [list(voxel) for scribble in prompts for voxel in scribble.voxels]}
