"""Box, mask to start from and protected segments on their way through the infer task."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from lib.inference.predictor import Predictor
from lib.interaction.box import Box, box_in_roi, ellipsoid_in_roi
from lib.interaction.click import Click
from lib.interaction.roi import Roi
from lib.presets import Preset
from lib.transforms.load_volume import VolumeCache
from lib.transforms.protected import Protected, ReadProtectedd
from lib.transforms.read_box import ReadBoxd
from lib.transforms.start_mask import LOGIT, ReadStartMaskd, StartMask

REACH = 3 / 8
"""Share of the ROI's side within which a background click finds the mask that it corrects."""

Transform = Callable[[dict[str, Any]], dict[str, Any]]


def read_regions(preset: Preset, predictor: Predictor, volumes: VolumeCache) -> list[Transform]:
    """Transforms that read what was said beside the clicks, after the clicks and before the ROI is placed."""
    reach_mm = REACH * preset.roi.size * preset.roi.spacing_mm
    return [
        ReadBoxd(is_read=predictor.uses_box),
        ReadStartMaskd(preset.label, reach_mm, cache=volumes, is_read=predictor.feeds_back),
        ReadProtectedd(preset.label, cache=volumes),
    ]


def shown_clicks(data: Mapping[str, Any]) -> tuple[Click, ...]:
    """The clicks that the network gets: an implied one first, then the user's."""
    implied: Click | None = data.get("implied_click")
    return tuple(data["clicks"]) if implied is None else (implied, *data["clicks"])


def may_look_wider(data: Mapping[str, Any]) -> bool:
    """Whether the mask may decide how much is looked at.

    A box tells how large the structure is; and who corrects a mask corrects it where he clicks.
    """
    return data.get("box") is None and data.get("start_mask") is None


def beside_clicks(data: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of `Predictor.predict` beside the clicks.

    A box is shown twice, for networks that read it and their previous answer: as a box, and as the ellipsoid in it, in
    place of the answer that the first click corrects. Without the second the network makes less of the box.
    """
    predictor: Predictor = data["predictor"]
    roi: Roi = data["roi_geometry"]
    box: Box | None = data.get("box")
    start: StartMask | None = data.get("start_mask")
    arguments: dict[str, Any] = {}
    if box is not None and predictor.uses_box:
        arguments["box_dhw"] = torch.from_numpy(box_in_roi(box, roi))
        if start is None and predictor.feeds_back:
            inside = torch.from_numpy(ellipsoid_in_roi(box, roi)).float()
            arguments |= {"start": LOGIT * (2 * inside - 1), "start_key": ("ellipsoid", box)}
    if start is not None:
        arguments |= {"start": start.logits(roi), "start_key": start.hash}
    return arguments


def describe_regions(data: Mapping[str, Any]) -> dict[str, Any]:
    """What the answer says of them; null where a request has none."""
    box: Box | None = data.get("box")
    implied: Click | None = data.get("implied_click")
    start: StartMask | None = data.get("start_mask")
    protected: Protected | None = data.get("protected")
    return {
        "box": None if box is None else [list(box.first), list(box.last)],
        "implied_click": None if implied is None else list(implied.ijk),
        "start_mask": None
        if start is None
        else {
            "from": start.source,
            "value": start.value,
            "hash": start.hash,
            "voxels": int(np.count_nonzero(start.mask)),
        },
        "protected": None
        if protected is None
        else {
            "from": protected.source,
            "except": protected.exception,
            "hash": protected.hash,
            "voxels": int(np.count_nonzero(protected.mask)),
        },
    }
