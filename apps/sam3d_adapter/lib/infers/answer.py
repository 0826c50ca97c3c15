"""The answer to a request about an image, the same through the server and from Python."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lib.answer_warnings import MISLEADING, code_of
from lib.infers.response import describe
from lib.presets import Preset
from lib.prompts.reading import PromptError
from lib.requests.label_maps import read_prompts, read_protected
from lib.requests.request import Request
from lib.segmenters.contract import DEFAULT_THRESHOLD, Segmentation, Stages
from lib.serving.preset_segmenter import OpenSegmenter
from lib.values.checks import mask_warnings, value_warnings
from lib.volumes.read import VolumeCache
from lib.volumes.volume import Volume


class MisleadingMaskError(PromptError):
    """A mask that would mislead, for a viewer that shows no warnings beside it."""


@dataclass(frozen=True, eq=False)
class Answer:
    """What one request brings.

    Attributes:
        mask: (i, j, k) uint8 on the image's grid.
        description: what is said beside it: `describe`, with the warnings of the request and of the image.
        request: what a record keeps of the request.
    """

    mask: NDArray[np.uint8]
    description: dict[str, Any]
    request: dict[str, Any]


def answer_request(
    preset: Preset,
    request: Request,
    image: Volume,
    served: OpenSegmenter,
    *,
    modality: str | None = None,
    cache: VolumeCache | None = None,
    stages: Stages | None = None,
) -> Answer:
    """Segments what a request points at.

    Args:
        preset: of the task.
        request: read.
        image: that it names.
        served: the preset's segmenter.
        modality: that the source of the image names; None where none does.
        cache: of volumes; None to read label maps every time.
        stages: takes the times.

    Raises:
        PromptError: prompts that cannot be used.
        LabelMapError: a label map that the request names cannot be used.
        ImageError: values in which nothing can be segmented.
        MisleadingMaskError: the request stops at warnings, and there are some.
    """
    stages = stages or Stages()
    with stages.time("load"):
        prompts, warnings = read_prompts(request, image, preset.label, served.segmenter.capabilities, cache)
        protected = read_protected(request, image, preset.label, prompts, cache)
        warnings += value_warnings(preset, image, prompts, modality)
        _require_trustworthy(request, warnings)
    segmentation = served.segment(
        image, prompts, request.options, protected=None if protected is None else protected.mask, stages=stages
    )
    description = describe(preset, request, image, served, segmentation, protected)
    description["warnings"] = [
        *request.warnings,
        *warnings,
        *description["warnings"],
        *mask_warnings(preset, image, segmentation),
    ]
    _require_trustworthy(request, description["warnings"])
    description["predicted_dice"] = _predicted_dice(request, served, segmentation, description["warnings"])
    return Answer(segmentation.mask, description, {**request.to_json(), **prompts.to_json()})


def _predicted_dice(
    request: Request, served: OpenSegmenter, segmentation: Segmentation, warnings: Sequence[str]
) -> dict[str, Any] | None:
    """What the calibration says of an answer; None of one that is not like those that it was learned from."""
    used, expected = segmentation.used, segmentation.expected_dice
    is_like_them = used.box is None and used.mask is None and request.options.threshold == DEFAULT_THRESHOLD
    if served.calibration is None or expected is None or not is_like_them:
        return None
    if any(code_of(warning) in MISLEADING for warning in warnings):
        return None
    return served.calibration.predict(expected, len(used.clicks)).to_json()


def _require_trustworthy(request: Request, warnings: Sequence[str]) -> None:
    """Passes unless the user could not see that a mask is of no use."""
    if not request.stop_at_warnings:
        return
    if misleading := [warning for warning in warnings if code_of(warning) in MISLEADING]:
        raise MisleadingMaskError(
            " ".join([*misleading, "No mask was made. To get one all the same, untick 'stop_at_warnings' in Options."])
        )
