"""A request beside its image: prompts in its voxels, the mask to start from, and segments that are protected."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lib.answer_warnings import answer_warning
from lib.geometry.axes import is_left_handed
from lib.prompts.box import Box
from lib.prompts.click import Click
from lib.prompts.mask import MASK_WITHOUT_CLICK, MaskPrompt
from lib.prompts.prompt import Prompt
from lib.prompts.prompts import Prompts
from lib.prompts.reading import ClickError
from lib.requests.request import Request
from lib.segmenters.contract import Capabilities
from lib.volumes.label_map import (
    LabelMapError,
    load_label_map,
    mask_of,
    mask_of_others,
    on_image_grid,
    only_value,
    require_value,
    value_of_name,
)
from lib.volumes.mask_hash import mask_hash
from lib.volumes.read import VolumeCache
from lib.volumes.volume import Volume

REVERSED = (
    "The axes of this image are left-handed. 3D Slicer counts its slices from the other end since version 5.8, and the "
    "clicks were read that way. If the mask lies in other slices than the clicks, update 3D Slicer."
)
MASK_NOT_READ = "The weights of this preset read no earlier mask: the mask to start from had no effect."


@dataclass(frozen=True, eq=False)
class Protected:
    """What belongs to other segments, on the image's grid: it stays out of the mask.

    Attributes:
        mask: (i, j, k).
        source: ``"label"``, saved on the server, or ``"upload"``.
        exception: value of the label map that is the task's own; 0 for none.
        hash: as the ``mask_hash`` of an answer.
    """

    mask: NDArray[np.bool_]
    source: str
    exception: int
    hash: str


def read_prompts(
    request: Request, image: Volume, label: str, capabilities: Capabilities, cache: VolumeCache | None
) -> tuple[Prompts, list[str]]:
    """The prompts of a request, in the voxels of its image, and warnings.

    Args:
        request: read.
        image: that it names.
        label: name of the task's structure.
        capabilities: of the segmenter: a mask that it cannot read is not read here either.
        cache: of volumes; None to read label maps every time.

    Raises:
        PromptError: prompts that cannot be used.
        LabelMapError: there is no mask to start from, or it cannot be used.
    """
    values, shape, asks_for_mask = request.prompts, image.voxels.shape, request.start_from != "none"
    if not values["foreground"] and values["box"] is None and not asks_for_mask and not _has_other(values):
        raise ClickError(
            "No foreground click: 'foreground' is missing or empty; at least one [i, j, k] is needed. "
            "Select the label in the viewer and click on the structure."
        )
    prompts, warnings = Prompts.read(values, shape), list[str]()
    if request.counts_right_handed and is_left_handed(image.affine):
        prompts, warnings = _with_slices_reversed(prompts, shape[2]), [answer_warning("slices-reversed", REVERSED)]
    if not asks_for_mask:
        return prompts, warnings
    if "mask" not in capabilities.prompts:
        if not prompts.foreground and prompts.box is None:
            raise LabelMapError(f"{MASK_NOT_READ} A foreground click or a box is needed as well; got neither.")
        return prompts, [*warnings, answer_warning("mask-not-read", MASK_NOT_READ)]
    if not prompts.clicks:
        raise LabelMapError(MASK_WITHOUT_CLICK)
    return Prompts((*prompts.items, _read_mask(request, image, label, cache))), warnings


def _with_slices_reversed(prompts: Prompts, count: int) -> Prompts:
    def there(ijk: tuple[int, int, int], k: int) -> tuple[int, int, int]:
        return ijk[0], ijk[1], count - 1 - k

    found: list[Prompt] = []
    for prompt in prompts.items:
        if isinstance(prompt, Click):
            prompt = replace(prompt, ijk=there(prompt.ijk, prompt.ijk[2]))
        elif isinstance(prompt, Box):
            prompt = Box(there(prompt.first, prompt.last[2]), there(prompt.last, prompt.first[2]))
        found.append(prompt)
    return Prompts(tuple(found))


def read_protected(
    request: Request, image: Volume, label: str, prompts: Prompts, cache: VolumeCache | None
) -> Protected | None:
    """The protected segments of a request; None where it asks for none.

    Raises:
        LabelMapError: there is no such label map, or a foreground click lies on a protected voxel.
    """
    source = request.protected
    if source == "none":
        return None
    path, names = _file(request, source)
    labels = load_label_map(path, cache)
    exception = request.protected_except
    if exception is None and prompts.mask is not None and prompts.mask.source == source:
        exception = prompts.mask.value
    if exception is None:
        exception = value_of_name(labels, names, label) or 0
    # Other organs may well reach beyond the image.
    mask = on_image_grid(mask_of_others(labels, exception), labels.affine, image, least_inside=0.0)
    for click in prompts.foreground:
        if mask[click.ijk]:
            raise LabelMapError(
                f"Foreground click {list(click.ijk)} lies on a protected voxel, which belongs to another segment. "
                "Click elsewhere, do not protect the label map, or say with 'protected_except' which of its values "
                "is the structure's own."
            )
    return Protected(mask, source, exception, mask_hash(mask))


def _has_other(values: object) -> bool:
    """Whether there are prompts of kinds that are neither clicks nor a box."""
    assert isinstance(values, dict)
    return any(value for key, value in values.items() if key not in ("foreground", "background", "box"))


def _read_mask(request: Request, image: Volume, label: str, cache: VolumeCache | None) -> MaskPrompt:
    path, names = _file(request, request.start_from)
    labels = load_label_map(path, cache)
    value = request.start_value
    if value is None:
        value = value_of_name(labels, names, label) or only_value(labels, "start_value")
    require_value(labels, value, "start_value")
    mask = on_image_grid(mask_of(labels, value), labels.affine, image)
    return MaskPrompt(mask, request.start_from, value, mask_hash(mask))


def _file(request: Request, source: str) -> tuple[Path, tuple[str, ...]]:
    """Path of the label map that a source means, and the names of its segments as far as they are known.

    Raises:
        LabelMapError: there is none.
    """
    path = request.saved_label if source == "label" else request.uploaded_label
    if not path and source == "upload":
        raise LabelMapError("No mask came with the request; send it as the part 'label' of the form, or say 'label'.")
    if not path:
        raise LabelMapError("The image has no saved label here: only images of this server have. Send the mask itself.")
    return Path(path), request.saved_names if source == "label" else ()
