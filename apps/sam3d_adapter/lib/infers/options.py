"""What of a request an infer task looks at: known keys only, coerced and range-checked.

Viewers send much more: Slicer every option of every panel, OHIF whatever an earlier dialog left behind. Foreign keys
are dropped, so that none of them can be mistaken for an entry that the transforms or MONAI Label's writer make
themselves.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from lib.prompts.click import short
from lib.prompts.regions import (
    BOX_KEYS,
    HOST_LABEL_KEYS,
    effective_start,
    read_box_key,
    read_source,
    read_tag,
    read_value,
    region_warnings,
)
from lib.prompts.viewers import CLICK_KEYS, read_prompts

RESULT_EXTENSIONS = (".nrrd", ".nii", ".nii.gz")
DEFAULT_THRESHOLD = 0.5
THRESHOLDS = (0.001, 0.999)
"""Lowest and highest probability; answers are bounded at logits of 8, a probability of 0.0003 and 0.9997."""

# Used by the host on the way to the task or back from it.
_HOST_KEYS = (
    "model", "image", "description", "session", "save_label", "label_tag", "label_info", "client_id", "series_hash",
)  # fmt: skip
# Sent by viewers whatever the task is, and without a meaning for this one; see the README, "Options".
_VIEWER_KEYS = ("label", "slice", "reset_state", "label_prompt", "label_names", "restore_label_idx", "result_dtype")
_MAX_NAMED = 5

_DEVICE = re.compile(r"cpu|cuda(:\d+)?")


class OptionError(ValueError):
    """An option of a request that cannot be used, with what is valid."""


def read_request(request: Mapping[str, Any], label: str) -> dict[str, Any]:
    """The request of an infer task, complete and checked.

    Args:
        request: from the client, by way of MONAI Label.
        label: name of the structure the task segments.

    Returns:
        What the host reads, unchanged (``model``, ``image``, ``description``); ``foreground`` and ``background``, lists
        of what should be clicks; every option of ``OPTIONS``; ``result_dtype``; ``warnings``, a list of texts.

    Raises:
        OptionError: a value of the wrong kind or out of range.
        RegionError: the same of what says where the mask may be.
        ClickError: clicks that are not for this task, or in no list.
    """
    unknown = [key for key in request if key not in _known(label)]
    prompts = read_prompts(request, label, unknown)
    read = {key: request[key] for key in ("model", "image", "description") if key in request}
    read.update(foreground=prompts.foreground, background=prompts.background)
    read["box"] = read_box_key(request)
    read.update({option.name: option.read(request.get(option.name)) for option in OPTIONS})
    read["start_from"] = effective_start(request, read["start_from"], read["protected"])
    read.update({key: request[key] for key in HOST_LABEL_KEYS if key in request})
    # The mask is 0 / 1; OHIF copies bytes and knows no other type.
    read["result_dtype"] = "uint8"
    read["warnings"] = [*_warnings(request, unknown), *region_warnings(request, read["start_from"], read["protected"])]
    return read


def available_devices() -> list[str]:
    """Devices a request may name, the default first."""
    return [f"cuda:{index}" for index in range(torch.cuda.device_count())] + ["cpu"]


def read_device(value: object) -> str:
    """``"cpu"`` or ``"cuda:N"``; the first GPU, if there is one, where nothing is asked for.

    Raises:
        OptionError: not a device, or not one of this machine.
    """
    devices = available_devices()
    # MONAI Label takes the first of a list, so some viewers send the list of choices as they got it.
    if isinstance(value, list) and value:
        value = value[0]
    if value is None or value in ("", []):
        return devices[0]
    if not isinstance(value, str) or not _DEVICE.fullmatch(value):
        raise OptionError(f"device is {short(value)}; choose from: {', '.join(devices)}.")
    # "cuda" and "cuda:0" are one device; two names would hold the weights twice.
    device = "cuda:0" if value == "cuda" else value
    if device not in devices:
        raise OptionError(f"device {short(value)} does not exist on this server; choose from: {', '.join(devices)}.")
    return device


def read_threshold(value: object) -> float:
    """A probability within `THRESHOLDS`; near 0 and 1 every or no voxel of the ROI would belong to the mask.

    Raises:
        OptionError: not a number, or out of range.
    """
    if is_emptied(value):
        return DEFAULT_THRESHOLD
    try:
        number = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    low, high = THRESHOLDS
    if not low <= number <= high:
        raise OptionError(f"threshold is {short(value)}; a number between {low:g} and {high:g} is needed.")
    return number


def is_emptied(value: object) -> bool:
    """Whether a number is absent, or what a viewer sends for a field the user emptied: blank text, or 0 (Slicer)."""
    if isinstance(value, str):
        return not value.strip()
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool) and value == 0)


def _read_extension(value: object) -> str:
    if value is None or value == "":
        return RESULT_EXTENSIONS[0]
    if not isinstance(value, str) or value not in RESULT_EXTENSIONS:
        raise OptionError(f"result_extension is {short(value)}; choose from: {', '.join(RESULT_EXTENSIONS)}.")
    return value


def _read_flag(name: str, value: object) -> bool:
    if value is None or isinstance(value, bool):
        return bool(value)
    text = str(value).strip().lower() if isinstance(value, str | int | float) else None
    if text in ("true", "1", "1.0"):
        return True
    if text in ("false", "0", "0.0", ""):
        return False
    raise OptionError(f"{name} is {short(value)}; true or false is needed.")


@dataclass(frozen=True)
class Option:
    """An option of a request, beside the clicks.

    Attributes:
        name: key in the request.
        read: from the value a client sent, None where it sent none, to the value used; raises OptionError or
            RegionError.
    """

    name: str
    read: Callable[[object], Any]


OPTIONS = (
    Option("threshold", read_threshold),
    Option("device", read_device),
    Option("result_extension", _read_extension),
    Option("result_compress", partial(_read_flag, "result_compress")),
    Option("refine", partial(_read_flag, "refine")),
    Option("start_from", partial(read_source, "start_from")),
    Option("start_value", partial(read_value, "start_value", least=1)),
    Option("protected", partial(read_source, "protected")),
    Option("protected_except", partial(read_value, "protected_except", least=0)),
    Option("read_tag", read_tag),
)


def _known(label: str) -> set[str]:
    options = {option.name for option in OPTIONS}
    return {*CLICK_KEYS, label, *options, *_HOST_KEYS, *_VIEWER_KEYS, *BOX_KEYS, *HOST_LABEL_KEYS}


def _warnings(request: Mapping[str, Any], unknown: list[str]) -> list[str]:
    warnings = []
    threshold = request.get("threshold")
    if threshold is not None and is_emptied(threshold):
        warnings.append(f"threshold was empty or 0; {DEFAULT_THRESHOLD} was used.")
    if unknown:
        named = ", ".join(short(key) for key in unknown[:_MAX_NAMED])
        more = f" and {len(unknown) - _MAX_NAMED} more" if len(unknown) > _MAX_NAMED else ""
        warnings.append(f"Unknown keys had no effect: {named}{more}.")
    return warnings
