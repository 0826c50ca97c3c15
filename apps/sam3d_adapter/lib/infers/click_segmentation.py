"""The infer task of one preset: clicks in, mask out, for every viewer of MONAI Label."""

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import HTTPException
from monailabel.interfaces.tasks.infer_v2 import InferType
from monailabel.tasks.infer.basic_infer import BasicInferTask

from lib.geometry.paste import PartsToImaged
from lib.infers.errors import http_errors
from lib.infers.limit_mask import LimitMaskd
from lib.infers.missing_weights import how_to_supply
from lib.infers.options import DEFAULT_THRESHOLD, available_devices, read_request
from lib.infers.read_clicks import ReadClicksd
from lib.infers.response import Stages, describe
from lib.infers.use_regions import read_regions
from lib.infers.write_mask import write_mask
from lib.presets import Preset
from lib.registry.versions import Versions
from lib.segmenters.cache import EmbeddingCache
from lib.segmenters.roi.initial import open_dialogue
from lib.segmenters.roi.interaction import hold_dialogue
from lib.segmenters.roi.prediction import Looks
from lib.segmenters.roi.predictor import Predictor
from lib.segmenters.roi.refinement import RefineOpeningd
from lib.serving.model_store import ModelSpec, ModelStore
from lib.serving.served_model import ServedModel
from lib.volumes.read import LoadVolumed, VolumeCache

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SharedState:
    """What the tasks of a process share: images, models and embeddings are held once, whichever task asks."""

    models: ModelStore
    embeddings: EmbeddingCache
    volumes: VolumeCache
    precision: str = "auto"


class ClickSegmentation(BasicInferTask):
    """Segments the structure the foreground clicks point at.

    ``pre_transforms`` reads image, clicks and regions, ``post_transforms`` brings the answer onto the image's grid.
    Which regions the network sees depends on its answer for the one before; see `lib.segmenters.roi.prediction`.

    Building it reads no weights: every background task of MONAI Label builds the whole app again.

    Args:
        preset: the task's values.
        app_dir: folder against which the preset's weight files are named.
        shared: models and caches.
        versions: of the preset's weights, one of which may be served in place of its own; None for its own alone.

    Attributes:
        spec: the files that the preset names.
        served: which version answers.
    """

    def __init__(self, preset: Preset, app_dir: Path, shared: SharedState, versions: Versions | None = None) -> None:
        self.preset = preset
        self._app_dir = app_dir
        self._shared = shared
        model = preset.model
        self.spec = ModelSpec(model.family, model.size, tuple(app_dir / file for file in model.files))
        self.served = ServedModel(preset.name, self.spec, shared.models, versions)
        super().__init__(
            # No path: with one, MONAI Label's /model endpoint lets anyone replace or delete the weights.
            path=None,
            network=None,
            # The one type that OHIF, Slicer and MITK all offer and that takes a binary mask of one structure.
            type=InferType.DEEPGROW,
            labels={preset.label: 1},
            dimension=3,
            description=preset.description,
            config={"device": available_devices(), "threshold": DEFAULT_THRESHOLD, "refine": False},
        )

    def is_valid(self) -> bool:
        """True: MONAI Label hides tasks that are not, and a task without weights is to be seen with the reason."""
        return True

    def info(self) -> dict[str, Any]:
        """As MONAI Label's, with the version that is served, and the reason in the description where it cannot be."""
        status = self.served.status()
        description = self.preset.description
        if status.problem and not status.can_answer:
            description = f"{description} [not available, {self.without_paths(status.problem)}]"
        elif status.problem:
            description = f"{description} [another version answers, {self.without_paths(status.problem)}]"
        return {**super().info(), "description": description, "version": status.version}

    def __call__(
        self, request: Mapping[str, Any], callbacks: Mapping[Any, Any] | None = None
    ) -> tuple[str | None, dict[str, Any]]:
        """One click.

        Raises:
            HTTPException: 422 for what the client sent, 503 for what the server lacks; the detail says what to do.
        """
        start = time.perf_counter()
        with http_errors(self._app_dir):
            read = read_request(request, self.preset.label)
            missing = self.served.missing_files()
            if missing:
                raise HTTPException(503, how_to_supply(self.preset.name, self.spec.size, missing, self._app_dir))
            file, params = super().__call__(read, callbacks)
        params["latency_ms"]["total"] = round((time.perf_counter() - start) * 1000, 1)
        return file, params

    def pre_transforms(self, data: dict[str, Any]) -> Sequence[Callable[[dict[str, Any]], dict[str, Any]]]:
        """From the path of the image and the keys of the clicks to the image and the clicks."""
        stages = data["stages"] = Stages()
        with stages.time("weights"):
            # Once for the whole request: whatever is published meanwhile, all of its steps run on this one.
            answering = self.served.get(data["device"])
        loaded = answering.loaded
        predictor = data["predictor"] = Predictor(loaded, self._shared.embeddings, self._shared.precision)
        data["model_version"], data["version"] = loaded.version, answering.version
        if answering.warning:
            data["warnings"] = [*data.get("warnings", ()), self.without_paths(answering.warning)]
        return [
            LoadVolumed(cache=self._shared.volumes),
            ReadClicksd(),
            *read_regions(self.preset, predictor, self._shared.volumes),
        ]

    def run_inferer(self, data: dict[str, Any], convert_to_batch: bool = True, device: str = "cuda") -> dict[str, Any]:
        """The logits of the clicks: what they begin with, then what each further one changes around it."""
        clicks, threshold = data["clicks"], data["threshold"]
        looks = Looks(data["volume"], data["predictor"], self._shared.embeddings, self.preset.intensity, data["stages"])
        said = {"implied": data.get("implied_click"), "box": data.get("box"), "start": data.get("start_mask")}
        opening = open_dialogue(looks, self.preset.roi, clicks, threshold, **said)
        answer = hold_dialogue(looks, opening, clicks, threshold)
        data["opening"], data["roi_geometry"], data["parts"] = opening, opening.roi, answer.parts
        data["obeyed_by_network"] = [answer.obeyed[click] for click in clicks]
        data["looks"], data["encodes"], data["decodes"] = looks, looks.encodes, looks.decodes
        return data

    def post_transforms(self, data: dict[str, Any]) -> Sequence[Callable[[dict[str, Any]], dict[str, Any]]]:
        """From logits to the mask on the image's own grid."""
        fine = RefineOpeningd(data["looks"], self.preset.roi, data["opening"], data["threshold"])
        return [PartsToImaged(threshold=data["threshold"]), *([fine] if data["refine"] else []), LimitMaskd()]

    def without_paths(self, text: str) -> str:
        """A text that may leave the server: it does not say where the app lies."""
        return text.replace(f"{self._app_dir}{os.sep}", "")

    def writer(
        self, data: dict[str, Any], extension: str | None = None, dtype: Any = None
    ) -> tuple[Any, dict[str, Any]]:
        """Writes the mask with the image's geometry and describes the answer."""
        stages: Stages = data["stages"]
        stages.add_transforms(data["latencies"])
        params = describe(self.preset, data)
        with stages.time("write"):
            file = write_mask(
                np.asarray(data["pred"]),
                data["pred_meta_dict"]["affine"],
                extension or data["result_extension"],
                compress=data["result_compress"],
            )
        params["latency_ms"] = stages.milliseconds()
        return str(file), params
