"""Devices that a request may name."""

import pytest
import torch

from lib.serving.devices import DeviceError, available_devices, read_device


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.mark.parametrize(
    ("value", "device"),
    [
        (None, "cuda:0"),
        ("", "cuda:0"),
        ([], "cuda:0"),
        (["cpu", "cuda:0"], "cpu"),
        ("cuda", "cuda:0"),
        ("cuda:1", "cuda:1"),
        ("cpu", "cpu"),
    ],
)
def test_devices(two_gpus: None, value: object, device: str) -> None:
    assert read_device(value) == device


def test_the_first_gpu_is_the_default(two_gpus: None) -> None:
    assert available_devices() == ["cuda:0", "cuda:1", "cpu"]


@pytest.mark.parametrize("value", ["cuda", "cuda:0", "cuda:-1", "tpu", "cuda; rm", ["tpu"], [["cpu"]], 0, "CPU"])
def test_devices_this_machine_lacks(no_gpu: None, value: object) -> None:
    with pytest.raises(DeviceError, match="choose from: cpu"):
        read_device(value)


def test_device_number_out_of_range(two_gpus: None) -> None:
    with pytest.raises(DeviceError, match="cuda:0, cuda:1, cpu"):
        read_device("cuda:2")
