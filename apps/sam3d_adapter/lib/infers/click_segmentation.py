"""The infer task of one preset: clicks in, mask out, for every viewer of MONAI Label."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import HTTPException
from monailabel.interfaces.tasks.infer_v2 import InferType
from monailabel.tasks.infer.basic_infer import BasicInferTask

from lib.inference.embedding_cache import EmbeddingCache
from lib.inference.model_store import ModelSpec, ModelStore
from lib.inference.predictor import Predictor
from lib.infers.dialogue import hold_dialogue
from lib.infers.errors import http_errors
from lib.infers.first_view import FirstAnswer, answer_first, first_key, require_within_reach
from lib.infers.look import Looks
from lib.infers.missing_weights import how_to_supply
from lib.infers.options import DEFAULT_THRESHOLD, available_devices, read_request
from lib.infers.response import Stages, describe
from lib.infers.write_mask import write_mask
from lib.presets import Preset
from lib.transforms.load_volume import LoadVolumed, VolumeCache
from lib.transforms.paste import PartsToImaged
from lib.transforms.read_clicks import ReadClicksd

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

    Building it reads no weights: every background task of MONAI Label builds the whole app again.

    Args:
        preset: the task's values.
        app_dir: folder against which the preset's weight files are named.
        shared: models and caches.
    """

    def __init__(self, preset: Preset, app_dir: Path, shared: SharedState) -> None:
        self.preset = preset
        self._app_dir = app_dir
        self._shared = shared
        model = preset.model
        self.spec = ModelSpec(model.family, model.size, tuple(app_dir / file for file in model.files))
        super().__init__(
            # No path: with one, MONAI Label's /model endpoint lets anyone replace or delete the weights.
            path=None,
            network=None,
            # The one type that OHIF, Slicer and MITK all offer and that takes a binary mask of one structure.
            type=InferType.DEEPGROW,
            labels={preset.label: 1},
            dimension=3,
            description=preset.description,
            config={"device": available_devices(), "threshold": DEFAULT_THRESHOLD},
        )

    def is_valid(self) -> bool:
        """True: MONAI Label hides tasks that are not, and a task without weights is to be seen with the reason."""
        return True

    def info(self) -> dict[str, Any]:
        """As MONAI Label's, with the reason in the description where the task cannot be served."""
        problem = self._shared.models.problem(self.spec)
        description = f"{self.preset.description} [not available, {problem}]" if problem else self.preset.description
        return {**super().info(), "description": description}

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
            missing = self.spec.missing_files()
            if missing:
                raise HTTPException(503, how_to_supply(self.preset.name, self.spec.size, missing, self._app_dir))
            file, params = super().__call__(read, callbacks)
        params["latency_ms"]["total"] = round((time.perf_counter() - start) * 1000, 1)
        return file, params

    def pre_transforms(self, data: dict[str, Any]) -> Sequence[Callable[[dict[str, Any]], dict[str, Any]]]:
        """From the path of the image and the keys of the clicks to the image and the clicks."""
        stages = data["stages"] = Stages()
        with stages.time("weights"):
            loaded = self._shared.models.get(self.spec, data["device"])
        data["predictor"] = Predictor(loaded, self._shared.embeddings, self._shared.precision)
        data["model_version"] = loaded.version
        return [LoadVolumed(cache=self._shared.volumes), ReadClicksd()]

    def run_inferer(self, data: dict[str, Any], convert_to_batch: bool = True, device: str = "cuda") -> dict[str, Any]:
        """The logits of the clicks: those of the first one, then what each further one changes around it."""
        preset, threshold, clicks = self.preset.roi, data["threshold"], data["clicks"]
        looks = Looks(data["volume"], data["predictor"], self._shared.embeddings, self.preset.intensity, data["stages"])
        require_within_reach(clicks, data["volume"], preset)
        key = first_key(looks, preset, clicks[0], threshold)
        first: FirstAnswer | None = self._shared.embeddings.get(key)
        if first is None:
            first = answer_first(looks, preset, clicks[0], threshold)
            self._shared.embeddings.put(key, first)
        answer = hold_dialogue(looks, first, key, clicks, threshold)
        data["roi_geometry"], data["parts"] = first.roi, answer.parts
        data["obeyed_by_network"] = [answer.obeyed[click] for click in clicks]
        data["encodes"], data["decodes"] = looks.encodes, looks.decodes
        return data

    def post_transforms(self, data: dict[str, Any]) -> Sequence[Callable[[dict[str, Any]], dict[str, Any]]]:
        """From logits to the mask on the image's own grid."""
        return [PartsToImaged(threshold=data["threshold"])]

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
