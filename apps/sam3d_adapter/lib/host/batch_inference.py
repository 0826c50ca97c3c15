"""Patches: a batch needs a GPU, overwrites labels unasked, ends at the first image that fails, and is silent meanwhile.

``/batch/infer`` of MONAI Label 0.8.5 divides by the number of GPUs where there is none, saves every mask whatever
``save_label`` says, and lets one image that cannot be answered end the rest
(``monailabel/interfaces/tasks/batch_infer.py:71``, ``:87``, ``:122``). How far it is stands in lines of a log. We know
of no upstream issue.
"""

import json
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from monailabel.interfaces.datastore import Datastore, DefaultLabelTag
from monailabel.interfaces.tasks.batch_infer import BatchInferTask

from lib.files.atomic_write import write_atomically
from lib.host.patches.save_label import read_save_label
from lib.host.patches.version_guard import check_host_version
from lib.serving.devices import DeviceError, read_device

logger = logging.getLogger(__name__)

HAS_FINAL = "It has a final label, which a batch does not replace."
_FAULT = "The server failed at it; its log says where."
_OF_THE_BATCH = ("images", "gpus", "multi_gpu", "max_workers", "max_batch_size", "logging", "client_id", "bundle_path")
"""Keys of the request that are none of an image's."""


class BatchInference(BatchInferTask):
    """Answers the same prompts for many images, one after the other, and notes how far it is.

    Args:
        progress: the file that says so; a batch is another process than the server.
    """

    def __init__(self, progress: Path) -> None:
        check_host_version(__name__)
        self._file = progress

    def __call__(
        self, request: Mapping[str, Any], datastore: Datastore, infer: Callable[..., dict[str, Any]]
    ) -> dict[str, Any]:
        """All images of a request; one that cannot be answered is noted, and the next one follows.

        Args:
            request: of the batch, with the prompts and options of each image.
            datastore: of the app.
            infer: the app's.

        Returns:
            How many images there were, and how many masks were saved.

        Raises:
            RuntimeError: no image could be answered.
        """
        require_batch(request)
        os.nice(10)  # users' clicks come first
        images = sorted(self.get_images(request, datastore))
        images = images[: request.get("max_batch_size") or len(images)]
        wanted = {key: value for key, value in request.items() if key not in _OF_THE_BATCH}
        wanted["device"] = batch_device(request.get("device"))
        wanted["save_label"] = _is_saved(request)
        wanted.setdefault("label_tag", DefaultLabelTag.ORIGINAL.value)
        failed: dict[str, str] = {}
        self._note(0, len(images), failed)
        for done, image in enumerate(images, start=1):
            if (reason := self._answer(image, wanted, datastore, infer)) is not None:
                failed[image] = reason
            self._note(done, len(images), failed)
        if images and len(failed) == len(images):
            raise RuntimeError("No image could be answered; GET /batch/infer says why.")
        return {"images": len(images), "failed": len(failed)}

    def progress(self) -> dict[str, Any] | None:
        """How far the newest batch of this server is; None before its first image.

        Returns:
            ``total`` images, of which ``done`` were worked on, and why those in ``failed`` could not be answered.
        """
        try:
            found: dict[str, Any] = json.loads(self._file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found

    def forget(self) -> None:
        """Removes what an earlier batch noted."""
        self._file.unlink(missing_ok=True)

    def _note(self, done: int, total: int, failed: Mapping[str, str]) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self._file, json.dumps({"done": done, "total": total, "failed": failed}).encode())
        logger.info("A batch goes on.", extra={"fields": {"done": done, "total": total, "failed": len(failed)}})

    @staticmethod
    def _answer(image: str, wanted: Mapping[str, Any], datastore: Datastore, infer: Any) -> str | None:
        """Answers one image; why it could not be, or None."""
        final = DefaultLabelTag.FINAL.value
        if wanted["save_label"] and wanted["label_tag"] == final and final in datastore.get_labels_by_image_id(image):
            return HAS_FINAL
        try:
            answer = infer({**wanted, "image": image}, datastore)
        except HTTPException as error:
            return str(error.detail)
        # Broad: a fault at one image must not end the batch.
        except Exception:
            logger.exception("An image of a batch was not answered.")
            return _FAULT
        Path(answer["file"]).unlink(missing_ok=True)
        return None


def require_batch(request: Mapping[str, Any]) -> None:
    """Passes if a batch may save what it is to save, where it is to run.

    Raises:
        HTTPException: 422.
    """
    if request.get("label_tag") == DefaultLabelTag.FINAL and not read_save_label(request.get("save_label")):
        raise HTTPException(
            422, "The batch would write final labels, which count as drawn by a person. Say so with \"save_label\": "
            "true beside \"label_tag\": \"final\", or leave the tag out: masks are then saved as 'original'."
        )  # fmt: skip
    try:
        batch_device(request.get("device"))
    except DeviceError as error:
        raise HTTPException(422, str(error)) from error


def batch_device(value: object) -> str:
    """The device of a batch; ``"cuda"``, which MONAI Label puts in where nothing is said, is the first GPU or the CPU.

    Raises:
        DeviceError: not a device, or not one of this machine.
    """
    return read_device(None if value == "cuda" else value)


def _is_saved(request: Mapping[str, Any]) -> bool:
    value = request.get("save_label")
    return True if value is None else read_save_label(value)
