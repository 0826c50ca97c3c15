"""The README's tables of keys and limits against what the code accepts."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from fastapi import HTTPException

from lib.configs.settings import Conf
from lib.geometry.click_influence import BACKGROUND_RADIUS_MM, EXTENT, FOREGROUND_RADIUS_MM
from lib.host.json_object import MAX_CHARACTERS as MAX_PARAMS_BYTES
from lib.host.pacs.same_slices import SERIES_HASH_KEY, UNSEEN_S, read_series_hash
from lib.host.patches.infer_endpoint import read_params
from lib.host.patches.save_label import read_save_label, require_safe_tag
from lib.prompts.box import Box
from lib.prompts.click import MAX_CLICKS, Click
from lib.prompts.prompts import Prompts
from lib.prompts.reading import ClickError
from lib.requests.request import LABEL_FILE_KEY, RESULT_EXTENSIONS, SOURCES, THRESHOLDS, OptionError, Request
from lib.requests.viewers import viewers
from lib.segmenters.roi.correction import START_LEAST_MM
from lib.segmenters.roi.refine import AGREES, CORRECTED_MM, REGIONS
from lib.serving.devices import DeviceError
from lib.serving.preset_segmenter import BOX_TOLERANCE
from lib.volumes.dicom_series import SPACING_TOLERANCE, TILT_TOLERANCE_DEG
from lib.volumes.header_validation import MAX_VOXELS
from lib.volumes.label_map import LEAST_INSIDE
from lib.volumes.memory import SHARE
from lib.volumes.volume import MAX_SHEAR_DEG, MAX_SPACING_MM, MIN_SPACING_MM

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
LABEL = "lesion"
SHAPE = (48, 40, 24)


def table(header: str) -> list[list[str]]:
    """Cells of the rows of the table whose head begins so."""
    lines = README.split(f"\n| {header} |", 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def quoted(text: str) -> list[str]:
    return re.findall(r"`([^`]*)`", text)


KEYS = {name: row for row in table("key | default") for name in quoted(row[0]) or [row[0]]}


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)


OPTIONS = (
    *("threshold", "device", "result_extension", "result_compress", "result_crop", "refine", "stop_at_warnings"),
    *("start_from", "start_value", "protected", "protected_except", "read_tag"),
)


def read(name: str, **request: Any) -> Any:
    """An option of a request, as it was understood."""
    found = Request.read(request, LABEL)
    return getattr(found.options if name in ("threshold", "refine") else found, name)


def test_every_key_is_documented_and_nothing_else() -> None:
    prompts = {key for viewer in viewers() for key in viewer.KEYS}
    assert set(KEYS) == {*prompts, "name of the preset's label", *OPTIONS, "save_label", "label_tag", SERIES_HASH_KEY}
    # Whatever a request may hold is an option here, a prompt, or passed over as the README says.
    fields = {field.name for field in dataclasses.fields(Request)} | {"threshold", "refine"}
    assert set(OPTIONS) == fields - {
        "image", "prompts", "options", "uploaded_label", "saved_label", "saved_names", "warnings",
        "counts_right_handed",
    }  # fmt: skip


@pytest.mark.parametrize("name", OPTIONS)
def test_defaults(name: str) -> None:
    default = quoted(KEYS[name][1])[-1]
    value = read(name)
    assert default == (value if isinstance(value, str) else json.dumps(value))


def test_series_hash() -> None:
    assert quoted(KEYS[SERIES_HASH_KEY][1]) == ["null"] and read_series_hash({SERIES_HASH_KEY: None}) is None
    assert "refused (409) for an hour" in README and UNSEEN_S == 3600
    assert Request.read({SERIES_HASH_KEY: "0" * 64}, LABEL).warnings == ()


def test_defaults_of_saving() -> None:
    assert json.dumps(read_save_label(None)) in quoted(KEYS["save_label"][1])
    assert quoted(KEYS["label_tag"][1]) == ["original"]


@pytest.mark.parametrize(
    "name", ["device", "result_extension", "result_compress", "result_crop", "refine", "start_from", "protected"]
)
def test_choices_are_taken(name: str) -> None:
    choices = [choice for choice in quoted(KEYS[name][2].split(";")[0]) if not choice.startswith("cuda")]
    assert choices
    for choice in choices:
        value = read(name, **{name: choice})
        assert (value if isinstance(value, str) else json.dumps(value)) == choice
    with pytest.raises((OptionError, DeviceError)):
        read(name, **{name: "another"})


def test_every_extension_is_named() -> None:
    assert quoted(KEYS["result_extension"][2]) == list(RESULT_EXTENSIONS)
    for name in ("start_from", "protected"):
        assert quoted(KEYS[name][2]) == list(SOURCES)


@pytest.mark.parametrize(("name", "least"), [("start_value", 1), ("protected_except", 0)])
def test_values_of_label_maps(name: str, least: int) -> None:
    assert f"whole number from {least}:" in KEYS[name][2]
    assert read(name, **{name: least}) == least
    with pytest.raises(OptionError):
        read(name, **{name: least - 1})


def test_numbers_of_boxes_and_masks() -> None:
    assert f"no farther than {EXTENT:.0f} times" in README
    assert FOREGROUND_RADIUS_MM == BACKGROUND_RADIUS_MM  # otherwise it says two numbers
    assert f"at least {START_LEAST_MM:.0f} mm, at most {FOREGROUND_RADIUS_MM:.0f} mm" in README
    assert f"more than {BOX_TOLERANCE:.0%}".replace("%", " %") in README
    assert f"less than {LEAST_INSIDE:.0%}".replace("%", " %") in README
    assert f"regions that hold most of it, {REGIONS} at most" in README
    assert f"agree by a Dice below {AGREES:g}" in README
    assert f"gives way within {CORRECTED_MM:.0f} mm of what they change" in " ".join(README.split())
    for form in quoted(KEYS["box"][2]):
        for number in (4, 9, 6, 8, 5, 7):
            form = re.sub(r"[ijk]", str(number), form, count=1)
        assert len(Box.read({"box": json.loads(form)}, SHAPE)) == 1


@pytest.mark.parametrize("value", [0, 0.0, "", None])
def test_threshold_absent(value: Any) -> None:
    assert read("threshold", threshold=value) == float(quoted(KEYS["threshold"][1])[0])


@pytest.mark.parametrize(
    ("value", "is_valid"), [(0.001, True), (0.999, True), (0.0003, False), (0.9997, False), (-1e-9, False), (2, False)]
)
def test_threshold_range(value: float, is_valid: bool) -> None:
    assert KEYS["threshold"][2].startswith("{:g} to {:g};".format(*THRESHOLDS))
    if is_valid:
        assert read("threshold", threshold=value) == value
    else:
        with pytest.raises(OptionError):
            read("threshold", threshold=value)


@pytest.mark.parametrize("tag", ["a" * 64, "a.b", "_a", "A-1"])
def test_tags(tag: str) -> None:
    require_safe_tag(tag)
    for bad in (f".{tag}", tag * 65, f"{tag}/x"):
        with pytest.raises(HTTPException):
            require_safe_tag(bad)


@pytest.mark.parametrize(
    "request_",
    [
        {"foreground": [[1, 2, 3]]},
        {"foreground": "[[1, 2, 3]]"},
        {"foreground": {LABEL: [[1, 2, 3]]}},
        {LABEL: [[1, 2, 3]]},
        {"points": [[1, 2, 3]], "point_labels": [1]},
        {"foreground": [[1.0, 2.0, 3.0]]},
    ],
)
def test_every_documented_way_to_click(request_: dict[str, Any]) -> None:
    found = Request.read(request_, LABEL)
    assert Prompts.read(found.prompts, SHAPE).clicks == (Click((1, 2, 3)),) and found.warnings == ()


def test_silence_and_warnings_are_as_documented() -> None:
    paragraph = README.split("Passed over in silence", 1)[1].split("\n\n", 1)[0]
    silent, spoken = paragraph.split("What else", 1)
    names = [name for name in quoted(silent) if name != "warnings"]
    assert len(names) == 9
    assert Request.read(dict.fromkeys(names, "x"), LABEL).warnings == ()
    ignored = {"whatever": 1, LABEL_FILE_KEY: "/x.nii", "start_from": "none"}
    assert len(Request.read(ignored, LABEL).warnings) == 2
    assert "part `label`" in spoken.replace("\n", " ") and "unknown key" in spoken


def test_limits() -> None:
    limits = {row[0]: row[1] for row in table("limit")}
    assert limits == {
        "clicks in a request": str(MAX_CLICKS),
        "`params`": f"{MAX_PARAMS_BYTES} characters, 16 levels",
        "body": f"{Conf().max_upload_mb} MiB, `--conf max_upload_mb`",
        "voxels of an image": f"{MAX_VOXELS}, and {round(SHARE * 100)} % of the free memory",
        "voxel size": f"{MIN_SPACING_MM} to {MAX_SPACING_MM} mm",
        "shear of an image's axes, tilt of a DICOM series": f"{MAX_SHEAR_DEG} degrees",
        "unevenness of the slices of a DICOM series": f"{SPACING_TOLERANCE:.0%}".replace("%", " %")
        + " of their distance",
    }
    assert MAX_SHEAR_DEG == TILT_TOLERANCE_DEG


@pytest.mark.parametrize(("depth", "is_read"), [(15, True), (16, False)])
def test_levels(depth: int, is_read: bool) -> None:
    text = '{"a": ' + "[" * depth + "]" * depth + "}"
    if is_read:
        assert read_params(text, model="", image="")
    else:
        with pytest.raises(HTTPException):
            read_params(text, model="", image="")


def test_one_click_more_than_allowed() -> None:
    with pytest.raises(ClickError):
        Click.read({"foreground": [[1, 2, 3]] * (MAX_CLICKS + 1)}, SHAPE)
