"""Requests as viewers send them, and as they should not."""

import pytest
import torch

from lib.infers import options
from lib.infers.options import OptionError, read_request
from lib.requests.request import LABEL_FILE_KEY


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


def test_defaults(no_gpu: None) -> None:
    assert read_request({"image": "a"}, "lesion") == {
        "image": "a",
        "foreground": [],
        "background": [],
        "warnings": [],
        "device": "cpu",
        "threshold": 0.5,
        "result_extension": ".nrrd",
        "result_compress": False,
        "refine": False,
        "result_dtype": "uint8",
        "box": None,
        "start_from": "none",
        "start_value": None,
        "protected": "none",
        "protected_except": None,
        "read_tag": "final",
    }


def test_foreign_keys_never_reach_the_pipeline(no_gpu: None) -> None:
    foreign = ("label", "roi", "slice", "reset_state", "pred", "embedding", "roi_geometry", "clicks", "warnings")
    foreign += (
        "pred_meta_dict",
        "result",
        "skip_writer",
        "logging",
        "model_filename",
        "latencies",
        "labels",
        "spatial_size",
    )
    request = dict.fromkeys(foreign, "x") | {"foreground": [[1, 2, 3]], "result_dtype": "float64"}
    read = read_request(request, "lesion")
    assert set(foreign) & set(read) == {"warnings"}
    assert "x" not in read["warnings"]  # ours, not the client's
    assert read["foreground"] == [[1, 2, 3]] and read["result_dtype"] == "uint8"


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
    assert options.read_device(value) == device


@pytest.mark.parametrize("value", ["cuda", "cuda:0", "cuda:-1", "tpu", "cuda; rm", ["tpu"], [["cpu"]], 0, "CPU"])
def test_devices_this_machine_lacks(no_gpu: None, value: object) -> None:
    with pytest.raises(OptionError, match="choose from: cpu"):
        options.read_device(value)


def test_device_number_out_of_range(two_gpus: None) -> None:
    with pytest.raises(OptionError, match="cuda:0, cuda:1, cpu"):
        options.read_device("cuda:2")


@pytest.mark.parametrize(
    ("value", "number"), [(0.25, 0.25), ("0.75", 0.75), (None, 0.5), ("", 0.5), (" ", 0.5), (0, 0.5), (0.0, 0.5)]
)
def test_threshold(value: object, number: float) -> None:
    assert options.read_threshold(value) == number


@pytest.mark.parametrize(
    "value", ["0", 1, "0.0", "1.0", 0.0003, 0.9997, -0.1, 2, float("nan"), "inf", "half", True, [0.5], {}]
)
def test_threshold_out_of_range(value: object) -> None:
    with pytest.raises(OptionError, match="threshold"):
        options.read_threshold(value)


@pytest.mark.parametrize("value", [".nrrd", ".nii", ".nii.gz"])
def test_result_extension(no_gpu: None, value: str) -> None:
    assert read_request({"result_extension": value}, "lesion")["result_extension"] == value


@pytest.mark.parametrize("value", [".png", "/../x.nrrd", "nrrd", 3, [".nrrd"]])
def test_result_extension_is_whitelisted(no_gpu: None, value: object) -> None:
    with pytest.raises(OptionError, match=".nii.gz"):
        read_request({"result_extension": value}, "lesion")


@pytest.mark.parametrize(("value", "flag"), [(True, True), ("true", True), (1, True), (0, False), ("False", False)])
@pytest.mark.parametrize("name", ["result_compress", "refine"])
def test_flags(no_gpu: None, name: str, value: object, flag: bool) -> None:
    assert read_request({name: value}, "lesion")[name] is flag


@pytest.mark.parametrize("name", ["result_compress", "refine"])
def test_flags_of_another_kind(no_gpu: None, name: str) -> None:
    with pytest.raises(OptionError, match=f"{name} is 'maybe'; true or false"):
        read_request({name: "maybe"}, "lesion")


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"threshold": 0.0}, "threshold was empty or 0"),
        ({LABEL_FILE_KEY: "/x.nii", "start_from": "none"}, "mask that came with the request"),
        ({"colour": "red"}, "Unknown keys had no effect: 'colour'"),
        ({f"k{n}": n for n in range(9)}, "'k4' and 4 more"),
    ],
)
def test_what_has_no_effect_is_said(no_gpu: None, request_: dict, words: str) -> None:
    (warning,) = read_request(request_, "lesion")["warnings"]
    assert words in warning


def test_warnings_are_of_bounded_length(no_gpu: None) -> None:
    (warning,) = read_request({"x" * 10_000 + str(n): n for n in range(100)}, "lesion")["warnings"]
    assert len(warning) < 600


def test_what_viewers_always_send_is_passed_over_in_silence(no_gpu: None) -> None:
    keys = (
        "label",
        "slice",
        "reset_state",
        "label_prompt",
        "client_id",
        "result_dtype",
        "restore_label_idx",
        "session",
    )
    assert read_request(dict.fromkeys(keys, 1), "lesion")["warnings"] == []
