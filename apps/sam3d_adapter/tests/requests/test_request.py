"""Requests as viewers send them, and as they should not."""

import dataclasses

import pytest
import torch

from lib.requests.request import LABEL_FILE_KEY, SERVER_KEYS, OptionError, Request
from lib.segmenters.contract import Options


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)


def test_defaults(no_gpu: None) -> None:
    read = Request.read({"image": "a"}, "lesion")
    assert read == Request(
        image="a",
        prompts={"foreground": [], "background": [], "box": None},
        options=Options(threshold=0.5, refine=False),
        device="cpu",
        result_extension=".nrrd",
        result_compress=False,
        result_crop=False,
        start_from="none",
        start_value=None,
        protected="none",
        protected_except=None,
        read_tag="final",
        uploaded_label=None,
        saved_label=None,
        saved_names=(),
        warnings=(),
    )


def test_foreign_keys_never_get_through(no_gpu: None) -> None:
    foreign = ("label", "slice", "reset_state", "pred", "embedding", "roi_geometry", "clicks", "warnings", "prompts")
    foreign += (
        "pred_meta_dict",
        "result",
        "skip_writer",
        "logging",
        "model_filename",
        "latencies",
        "labels",
        "spatial_size",
        "options",
    )
    request = dict.fromkeys(foreign, "x") | {"foreground": [[1, 2, 3]], "result_dtype": "float64"}
    read = Request.read(request, "lesion")
    assert dataclasses.replace(read, warnings=()) == Request.read({"foreground": [[1, 2, 3]]}, "lesion")
    assert "x" not in read.warnings  # ours, not the client's
    assert set(read.to_json()) & set(foreign) == set() and read.to_json()["result_dtype"] == "uint8"


def test_a_record_holds_what_the_mask_depends_on_and_reads_as_the_same_request(no_gpu: None) -> None:
    sent = {
        "image": "/data/Mustermann_Erika.nii", "model": "ct", "description": "Mustermann", "patient": "Mustermann",
        "points": [[1, 2, 3], [4, 5, 6]], "point_labels": [1, 0], "roi": [1, 9, 2, 9, 3, 9], "threshold": "0.4",
        "refine": 1, "result_extension": ".nii", "start_from": "label", "start_value": "3", "protected": "upload",
        "protected_except": 2, "read_tag": "Mustermann", **dict.fromkeys(SERVER_KEYS, "Mustermann"),
    }  # fmt: skip
    read = Request.read(sent, "lesion")
    assert read.to_json() == {
        "foreground": [[1, 2, 3]], "background": [[4, 5, 6]], "box": [1, 9, 2, 9, 3, 9], "threshold": 0.4,
        "device": "cpu", "result_extension": ".nii", "refine": True, "start_from": "label", "start_value": 3,
        "protected": "upload", "protected_except": 2, "result_dtype": "uint8",
    }  # fmt: skip
    again = Request.read(read.to_json(), "lesion")
    assert again.to_json() == read.to_json() and again.warnings == ()


@pytest.mark.parametrize(
    ("value", "number"), [(0.25, 0.25), ("0.75", 0.75), (None, 0.5), ("", 0.5), (" ", 0.5), (0, 0.5), (0.0, 0.5)]
)
def test_threshold(value: object, number: float) -> None:
    assert Request.read({"threshold": value}, "lesion").options.threshold == number


@pytest.mark.parametrize(
    "value", ["0", 1, "0.0", "1.0", 0.0003, 0.9997, -0.1, 2, float("nan"), "inf", "half", True, [0.5], {}]
)
def test_threshold_out_of_range(value: object) -> None:
    with pytest.raises(OptionError, match="threshold"):
        Request.read({"threshold": value}, "lesion")


@pytest.mark.parametrize("value", [".nrrd", ".nii", ".nii.gz"])
def test_result_extension(no_gpu: None, value: str) -> None:
    assert Request.read({"result_extension": value}, "lesion").result_extension == value


@pytest.mark.parametrize("value", [".png", "/../x.nrrd", "nrrd", 3, [".nrrd"]])
def test_result_extension_is_whitelisted(no_gpu: None, value: object) -> None:
    with pytest.raises(OptionError, match=".nii.gz"):
        Request.read({"result_extension": value}, "lesion")


@pytest.mark.parametrize(("value", "flag"), [(True, True), ("true", True), (1, True), (0, False), ("False", False)])
@pytest.mark.parametrize("name", ["result_compress", "result_crop", "refine"])
def test_flags(no_gpu: None, name: str, value: object, flag: bool) -> None:
    read = Request.read({name: value}, "lesion")
    assert getattr(read.options if name == "refine" else read, name) is flag


@pytest.mark.parametrize("name", ["result_compress", "result_crop", "refine"])
def test_flags_of_another_kind(no_gpu: None, name: str) -> None:
    with pytest.raises(OptionError, match=f"{name} is 'maybe'; true or false"):
        Request.read({name: "maybe"}, "lesion")


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
    (warning,) = Request.read(request_, "lesion").warnings
    assert words in warning


def test_warnings_are_of_bounded_length(no_gpu: None) -> None:
    (warning,) = Request.read({"x" * 10_000 + str(n): n for n in range(100)}, "lesion").warnings
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
    assert Request.read(dict.fromkeys(keys, 1), "lesion").warnings == ()
