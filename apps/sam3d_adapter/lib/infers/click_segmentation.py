"""The infer task of one preset: it reads a request, asks the segmenter, writes the mask and describes the answer."""

import contextlib
import os
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType

from lib.annotations.label_names import label_of, normal_name
from lib.infers.answer import answer_request
from lib.infers.errors import http_errors
from lib.infers.write_mask import write_mask
from lib.prompts.reading import clicks_of_another_label
from lib.requests.request import Request
from lib.segmenters.contract import DEFAULT_THRESHOLD, Stages
from lib.serving.devices import available_devices
from lib.serving.preset_segmenter import PresetSegmenter
from lib.volumes.memory import ANSWERING, reserved
from lib.volumes.modality import source_modality
from lib.volumes.read import open_volume


class ClickSegmentation(InferTask):
    """Segments the structure that prompts point at, for every viewer of MONAI Label.

    Building it reads no weights: every background task of MONAI Label builds the whole app again.

    Args:
        preset_segmenter: of the preset.
        app_dir: the app folder, which no answer reveals.
        all_labels: of all tasks of the server; a click for a label of another task is refused.

    Attributes:
        preset: the task's values.
        served: which version answers.
    """

    def __init__(self, preset_segmenter: PresetSegmenter, app_dir: Path, all_labels: Collection[str] = ()) -> None:
        self._segmenter, self._app_dir = preset_segmenter, app_dir
        self.preset, self.served = preset_segmenter.preset, preset_segmenter.served
        self._own_labels = {normal_name(label) for label in self.preset.labels}
        self._other_labels = {normal_name(label) for label in all_labels} - self._own_labels
        super().__init__(
            # The one type that OHIF, Slicer and MITK all offer and that takes a binary mask of one structure.
            type=InferType.DEEPGROW,
            labels={label: value for value, label in enumerate(self.preset.labels, start=1)},
            dimension=3,
            description=self.preset.description,
            # 3D Slicer sends all of these with each click, and shows warnings nowhere.
            config={
                "device": available_devices(),
                "threshold": DEFAULT_THRESHOLD,
                "refine": False,
                "stop_at_warnings": True,
            },
        )

    def is_valid(self) -> bool:
        """True: MONAI Label hides tasks that are not, and a task without weights is to be seen with the reason."""
        return True

    def info(self) -> dict[str, Any]:
        """As MONAI Label's, with the preset's modality, whether it can answer, and its version or why it cannot."""
        status = self.served.status()
        description = self.preset.description
        if status.problem and not status.can_answer:
            description = f"{description} [not available, {self.without_paths(status.problem)}]"
        elif status.problem:
            description = f"{description} [another version answers, {self.without_paths(status.problem)}]"
        return {
            **super().info(),
            "description": description,
            "available": status.can_answer,
            "version": status.version,
            "modality": self.preset.modality,
        }

    def __call__(self, request: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """One request.

        Args:
            request: from MONAI Label, its image a path.

        Returns:
            The mask's file, which the caller removes, and the JSON part of the answer. Its entry ``request`` is what
            the record keeps of the request.

        Raises:
            HTTPException: 422 for what the client sent, 503 for what the server lacks; the detail says what to do.
        """
        start, stages = time.perf_counter(), Stages()
        with http_errors(self._app_dir), contextlib.ExitStack() as memory:
            self._require_own_label(request.get("label"))
            read = Request.read(request, self.preset.label)
            with stages.time("weights"):
                served = self._segmenter.open(read.device)
            with stages.time("load"):
                cache = self._segmenter.shared.volumes
                image = open_volume(Path(read.image), cache)
                memory.enter_context(reserved(Path(read.image).name, image.voxels.numel() * ANSWERING))
                modality = source_modality(Path(read.image))
            found = answer_request(self.preset, read, image, served, modality=modality, cache=cache, stages=stages)
            with stages.time("write"):
                file = write_mask(
                    found.mask,
                    image.affine,
                    read.result_extension,
                    compress=read.result_compress,
                    crop=read.result_crop,
                )
        answer = found.description
        answer["warnings"] = [self.without_paths(text) for text in answer["warnings"]]
        stages.add("total", (time.perf_counter() - start) * 1000)
        answer["latency_ms"] = stages.milliseconds()
        # MONAI Label's own, in seconds by phase; OHIF reads `centroids`.
        answer |= {"label_names": self.labels, "latencies": stages.phases(), "centroids": {}}
        answer["request"] = found.request
        return str(file), answer

    def _require_own_label(self, name: Any) -> None:
        """Passes unless a client says that its clicks are for a structure that another task segments.

        A name that no task has is the user's own, and so is one with the number of an object, such as "lesion 2".
        """
        if not isinstance(name, str):
            return
        names = {normal_name(name), label_of(name)}
        if names & self._other_labels and not names & self._own_labels:
            raise clicks_of_another_label(name, self.preset.label)

    def without_paths(self, text: str) -> str:
        """A text that may leave the server: it does not say where the app lies."""
        return text.replace(f"{self._app_dir}{os.sep}", "")
