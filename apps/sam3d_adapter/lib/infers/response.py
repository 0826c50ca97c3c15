"""What the answer to a click says besides the mask."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from lib.infers.use_regions import describe_regions
from lib.presets import Preset
from lib.prompts.click import on_structure
from lib.volumes.mask_hash import mask_hash

# Transforms of the pipeline by the stage they belong to.
_STAGE_OF = {
    "LoadVolumed": "load",
    "ReadClicksd": "load",
    "ReadBoxd": "load",
    "ReadStartMaskd": "load",
    "ReadProtectedd": "load",
    "PartsToImaged": "paste",
    "LimitMaskd": "paste",
}

NOTHING_FOUND = (
    "The network found nothing at the clicks; the mask is empty but for the clicked voxels. Click the middle of the "
    "structure, add clicks, or choose another preset."
)


class Stages:
    """Time spent in each stage of one request, ms."""

    def __init__(self) -> None:
        names = ("weights", "load", "resample", "encode", "decode", "paste", "write")
        self._milliseconds = dict.fromkeys(names, 0.0)

    def add(self, stage: str, milliseconds: float) -> None:
        """Adds to a stage."""
        self._milliseconds[stage] += milliseconds

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        """Adds the time of the ``with`` block."""
        start = time.perf_counter()
        yield
        self.add(stage, (time.perf_counter() - start) * 1000)

    def add_transforms(self, latencies: Mapping[str, Mapping[str, float]]) -> None:
        """Adds what MONAI Label measured for each transform.

        Args:
            latencies: seconds by transform, by phase ("pre", "post").
        """
        for phase in latencies.values():
            for transform, seconds in phase.items():
                if transform in _STAGE_OF:
                    self.add(_STAGE_OF[transform], seconds * 1000)

    def milliseconds(self) -> dict[str, float]:
        """ms by stage, rounded to 0.1."""
        return {stage: round(value, 1) for stage, value in self._milliseconds.items()}


def describe(preset: Preset, data: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON part of the answer, without times.

    Args:
        preset: of the task.
        data: after the post transforms: ``pred`` (i, j, k), ``volume``, ``clicks``, ``roi_geometry``,
            ``model_version``, ``version``, ``predictor``, ``encodes``, ``decodes``, ``device``, ``threshold``,
            ``warnings``, ``obeyed_by_network``; perhaps ``box``, ``implied_click``, ``start_mask``, ``protected``,
            ``refined``.
    """
    roi = data["roi_geometry"]
    voxels = int(np.count_nonzero(np.asarray(data["pred"])))
    warnings = list(data.get("warnings", ()))
    if voxels <= len(on_structure(data["clicks"])):
        warnings.append(NOTHING_FOUND)
    # The ROI index on which the centre is placed.
    centre_dhw = np.array([[length // 2 for length in roi.size_dhw]], dtype=float)
    return {
        "label": preset.label,
        "preset": preset.name,
        "model_version": data["model_version"],
        "version": data["version"],
        "precision": data["predictor"].precision,
        "device": data["device"],
        "threshold": data["threshold"],
        "clicks": [list(click.ijk) for click in on_structure(data["clicks"])],
        "obeyed_by_network": [
            obeyed
            for sign in (True, False)
            for click, obeyed in zip(data["clicks"], data["obeyed_by_network"], strict=True)
            if click.is_foreground == sign
        ],
        "background_clicks": [list(click.ijk) for click in data["clicks"] if not click.is_foreground],
        "roi": {
            "centre_ijk": _rounded(roi.dhw_to_ijk(centre_dhw)),
            "centre_ras_mm": _rounded(roi.dhw_to_mm(centre_dhw)),
            "size_dhw": list(roi.size_dhw),
            "spacing_mm": roi.spacing_mm,
            "axes": preset.roi.axes,
        },
        **describe_regions(data),
        "refined": data.get("refined"),
        "encodes": data["encodes"],
        "decodes": data["decodes"],
        "image_hash": data["volume"].content_key,
        "mask_hash": mask_hash(data["pred"]),
        "mask_voxels": voxels,
        "warnings": warnings,
    }


def _rounded(points: np.ndarray) -> list[float]:
    return [round(float(value), 3) for value in np.ravel(points)]
