"""A mask that a user starts from and corrects by further prompts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lib.prompts.prompt import Prompt

MASK_WITHOUT_CLICK = (
    "A mask to start from came without a click; at least one click that corrects it is expected, in 'foreground' where "
    "something is missing, in 'background' where there is too much."
)


@dataclass(frozen=True, eq=False)
class MaskPrompt(Prompt):
    """A mask on the image's grid.

    Attributes:
        mask: (i, j, k).
        source: where it came from: ``"label"``, saved on the server, or ``"upload"``.
        value: of the label map that it was read from.
        hash: as the ``mask_hash`` of an answer.
    """

    kind = "mask"
    keys = ("start_from", "start_value")

    mask: NDArray[np.bool_]
    source: str
    value: int
    hash: str

    @classmethod
    def read(cls, request: Mapping[str, Any], image_shape: Sequence[int]) -> tuple["MaskPrompt", ...]:
        """None: a request names a label map, which `lib.requests.label_maps` reads."""
        return ()

    @classmethod
    def to_json(cls, prompts: Sequence["MaskPrompt"]) -> dict[str, Any]:
        """The source and the value: the voxels are not written, their hash stands in the answer."""
        return {"start_from": prompts[0].source, "start_value": prompts[0].value} if prompts else {}

    @property
    def centre(self) -> tuple[float, float, float]:
        """Index (i, j, k), may be fractional: the middle of the mask's bounding box, of the image where it is empty."""
        middle = []
        for axis in range(3):
            held = np.flatnonzero(self.mask.any(axis=tuple(other for other in range(3) if other != axis)))
            low, high = (held[0], held[-1]) if len(held) else (0, self.mask.shape[axis] - 1)
            middle.append(float(low + high) / 2)
        return middle[0], middle[1], middle[2]
