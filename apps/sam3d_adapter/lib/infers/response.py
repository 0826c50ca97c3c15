"""What the answer to a request says besides the mask."""

from typing import Any

import numpy as np

from lib.answer_warnings import answer_warning
from lib.presets import Preset
from lib.requests.label_maps import Protected
from lib.requests.request import Request
from lib.segmenters.contract import Segmentation
from lib.serving.preset_segmenter import OpenSegmenter
from lib.volumes.mask_hash import mask_hash
from lib.volumes.volume import Volume

NOTHING_FOUND = answer_warning(
    "nothing-found",
    "The network found nothing at the clicks; the mask is empty but for the clicked voxels. Click the middle of the "
    "structure, add clicks, or choose another preset.",
)


def describe(
    preset: Preset,
    request: Request,
    image: Volume,
    served: OpenSegmenter,
    segmentation: Segmentation,
    protected: Protected | None,
) -> dict[str, Any]:
    """The JSON part of the answer, without times.

    Args:
        preset: of the task.
        request: that was answered.
        image: that it names.
        served: what answered.
        segmentation: the answer.
        protected: segments that stayed out of the mask.
    """
    prompts, mask = segmentation.used, segmentation.mask
    start, box, pseudo = prompts.mask, prompts.box, segmentation.pseudo_click
    voxels = int(np.count_nonzero(mask))
    warnings = list(segmentation.warnings)
    if voxels <= len(prompts.foreground):
        warnings.append(NOTHING_FOUND)
    obeyed = segmentation.obeyed
    return {
        "label": preset.label,
        "preset": preset.name,
        "model_version": served.model_version,
        "version": served.version,
        "precision": served.segmenter.precision,
        "device": served.device,
        "threshold": request.options.threshold,
        "clicks": [list(click.ijk) for click in prompts.foreground],
        "obeyed_by_network": None if obeyed is None else list(obeyed),
        "background_clicks": [list(click.ijk) for click in prompts.background],
        "roi": None,
        "box": None if box is None else [list(box.first), list(box.last)],
        "implied_click": None if pseudo is None else list(pseudo.ijk),
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
        "refined": None,
        **segmentation.details,
        "encodes": segmentation.encodes,
        "decodes": segmentation.decodes,
        "image_hash": image.content_key,
        "mask_hash": mask_hash(mask),
        "mask_voxels": voxels,
        "warnings": warnings,
    }
