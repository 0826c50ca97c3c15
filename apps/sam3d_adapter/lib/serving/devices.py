"""Devices that a network may run on."""

import re

import torch

from lib.prompts.reading import short

_DEVICE = re.compile(r"cpu|cuda(:\d+)?")


class DeviceError(ValueError):
    """A device that cannot be used, with those that can."""


def available_devices() -> list[str]:
    """Devices that a request may name, the default first."""
    return [f"cuda:{index}" for index in range(torch.cuda.device_count())] + ["cpu"]


def read_device(value: object) -> str:
    """``"cpu"`` or ``"cuda:N"``; the first GPU, if there is one, where nothing is asked for.

    Raises:
        DeviceError: not a device, or not one of this machine.
    """
    devices = available_devices()
    # MONAI Label takes the first of a list, so some viewers send the list of choices as they got it.
    if isinstance(value, list) and value:
        value = value[0]
    if value is None or value in ("", []):
        return devices[0]
    if not isinstance(value, str) or not _DEVICE.fullmatch(value):
        raise DeviceError(f"device is {short(value)}; choose from: {', '.join(devices)}.")
    # "cuda" and "cuda:0" are one device; two names would hold the weights twice.
    device = "cuda:0" if value == "cuda" else value
    if device not in devices:
        raise DeviceError(f"device {short(value)} does not exist on this server; choose from: {', '.join(devices)}.")
    return device
