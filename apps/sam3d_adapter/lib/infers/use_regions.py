"""Box, mask to start from and protected segments: how they are read, and what the answer says of them."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from lib.geometry.tiles import NEAREST
from lib.infers.protected import Protected, ReadProtectedd
from lib.infers.read_box import ReadBoxd
from lib.presets import Preset
from lib.prompts.box import Box
from lib.prompts.click import Click
from lib.prompts.mask_prompt import ReadStartMaskd, StartMask
from lib.segmenters.roi.predictor import Predictor
from lib.volumes.read import VolumeCache

REACH = NEAREST
"""Share of the ROI's side within which a background click finds the mask that it corrects: in the ROI that it is in."""

Transform = Callable[[dict[str, Any]], dict[str, Any]]


def read_regions(preset: Preset, predictor: Predictor, volumes: VolumeCache) -> list[Transform]:
    """Transforms that read what was said beside the clicks, after the clicks."""
    reach_mm = REACH * preset.roi.size * preset.roi.spacing_mm
    return [
        ReadStartMaskd(preset.label, reach_mm, cache=volumes, is_read=predictor.feeds_back),
        ReadBoxd(is_read=predictor.uses_box),
        ReadProtectedd(preset.label, cache=volumes),
    ]


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
