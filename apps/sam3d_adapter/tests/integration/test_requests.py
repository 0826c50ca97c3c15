"""Every form of a request to the real application: a mask, or a refusal that says what to do; then a good click."""

import http.client
import json
from typing import Any

import pytest
import requests

from lib.host.json_object import MAX_CHARACTERS as MAX_PARAMS_BYTES
from lib.prompts.click import MAX_CLICKS
from tests.support.live_app import LiveApp, check_refusal
from tests.support.noise_site import CLICK, SECOND_CLICK

pytestmark = pytest.mark.timeout(300)

FOREGROUND = {"foreground": [CLICK]}
SESSION = "00000000-0000-1000-8000-000000000000"


# Values of "foreground": (value, words of the refusal).
BAD_CLICKS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "null": (None, ("No foreground click",)),
    "empty": ([], ("No foreground click",)),
    "empty text": ("", ("No foreground click",)),
    "list as empty text": ("[]", ("No foreground click",)),
    "word": ("here", ("'here'", "list")),
    "number": (7, ("7", "list")),
    "zero": (0, ("list",)),
    "true": (True, ("list",)),
    "empty object": ({}, ("No foreground click",)),
    "foreign object": ({"liver": [CLICK]}, ("'liver'", "'lesion'")),
    "object of coordinates": ({"i": 1, "j": 2, "k": 3}, ("'i'",)),
    "flat": (CLICK, ("Click 1", "triples")),
    "one inside another": ([[CLICK]], ("Click 1", "three")),
    "far inside": ([[[[[CLICK]]]]], ("Click 1",)),
    "one number": ([[24]], ("[24]", "three")),
    "two numbers": ([[24, 20]], ("[24, 20]", "three")),
    "four numbers": ([[24, 20, 12, 1]], ("three",)),
    "no number": ([[]], ("three",)),
    "null click": ([None], ("None", "three")),
    "null part": ([[24, None, 12]], ("finite number",)),
    "text part": ([[24, "20", 12]], ("'20'", "finite number")),
    "text click": (["24,20,12"], ("three",)),
    "true part": ([[24, True, 12]], ("finite number",)),
    "list part": ([[24, [20], 12]], ("finite number",)),
    "object click": ([{"i": 24, "j": 20, "k": 12}], ("three",)),
    "fraction": ([[24, 20.5, 12]], ("20.5", "whole", "affine")),
    "nearly whole": ([[24.000001, 20, 12]], ("whole",)),
    "mm": ([[-6.25, -9.4, 14.01]], ("whole", "mm")),
    "negative": ([[-1, 20, 12]], ("-1", "48 x 40 x 24")),
    "minus zero is not": ([[-0.5, 20, 12]], ("whole",)),
    "behind i": ([[48, 20, 12]], ("48 x 40 x 24", "counted from 0")),
    "behind j": ([[24, 40, 12]], ("48 x 40 x 24",)),
    "behind k": ([[24, 20, 24]], ("48 x 40 x 24",)),
    "other order": ([[12, 20, 24]], ("48 x 40 x 24",)),
    "far outside": ([[2**62, 20, 12]], ("48 x 40 x 24",)),
    "beyond float": ([[10**400, 20, 12]], ("48 x 40 x 24",)),
    "beyond int": ([[1e300, 20, 12]], ("48 x 40 x 24",)),
    "second": ([CLICK, [24, 20]], ("Click 2",)),
    "last of many": ([CLICK] * 500 + [[24, 20, 99]], ("Click 501",)),
    "too many": ([CLICK] * (MAX_CLICKS + 1), (str(MAX_CLICKS + 1), str(MAX_CLICKS))),
    "too far apart": ([[0, 0, 0], [47, 39, 23]], ("mm",)),
    "text of an object": ('{"a": 1}', ("list",)),
    "text that is deep": ("[" * 900 + "]" * 900, ("nested",)),
    "text that is too deep": ("[" * 100_000, ("list",)),
    "text with NUL": ("\x00", ("list",)),
    "half a character": ("\ud800", ("list",)),
    "html": ("<script>alert(1)</script>", ("list",)),
}


@pytest.mark.parametrize("case", BAD_CLICKS)
def test_foreground_that_is_none(live: LiveApp, good_mask: str, case: str) -> None:
    value, words = BAD_CLICKS[case]
    check_refusal(live, live.infer({"foreground": value}), 422, words)
    assert live.good_click() == good_mask


# Texts of params that Python's json would write otherwise.
BAD_TEXTS: dict[str, tuple[str, int, tuple[str, ...]]] = {
    "word": ("nonsense", 422, ("'nonsense'", "not JSON")),
    "cut off": ('{"foreground": [[24, 20', 422, ("not JSON",)),
    "single quotes": ("{'foreground': []}", 422, ("not JSON",)),
    "list": ("[]", 422, ("not an object",)),
    "list of pairs": ('[["foreground", [[24, 20, 12]]]]', 422, ("not an object",)),
    "text": ('"foreground"', 422, ("not an object",)),
    "number": ("3", 422, ("not an object",)),
    "null": ("null", 422, ("None", "not an object")),
    "two objects": ("{}{}", 422, ("not JSON",)),
    "key twice": ('{"foreground": [[1, 1, 1]], "foreground": [[24, 20, 12]]}', 422, ("'foreground'", "twice")),
    "key twice inside": ('{"foreground": {"lesion": [], "lesion": [[24, 20, 12]]}}', 422, ("twice",)),
    "NaN": ('{"foreground": [[NaN, 20, 12]]}', 422, ("finite number",)),
    "Infinity": ('{"foreground": [[24, Infinity, 12]]}', 422, ("finite number",)),
    "-Infinity": ('{"foreground": [[24, 20, -Infinity]]}', 422, ("finite number",)),
    "overflow": ('{"foreground": [[1e999, 20, 12]]}', 422, ("finite number",)),
    "endless number": ('{"foreground": [[' + "1" * 5000 + ", 20, 12]]}", 422, ("not JSON",)),
    "deep": ('{"a": ' + "[" * 100 + "]" * 100 + "}", 422, ("nested",)),
    "very deep": ('{"a": ' + "[" * 20_000 + "]" * 20_000 + "}", 422, ("nested",)),
    "deep objects": ('{"a": ' * 200 + "1" + "}" * 200, 422, ("nested",)),
    "byte order mark": ("\ufeff{}", 422, ("not JSON",)),
    "NUL": ("\x00", 422, ("not JSON",)),
    "long": (json.dumps({"foreground": [CLICK] * 40_000}), 413, (str(MAX_PARAMS_BYTES), "fewer")),
    "longer than a form may be": ('{"x": "' + "x" * 2**21 + '"}', 400, ("1024KB", "params")),
    "empty": ("", 422, ("No foreground click",)),
    "blank": (" \n ", 422, ("No foreground click",)),
}


@pytest.mark.parametrize("case", BAD_TEXTS)
def test_params_that_are_no_object(live: LiveApp, good_mask: str, case: str) -> None:
    text, status, words = BAD_TEXTS[case]
    check_refusal(live, live.infer(text), status, words)
    assert live.good_click() == good_mask


# Further keys beside a good click: (params, words of the refusal).
BAD_KEYS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "one voxel both": ({**FOREGROUND, "background": [CLICK]}, ("both", "background")),
    "background of another kind": ({**FOREGROUND, "background": "no"}, ("'background'", "list")),
    "background outside": ({**FOREGROUND, "background": [[0, 0, 24]]}, ("Click 1 of 'background'", "48 x 40 x 24")),
    "background alone": ({"background": [CLICK]}, ("No foreground click",)),
    "too many of both": ({"foreground": [CLICK] * 600, "background": [[1, 1, 1]] * 600}, ("1200", str(MAX_CLICKS))),
    "clicks of another label": ({"liver": [CLICK]}, ("'liver'", "'lesion'")),
    "of another label beside ours": ({"lesion": [CLICK], "kidney": [[1, 2, 3]]}, ("'kidney'", "'lesion'")),
    "of another label as text": ({"liver": "[[1, 2, 3]]"}, ("'liver'",)),
    "of another label, flat": ({"liver": [[1.5, 2]]}, ("'liver'",)),
    "of a label with an odd name": ({"\ud800\x00<b>": [CLICK]}, ("segments 'lesion'",)),
    "our label of another kind": ({"lesion": 3}, ("'lesion'", "list")),
    "our label empty": ({"lesion": [], "background": []}, ("No foreground click",)),
    "both ways": ({**FOREGROUND, "lesion": [SECOND_CLICK]}, ("'foreground'", "'lesion'", "once")),
    "three ways": ({**FOREGROUND, "points": [SECOND_CLICK], "point_labels": [1]}, ("'points'", "once")),
    "points without labels": ({"points": [CLICK]}, ("1 'points'", "0 'point_labels'")),
    "labels without points": ({"point_labels": [1]}, ("0 'points'", "1 'point_labels'")),
    "fewer labels than points": ({"points": [CLICK, SECOND_CLICK], "point_labels": [1]}, ("2 'points'",)),
    "label -1": ({"points": [CLICK], "point_labels": [-1]}, ("-1", "1 (foreground) or 0")),
    "label 2": ({"points": [CLICK], "point_labels": [2]}, ("Label 1", "2")),
    "label 0.5": ({"points": [CLICK], "point_labels": [0.5]}, ("0.5",)),
    "label as text": ({"points": [CLICK], "point_labels": ["1"]}, ("'1'",)),
    "label true": ({"points": [CLICK], "point_labels": [True]}, ("True",)),
    "label null": ({"points": [CLICK], "point_labels": [None]}, ("None",)),
    "points all background": ({"points": [CLICK], "point_labels": [0]}, ("No foreground click",)),
    "points of another kind": ({"points": {"a": 1}, "point_labels": [1]}, ("'points'", "list")),
    "points flat": ({"points": CLICK, "point_labels": [1, 1, 1]}, ("Click 1", "three")),
    "class prompt of vista3d": ({"label_prompt": [3]}, ("No foreground click",)),
    "threshold 1": ({**FOREGROUND, "threshold": 1}, ("threshold", "between 0.001 and 0.999")),
    "threshold 2": ({**FOREGROUND, "threshold": 2}, ("threshold", "2")),
    "threshold -1": ({**FOREGROUND, "threshold": -1}, ("threshold", "-1")),
    "threshold word": ({**FOREGROUND, "threshold": "half"}, ("threshold", "'half'")),
    "threshold comma": ({**FOREGROUND, "threshold": "0,5"}, ("threshold", "'0,5'")),
    "threshold true": ({**FOREGROUND, "threshold": True}, ("threshold", "True")),
    "threshold false": ({**FOREGROUND, "threshold": False}, ("threshold", "False")),
    "threshold list": ({**FOREGROUND, "threshold": [0.5]}, ("threshold", "[0.5]")),
    "threshold object": ({**FOREGROUND, "threshold": {}}, ("threshold",)),
    "threshold text nan": ({**FOREGROUND, "threshold": "nan"}, ("threshold", "'nan'")),
    "threshold beyond float": ({**FOREGROUND, "threshold": 10**400}, ("threshold",)),
    "device unknown": ({**FOREGROUND, "device": "tpu"}, ("device", "'tpu'", "cpu")),
    "device that is not there": ({**FOREGROUND, "device": "cuda:99"}, ("cuda:99", "cpu")),
    "device with more": ({**FOREGROUND, "device": "cpu; rm -rf /"}, ("device", "cpu")),
    "device number": ({**FOREGROUND, "device": 0}, ("device",)),
    "device object": ({**FOREGROUND, "device": {"a": 1}}, ("device",)),
    "device list of nonsense": ({**FOREGROUND, "device": [["cpu"]]}, ("device",)),
    "extension png": ({**FOREGROUND, "result_extension": ".png"}, ("result_extension", ".nii.gz")),
    "extension with a path": ({**FOREGROUND, "result_extension": "/../../x.nrrd"}, ("result_extension",)),
    "extension with NUL": ({**FOREGROUND, "result_extension": ".nrrd\x00"}, ("result_extension",)),
    "extension list": ({**FOREGROUND, "result_extension": [".nrrd"]}, ("result_extension",)),
    "extension object": ({**FOREGROUND, "result_extension": {".nrrd": 1}}, ("result_extension",)),
    "extension number": ({**FOREGROUND, "result_extension": 1}, ("result_extension",)),
    "extension upper case": ({**FOREGROUND, "result_extension": ".NRRD"}, ("result_extension",)),
    "compress maybe": ({**FOREGROUND, "result_compress": "maybe"}, ("result_compress", "true or false")),
    "compress 2": ({**FOREGROUND, "result_compress": 2}, ("result_compress",)),
    "refine maybe": ({**FOREGROUND, "refine": "maybe"}, ("refine", "true or false")),
    "refine list": ({**FOREGROUND, "refine": [True]}, ("refine",)),
    "compress list": ({**FOREGROUND, "result_compress": [True]}, ("result_compress",)),
    "tag with a path": ({**FOREGROUND, "label_tag": "../x"}, ("label_tag",)),
    "tag absolute": ({**FOREGROUND, "label_tag": "/tmp/x", "save_label": True}, ("label_tag",)),
    "tag number": ({**FOREGROUND, "label_tag": 3}, ("label_tag",)),
    "tag empty": ({**FOREGROUND, "label_tag": ""}, ("label_tag",)),
    "tag with a line end": ({**FOREGROUND, "label_tag": "a\n"}, ("label_tag",)),
    "save perhaps": ({**FOREGROUND, "save_label": "perhaps"}, ("save_label", "'perhaps'")),
    "save list": ({**FOREGROUND, "save_label": [1]}, ("save_label",)),
    "another image": ({**FOREGROUND, "image": "case_2"}, ("image", "address")),
    "image as a path": ({**FOREGROUND, "image": "/etc/hostname"}, ("image", "address")),
    "image as a list": ({**FOREGROUND, "image": ["case_1"]}, ("image", "address")),
    "another model": ({**FOREGROUND, "model": "ct"}, ("model", "address")),
    "no model": ({**FOREGROUND, "model": None}, ("model", "address")),
}


@pytest.mark.parametrize("case", BAD_KEYS)
def test_keys_that_contradict_or_are_out_of_range(live: LiveApp, good_mask: str, case: str) -> None:
    params, words = BAD_KEYS[case]
    check_refusal(live, live.infer(params), 422, words)
    assert live.good_click() == good_mask


# Where the request goes to: (arguments of LiveApp.infer, status, words).
BAD_ADDRESSES: dict[str, tuple[dict[str, Any], int, tuple[str, ...]]] = {
    "no image": ({"image": ""}, 422, ("No image",)),
    "unknown image": ({"image": "case_9"}, 404, ("'case_9'",)),
    "image in upper case": ({"image": "CASE_1"}, 404, ("'CASE_1'",)),
    "image with extension": ({"image": "case_1.nii.gz"}, 404, ("case_1.nii.gz",)),
    "image as a path": ({"image": "/etc/hostname"}, 404, ("no image",)),
    "image above": ({"image": "../case_1"}, 404, ("no image",)),
    "image far above": ({"image": "../" * 20 + "etc/passwd"}, 404, ("no image",)),
    "image in a subfolder": ({"image": "labels/final/case_1"}, 404, ("no image",)),
    "image with NUL": ({"image": "case_1\x00"}, 404, ("no image",)),
    "image with a line end": ({"image": "case_1\n"}, 404, ("no image",)),
    "image of great length": ({"image": "x" * 5000}, 404, ("no image",)),
    "image with half a character": (
        {"image": "case\ud83d".encode("utf-8", "surrogatepass").decode("latin-1")},
        404,
        (),
    ),
    "image null": ({"image": "null"}, 404, ("'null'",)),
    "unknown session": ({"image": "", "session_id": SESSION}, 404, ("session",)),
    "unknown session beside an image": ({"session_id": SESSION}, 404, ("session",)),
    "session that is none": ({"session_id": "nonsense"}, 404, ("session",)),
    "session above": ({"session_id": ".."}, 404, ("session",)),
    "session as a path": ({"session_id": "../studies"}, 404, ("session",)),
    "session with NUL": ({"session_id": "\x00"}, 404, ("session",)),
    "unknown model": ({"model": "nonsense"}, 404, ("'nonsense'", "ct")),
    "model above": ({"model": "%2e%2e"}, 404, ("ct",)),
    "model of great length": ({"model": "m" * 5000}, 404, ("ct",)),
    "model with NUL": ({"model": "%00"}, 404, ("ct",)),
    "model without weights": ({"model": "kits"}, 503, ("sam_vit_b_01ec64.pth", "sha256")),
    "model with torn weights": ({"model": "torn"}, 503, ("torn.safetensors",)),
    "unknown output": ({"output": "png"}, 422, ("output", "'png'", "dicom_seg")),
    "DICOM SEG without DICOM": ({"output": "dicom_seg"}, 422, ("DICOMweb", "output=image")),
    "4-D image": ({"image": "four_d"}, 422, ("8 x 8 x 8 x 2", "one volume")),
}


@pytest.mark.parametrize("case", BAD_ADDRESSES)
def test_addresses_that_lead_nowhere(live: LiveApp, good_mask: str, case: str) -> None:
    arguments, status, words = BAD_ADDRESSES[case]
    check_refusal(live, live.infer(FOREGROUND, **arguments), status, words)
    assert live.good_click() == good_mask


# The same mask as for a plain click: (params, words of the warnings; none where the list is to be empty).
ACCEPTED: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "plain": (FOREGROUND, ()),
    "floats that are whole": ({"foreground": [[24.0, 20.0, 12.0]]}, ()),
    "minus zero": ({"foreground": [CLICK], "background": [[-0.0, 0, 0]]}, ()),
    "as text": ({"foreground": json.dumps([CLICK])}, ()),
    "background empty": ({**FOREGROUND, "background": []}, ()),
    "background null": ({**FOREGROUND, "background": None}, ()),
    "under the label's name": ({"lesion": [CLICK], "background": []}, ()),
    "under the label's name, others empty": ({"lesion": [CLICK], "liver": [], "spleen": []}, ("'liver', 'spleen'",)),
    "as an object of one label": ({"foreground": {"lesion": [CLICK]}}, ()),
    "the same twice": ({**FOREGROUND, "lesion": [CLICK]}, ()),
    "points": ({"points": [CLICK], "point_labels": [1]}, ()),
    "points with class prompt": ({"points": [CLICK], "point_labels": [1], "label_prompt": [0]}, ()),
    "points with labels as floats": ({"points": [CLICK], "point_labels": [1.0]}, ()),
    "box empty": ({**FOREGROUND, "roi": []}, ()),
    "reset": ({**FOREGROUND, "reset_state": True}, ()),
    "slice": ({**FOREGROUND, "slice": 12}, ()),
    "segment of Slicer": ({**FOREGROUND, "label": "Segment_1"}, ()),
    "keys of OHIF": (
        {**FOREGROUND, "background": [], "result_extension": ".nrrd", "result_dtype": "uint8", "result_compress": False,
         "restore_label_idx": False},
        (),
    ),
    "client": ({**FOREGROUND, "client_id": None}, ()),
    "threshold as text": ({**FOREGROUND, "threshold": "0.5"}, ()),
    "threshold with blanks": ({**FOREGROUND, "threshold": " 0.5 "}, ()),
    "threshold emptied": ({**FOREGROUND, "threshold": ""}, ("threshold", "0.5")),
    "threshold emptied in Slicer": ({**FOREGROUND, "threshold": 0.0}, ("threshold", "0.5")),
    "threshold null": ({**FOREGROUND, "threshold": None}, ()),
    "device": ({**FOREGROUND, "device": "cpu"}, ()),
    "device emptied": ({**FOREGROUND, "device": ""}, ()),
    "device as the list of choices": ({**FOREGROUND, "device": ["cpu"]}, ()),
    "extension emptied": ({**FOREGROUND, "result_extension": ""}, ()),
    "compress as text": ({**FOREGROUND, "result_compress": "False"}, ()),
    "refine": ({**FOREGROUND, "refine": True}, ()),
    "refine as text": ({**FOREGROUND, "refine": "false"}, ()),
    "compress emptied": ({**FOREGROUND, "result_compress": 0.0}, ()),
    "save as text": ({**FOREGROUND, "save_label": "false"}, ()),
    "image and model as in the address": ({**FOREGROUND, "image": "case_1", "model": "test"}, ()),
    "unknown": ({**FOREGROUND, "colour": "red"}, ("'colour'",)),
    "many unknown": ({**FOREGROUND, **{f"key_{n}": n for n in range(50)}}, ("'key_0'", "45 more")),
    "unknown of great length": ({**FOREGROUND, "x" * 10_000: 1}, ("Unknown",)),
    "unknown with half a character": ({**FOREGROUND, "\ud800": "\udfff"}, ("Unknown",)),
    "keys of the pipeline": (
        {**FOREGROUND, "pred": [1], "embedding": "x", "roi_geometry": 1, "stages": 2, "warnings": 3, "latencies": 4,
         "pred_meta_dict": {"affine": 1}},
        ("Unknown", "'pred'"),
    ),
    "keys of the host": (
        {**FOREGROUND, "skip_writer": True, "logging": "nonsense", "result_write_to_file": False, "timeout": "soon"},
        ("Unknown", "'logging'"),
    ),
}  # fmt: skip


def _of_the_request(told: dict[str, Any]) -> list[str]:
    """The warnings, but for that about the mask: weights that were never trained are unsure of each."""
    return [warning for warning in told["warnings"] if not warning.startswith("unsure: ")]


@pytest.mark.parametrize("case", ACCEPTED)
def test_what_viewers_send_gives_the_mask_of_the_click(live: LiveApp, good_mask: str, case: str) -> None:
    params, words = ACCEPTED[case]
    answer = live.infer(params)
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert told["clicks"] == [CLICK] and told["threshold"] == 0.5
    warnings = _of_the_request(told)
    assert bool(warnings) is bool(words), warnings
    for word in words:
        assert word in " ".join(warnings)
    assert live.infer(params, output="image").content == live.infer(FOREGROUND, output="image").content
    assert live.good_click() == good_mask


@pytest.mark.parametrize("form", ["lists", "points"])
def test_background_clicks_are_obeyed(live: LiveApp, good_mask: str, form: str) -> None:
    beside = [CLICK[0] + 3, CLICK[1] - 2, CLICK[2] + 1]
    params: dict[str, Any] = {"foreground": [CLICK], "background": [beside]}
    if form == "points":
        params = {"points": [CLICK, beside], "point_labels": [1, 0]}
    told = live.infer(params).json()
    assert (told["clicks"], told["background_clicks"]) == ([CLICK], [beside]) and _of_the_request(told) == []
    assert len(told["obeyed_by_network"]) == 2
    assert live.good_click() == good_mask


def raw(live: LiveApp, body: bytes, content_type: str | None, *, method: str = "POST") -> tuple[int, str]:
    """A request as it stands; status and body of the answer."""
    connection = http.client.HTTPConnection(live.url.removeprefix("http://"), timeout=60)
    headers = {"Content-Type": content_type} if content_type else {}
    connection.request(method, "/infer/test?image=case_1&output=json", body, headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


MULTIPART = "multipart/form-data; boundary=b"


def form(*parts: bytes) -> bytes:
    """A form of parts: what follows ``form-data`` in the header, and the content, in turn."""
    pairs = zip(parts[::2], parts[1::2], strict=True)
    text = b"".join(b"--b\r\nContent-Disposition: form-data%b\r\n\r\n%b\r\n" % pair for pair in pairs)
    return text + b"--b--\r\n"


# (body, content type, status, words)
BODIES: dict[str, tuple[bytes, str | None, int, str]] = {
    "none": (b"", None, 422, "No foreground click"),
    "JSON in place of a form": (json.dumps(FOREGROUND).encode(), "application/json", 422, "No foreground click"),
    "form of a page": (b"params=nonsense", "application/x-www-form-urlencoded", 422, "not JSON"),
    "form without boundary": (b"x", "multipart/form-data", 400, "boundary"),
    "form cut off": (b'--b\r\nContent-Disposition: form-data; name="par', MULTIPART, 422, "No foreground click"),
    "form of nonsense": (b"nonsense", MULTIPART, 400, "params"),
    "params as a file": (form(b'; name="params"; filename="p.json"', b"{}"), MULTIPART, 422, "params"),
    "file as text": (form(b'; name="file"', b"x"), MULTIPART, 422, "file"),
    "part without name": (form(b"", b"x"), MULTIPART, 400, "name"),
    "bytes that are no text": (form(b'; name="params"', b"\xff\xfe"), MULTIPART, 422, "not JSON"),
    "two thousand parts": (form(*[b'; name="x"', b"1"] * 2000), MULTIPART, 400, "fields"),
}


@pytest.mark.parametrize("case", BODIES)
def test_bodies_that_are_no_form(live: LiveApp, good_mask: str, case: str) -> None:
    body, content_type, status, words = BODIES[case]
    found, text = raw(live, body, content_type)
    detail = json.loads(text)["detail"]
    assert found == status, text
    assert isinstance(detail, str) and words in detail and len(detail) < 1000
    assert live.good_click() == good_mask


def test_mask_sent_along_is_named_as_unused(live: LiveApp, good_mask: str) -> None:
    for name in ("mask.nii.gz", "../../mask"):
        files = {"params": (None, json.dumps(FOREGROUND)), "label": (name, b"\x01" * 64)}
        answer = requests.post(
            f"{live.url}/infer/test", params={"image": "case_1", "output": "json"}, files=files, timeout=60
        )
        assert answer.status_code == 200 and "read no earlier mask" in " ".join(answer.json()["warnings"])
    assert live.left_behind() == []
    assert live.good_click() == good_mask


def test_mask_saved_under_a_tag_stays_among_the_labels(live: LiveApp, good_mask: str) -> None:
    answer = live.infer({**FOREGROUND, "save_label": "true", "label_tag": "reader_2"})
    assert answer.status_code == 200, answer.text
    assert (live.studies / "labels/reader_2/case_1.nrrd").is_file()
    assert live.good_click() == good_mask


def test_after_all_that_a_good_click_gives_the_same_mask(live: LiveApp, good_mask: str) -> None:
    assert live.good_click() == good_mask
    assert live.left_behind() == []
