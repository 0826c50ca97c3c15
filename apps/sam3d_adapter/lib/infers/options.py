"""What of a request an infer task looks at: known keys only, coerced and range-checked.

Viewers send much more: Slicer every option of every panel, OHIF whatever an earlier dialog left behind. Foreign keys
are dropped, so that none of them can be mistaken for an entry that the transforms or MONAI Label's writer make
themselves.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

import torch

RESULT_EXTENSIONS = (".nrrd", ".nii", ".nii.gz")
DEFAULT_THRESHOLD = 0.5

_DEVICE = re.compile(r"cpu|cuda(:\d+)?")
# Read by other parts: the host (model, image, description), the clicks' transform (foreground, background).
_PASSED_ON = ("model", "image", "description", "foreground", "background")


class OptionError(ValueError):
    """An option of a request that cannot be used, with what is valid."""


def read_request(request: Mapping[str, Any]) -> dict[str, Any]:
    """The request of an infer task, complete and checked.

    Args:
        request: from the client, by way of MONAI Label.

    Returns:
        The keys that others read, unchanged where present, and: ``device`` (``"cpu"`` or ``"cuda:N"``), ``threshold``
        (foreground probability above which a voxel belongs to the mask), ``result_extension``, ``result_compress``,
        ``result_dtype``.

    Raises:
        OptionError: a value of the wrong kind or out of range.
    """
    read = {key: request[key] for key in _PASSED_ON if key in request}
    read["device"] = read_device(request.get("device"))
    read["threshold"] = read_threshold(request.get("threshold"))
    read["result_extension"] = _read_extension(request.get("result_extension"))
    read["result_compress"] = _read_flag("result_compress", request.get("result_compress"))
    # The mask is 0 / 1; OHIF copies bytes and knows no other type.
    read["result_dtype"] = "uint8"
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
    if value is None or value == "":
        return devices[0]
    if not isinstance(value, str) or not _DEVICE.fullmatch(value):
        raise OptionError(f"device is {value!r}; choose from: {', '.join(devices)}.")
    # "cuda" and "cuda:0" are one device; two names would hold the weights twice.
    device = "cuda:0" if value == "cuda" else value
    if device not in devices:
        raise OptionError(f"device {value!r} does not exist on this server; choose from: {', '.join(devices)}.")
    return device


def read_threshold(value: object) -> float:
    """A probability strictly between 0 and 1; at the ends every or no voxel of the ROI would belong to the mask.

    Raises:
        OptionError: not a number, or out of range.
    """
    if value is None:
        return DEFAULT_THRESHOLD
    try:
        number = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = math.nan
    if not 0.0 < number < 1.0:
        raise OptionError(f"threshold is {value!r}; a number between 0 and 1, both excluded, is needed.")
    return number


def _read_extension(value: object) -> str:
    if value is None or value == "":
        return RESULT_EXTENSIONS[0]
    if value not in RESULT_EXTENSIONS:
        raise OptionError(f"result_extension is {value!r}; choose from: {', '.join(RESULT_EXTENSIONS)}.")
    return str(value)


def _read_flag(name: str, value: object) -> bool:
    if value is None or isinstance(value, bool):
        return bool(value)
    text = str(value).strip().lower()
    if text in ("true", "1"):
        return True
    if text in ("false", "0", ""):
        return False
    raise OptionError(f"{name} is {value!r}; true or false is needed.")
