"""The infer task that answers without prompts: it shows what is saved for an image, and finds nothing by itself.

3D Slicer asks a task of type ``segmentation`` after each Next Sample, and shows an error where there is none.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType

from lib.annotations.label_names import NamesError, is_object_of, named_values
from lib.answer_warnings import answer_warning
from lib.infers.errors import http_errors
from lib.infers.write_mask import write_mask
from lib.prompts.reading import ClickError
from lib.requests.request import SAVED_LABEL_KEY, Request
from lib.volumes.label_file import read_label_file
from lib.volumes.label_grid import image_grid, label_affine, on_grid
from lib.volumes.memory import ANSWERING, reserved

PROPOSAL = "proposal"
"""Name of the task."""
SAVED_INFO_KEY, SAVED_WORDS_KEY = "saved_info", "saved_words"
"""Of a request: what is kept of the saved label, and what it is in words."""
_NOTHING_SAVED = (
    "Nothing is saved for this image yet, and no task here finds a structure without being shown where it is. Click on "
    "the structure."
)


class Proposal(InferTask):
    """Proposes the mask that is saved for an image: of what this server has labels for, each in its own value.

    Args:
        labels: of all tasks; the n-th has the value n.
        app_dir: the app folder, which no answer reveals.
    """

    def __init__(self, labels: Sequence[str], app_dir: Path) -> None:
        self._app_dir = app_dir
        super().__init__(
            type=InferType.SEGMENTATION,
            labels={label: value for value, label in enumerate(labels, start=1)},
            dimension=3,
            description="What is saved for the image: its newest label, draft or earlier mask. Finds nothing by itself",
        )

    def is_valid(self) -> bool:
        """True."""
        return True

    def __call__(self, request: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """One request.

        Args:
            request: from MONAI Label, its image a path; with the saved label as ``admit_saved_label`` found it.

        Returns:
            The mask's file, which the caller removes, and the JSON part of the answer.

        Raises:
            HTTPException: 422 for what the client sent, 503 for what the server lacks; the detail says what to do.
        """
        with http_errors(self._app_dir):
            read = Request.read(
                {key: value for key, value in request.items() if key not in (SAVED_INFO_KEY, SAVED_WORDS_KEY)}, PROPOSAL
            )
            if read.prompts["foreground"] or read.prompts["background"] or read.prompts["box"]:
                raise ClickError("This task reads no clicks: it shows what is saved. Choose the task of the structure.")
            image = Path(read.image)
            shape, affine = image_grid(image)
            with reserved(image.name, math.prod(shape) * ANSWERING):
                mask, names, sentence = self._proposed(request, image, shape, affine)
                file = write_mask(
                    mask, affine, read.result_extension, compress=read.result_compress, crop=read.result_crop
                )
        code = "proposal" if names else "no-proposal"
        return str(file), {
            "label_names": names or self.labels,
            "mask_voxels": int(np.count_nonzero(mask)),
            "warnings": [*read.warnings, answer_warning(code, sentence)],
            "latencies": {},
            "centroids": {},
        }

    def _proposed(
        self, request: Mapping[str, Any], image: Path, shape: tuple[int, int, int], affine: np.ndarray
    ) -> tuple[np.ndarray, dict[str, int], str]:
        """The mask on the image's grid, the value of each structure in it, and what to say of it."""
        mask = np.zeros(shape, np.uint8)
        if not (path := request.get(SAVED_LABEL_KEY)):
            return mask, {}, _NOTHING_SAVED
        file = read_label_file(Path(path))
        words = f"Saved for this image is {request[SAVED_WORDS_KEY]}."
        try:
            named = named_values(file.segments(), request[SAVED_INFO_KEY], file.texts)
        except NamesError as error:
            return mask, {}, f"{words} It is not shown: {error}."
        if named is None:
            return mask, {}, f"{words} It is not shown: it says nowhere which structure it is."
        onto = label_affine(Path(path), file.affine, image, affine)
        left_out = []
        for name, segment in named:
            label = next((label for label in self.labels if is_object_of(name, label)), None)
            if label is None:
                left_out.append(name[:60])
                continue
            voxels = np.isin(file.voxels, file.numbers((segment,))).view(np.uint8)
            mask[on_grid(voxels, onto, shape, affine).view(bool)] = self.labels[label]
        names = {label: value for label, value in self.labels.items() if (mask == value).any()}
        if left_out:
            words += f" Not shown, because no task here is for it: {', '.join(left_out)}."
        return mask, names, words if names else f"{words} Nothing of it can be shown."
