"""The requests whose answers are goldens: every kind that a viewer or a script sends, right ones and wrong ones.

They are sent in this order to one server, for an answer counts the passes of the encoder that earlier ones saved it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Params = Mapping[str, Any]


@dataclass(frozen=True)
class Click:
    """A request that is answered with a mask.

    Attributes:
        preset: that is asked.
        image: id of an image of ``images.PHANTOMS``.
        params: of the request.
        label_map: sent along as the part ``label``: ``nifti``, ``nrrd`` or ``coarse``; see ``images.label_map``.
        sent_as: ``stored``: lies on the server; ``nii``, ``nii.gz``, ``nrrd``, ``mha`` or ``sform.nii`` (without a
            qform): a file with the request; ``session``: a DICOM series uploaded before.
    """

    preset: str
    image: str
    params: Params
    label_map: str = ""
    sent_as: str = "stored"


@dataclass(frozen=True)
class Call:
    """Any other request.

    Attributes:
        address: path and query.
        method: of HTTP.
        form: fields of a form, as text.
        json: body, if there is no form.
        files: parts with a file: field -> (name of the file, one of ``FILES``).
    """

    address: str
    method: str = "GET"
    form: Mapping[str, str] = field(default_factory=dict)
    json: Any = None
    files: Mapping[str, tuple[str, str]] = field(default_factory=dict)


def _click(*voxels: list[int], not_: tuple[list[int], ...] = (), **more: Any) -> Params:
    return {"foreground": list(voxels), "background": list(not_), **more}


LESION, OUTSIDE, INSIDE = [30, 40, 20], [46, 40, 20], [24, 40, 20]
DARK, SMALL, BONE = [64, 46, 26], [50, 28, 32], [48, 62, 22]
ORGAN, ORGAN_END, ORGAN_FAR_END = [40, 36, 22], [58, 36, 22], [22, 40, 26]

MASKS: dict[str, Click] = {
    # An interaction, click by click; its last two requests take clicks back.
    "ct: 1 click": Click("ct", "ct_axial", _click(LESION)),
    "ct: 2 clicks": Click("ct", "ct_axial", _click(LESION, OUTSIDE)),
    "ct: 3 clicks": Click("ct", "ct_axial", _click(LESION, OUTSIDE, not_=(INSIDE,))),
    "ct: 4 clicks": Click("ct", "ct_axial", _click(LESION, OUTSIDE, [30, 54, 20], not_=(INSIDE,))),
    "ct: 5 clicks": Click("ct", "ct_axial", _click(LESION, OUTSIDE, [30, 54, 20], not_=(INSIDE, [40, 44, 22]))),
    "ct: 3 clicks, two taken back": Click("ct", "ct_axial", _click(LESION, OUTSIDE, not_=(INSIDE,))),
    "ct: 1 click, all others taken back": Click("ct", "ct_axial", _click(LESION)),
    # Where the click lies.
    "ct: dark lesion": Click("ct", "ct_axial", _click(DARK)),
    "ct: dark lesion, background click beside": Click("ct", "ct_axial", _click(DARK, not_=([78, 46, 26],))),
    "ct: dark lesion, background click inside": Click("ct", "ct_axial", _click(DARK, not_=([64, 52, 27],))),
    "ct: small lesion": Click("ct", "ct_axial", _click(SMALL)),
    "ct: bone that leaves the image": Click("ct", "ct_axial", _click(BONE)),
    "ct: in the air": Click("ct", "ct_axial", _click([3, 80, 40])),
    "ct: corner of the image": Click("ct", "ct_axial", _click([0, 0, 0])),
    "ct: opposite corner": Click("ct", "ct_axial", _click([95, 87, 43])),
    "ct: muscle, which has no border": Click("ct", "ct_axial", _click([48, 40, 10])),
    "ct: two lesions far apart": Click("ct", "ct_axial", _click(LESION, DARK)),
    "ct: background click far from the structure": Click("ct", "ct_axial", _click(LESION, not_=([90, 8, 40],))),
    "ct: foreground click far from the structure": Click("ct", "ct_axial", _click(LESION, [6, 70, 38])),
    "ct: click on the border": Click("ct", "ct_axial", _click([41, 40, 20])),
    "ct: eleven clicks": Click(
        "ct", "ct_axial", _click(*([25 + n, 40, 20] for n in range(10)), [30, 54, 20], not_=(INSIDE,))
    ),
    # Grids.
    "ct: oblique": Click("ct", "ct_oblique", _click([24, 34, 12])),
    "ct: oblique, both kinds": Click("ct", "ct_oblique", _click([24, 34, 12], [37, 34, 12], not_=([20, 33, 12],))),
    "ct: oblique, dark lesion": Click("ct", "ct_oblique", _click([52, 30, 16])),
    "ct: sagittal slices": Click("ct", "ct_sagittal", _click([20, 36, 30])),
    "ct: sagittal slices, both kinds": Click(
        "ct", "ct_sagittal", _click([20, 36, 30], [20, 52, 30], not_=([20, 32, 34],))
    ),
    "ct: left-handed": Click("ct", "ct_left_handed", _click([30, 26, 18])),
    "ct: left-handed, both kinds": Click(
        "ct", "ct_left_handed", _click([30, 26, 18], [44, 26, 18], not_=([26, 26, 18],))
    ),
    # Structures that outgrow a region.
    "ct: large": Click("ct", "ct_large", _click(ORGAN)),
    "ct: large, off the middle": Click("ct", "ct_large", _click(ORGAN_END)),
    "ct: large, clicks at both ends": Click("ct", "ct_large", _click(ORGAN, ORGAN_END, ORGAN_FAR_END)),
    "ct: large, background click in the middle": Click("ct", "ct_large", _click(ORGAN, not_=([50, 36, 22],))),
    "ct: large, background click at the border": Click("ct", "ct_large", _click(ORGAN, not_=(ORGAN_END,))),
    "ct: large, foreground click beyond the border": Click("ct", "ct_large", _click(ORGAN, [64, 46, 24])),
    "ct: large, both kinds": Click("ct", "ct_large", _click(ORGAN, [72, 40, 26], not_=([40, 52, 22],))),
    "mr: large": Click("mr", "mr_large", _click([38, 36, 24])),
    "mr: large, both kinds": Click("mr", "mr_large", _click([38, 36, 24], [70, 36, 24], not_=([44, 36, 24],))),
    # The other presets.
    "mr": Click("mr", "mr_thick", _click([34, 36, 12])),
    "mr: both kinds": Click("mr", "mr_thick", _click([34, 36, 12], [52, 36, 12], not_=([28, 36, 12],))),
    "mr: dark lesion": Click("mr", "mr_thick", _click([60, 44, 14])),
    "mr: of a CT": Click("mr", "ct_axial", _click(LESION)),
    "pet": Click("pet", "pet", _click([22, 24, 18])),
    "pet: both kinds": Click("pet", "pet", _click([22, 24, 18], not_=([25, 26, 19],))),
    "pet: warm lesion": Click("pet", "pet", _click([38, 26, 24])),
    "pet: both lesions": Click("pet", "pet", _click([22, 24, 18], [38, 26, 24])),
    "pet: in the background": Click("pet", "pet", _click([30, 10, 8])),
    "pet: in the background, both kinds": Click("pet", "pet", _click([30, 10, 8], not_=([30, 26, 20],))),
    "ct_lesion": Click("ct_lesion", "ct_axial", _click(LESION)),
    "ct_lesion: both kinds": Click("ct_lesion", "ct_axial", _click(LESION, OUTSIDE, not_=(INSIDE,))),
    "ct_lesion: small lesion": Click("ct_lesion", "ct_axial", _click(SMALL)),
    "ct_lesion: oblique": Click("ct_lesion", "ct_oblique", _click([24, 34, 12])),
    "ct_lesion: large": Click("ct_lesion", "ct_large", _click(ORGAN)),
    # Boxes.
    "ct: box": Click("ct", "ct_axial", {"box": [[18, 30, 12], [42, 50, 28]]}),
    "ct: box and clicks": Click("ct", "ct_axial", _click(LESION, not_=(INSIDE,), box=[[18, 30, 12], [42, 50, 28]])),
    "ct: box as Slicer sends it": Click("ct", "ct_axial", {"roi": [42, 18, 30, 50, 12, 28]}),
    "ct: box that is too small": Click("ct", "ct_axial", {"box": [[26, 36, 18], [34, 44, 22]]}),
    "ct: box that leaves the image": Click("ct", "ct_axial", {"box": [[55, 32, 15], [200, 60, 200]]}),
    "ct: large box": Click("ct", "ct_large", {"box": [[16, 15, 6], [64, 57, 38]]}),
    "ct: oblique box": Click("ct", "ct_oblique", {"box": [[14, 25, 7], [34, 43, 17]]}),
    "pet: box": Click("pet", "pet", {"box": [[15, 18, 12], [29, 30, 24]]}),
    "ct_lesion: box": Click("ct_lesion", "ct_axial", {"box": [[45, 23, 28], [55, 33, 36]]}),
    # Mask prompts, and other segments that are protected.
    "ct: mask prompt": Click("ct", "ct_axial", _click([22, 40, 20], start_value=1), "nifti"),
    "ct: mask prompt, background click": Click(
        "ct", "ct_axial", _click(not_=([32, 40, 20],), start_from="upload", start_value=1), "nifti"
    ),
    "ct: mask prompt, three clicks": Click(
        "ct", "ct_axial", _click([22, 40, 20], [30, 50, 20], not_=([37, 40, 20],), start_value=1), "nifti"
    ),
    "ct: mask prompt on another grid": Click("ct", "ct_axial", _click([22, 40, 20], start_value=1), "coarse"),
    "ct: mask prompt as NRRD": Click("ct", "ct_axial", _click([22, 40, 20], start_value=1), "nrrd"),
    "ct: saved label as mask prompt": Click("ct", "ct_axial", _click([22, 40, 20], start_from="label")),
    "ct: saved label protected": Click("ct", "ct_axial", _click(DARK, [50, 40, 20], protected="label")),
    "ct: protected, one value not": Click(
        "ct", "ct_axial", _click([30, 44, 20], protected="upload", protected_except=1), "nifti"
    ),
    "ct: mask prompt and protected": Click(
        "ct", "ct_axial", _click([38, 48, 20], start_from="upload", start_value=1, protected="upload"), "nifti"
    ),
    "ct: oblique mask prompt": Click("ct", "ct_oblique", _click([17, 34, 12], start_value=1), "nifti"),
    "mr: mask prompt": Click("mr", "mr_thick", _click([26, 36, 12], not_=([40, 44, 12],), start_value=1), "nifti"),
    "ct: box and mask prompt": Click(
        "ct", "ct_axial", _click([22, 40, 20], box=[[18, 30, 12], [42, 50, 28]], start_value=1), "nifti"
    ),
    "ct: label map that nothing asks for": Click("ct", "ct_axial", _click(LESION, start_from="none"), "nifti"),
    # The surface at full resolution.
    "ct: refine": Click("ct", "ct_large", _click(ORGAN, refine=True)),
    "ct: refine, two clicks": Click("ct", "ct_large", _click(ORGAN, [72, 40, 26], refine=True)),
    "ct: refine what was seen finely": Click("ct", "ct_axial", _click(LESION, refine=True)),
    "ct: refine, box": Click("ct", "ct_large", {"box": [[16, 15, 6], [64, 57, 38]], "refine": True}),
    "ct: refine, oblique": Click("ct", "ct_oblique", _click([24, 34, 12], refine=True)),
    "mr: refine": Click("mr", "mr_large", _click([38, 36, 24], refine=True)),
    # Options and the ways in which viewers say the same.
    "ct: threshold 0.2": Click("ct", "ct_axial", _click(LESION, threshold=0.2)),
    "ct: threshold 0.9": Click("ct", "ct_axial", _click(LESION, OUTSIDE, threshold="0.9")),
    "ct: as .nii.gz": Click("ct", "ct_axial", _click(LESION, result_extension=".nii.gz")),
    "ct: as .nii": Click("ct", "ct_oblique", _click([24, 34, 12], result_extension=".nii")),
    "ct: as compressed .nrrd": Click("ct", "ct_oblique", _click([24, 34, 12], result_compress=True)),
    "ct: points": Click("ct", "ct_axial", {"points": [LESION, INSIDE], "point_labels": [1, 0]}),
    "ct: label's name": Click("ct", "ct_axial", {"lesion": [LESION], "background": [INSIDE]}),
    "ct: clicks as text": Click("ct", "ct_axial", {"foreground": json.dumps([LESION]), "background": "[]"}),
    "ct: keys of viewers": Click(
        "ct", "ct_axial",
        _click(LESION, label="Segment_1", slice=20, reset_state=True, result_dtype="uint8", client_id="user-xyz"),
    ),
    "ct: unknown keys": Click("ct", "ct_axial", _click(LESION, colour="red", logging="nonsense", liver=[])),
    "ct: saved on the server": Click("ct", "ct_sagittal", _click([20, 36, 30], save_label=True, label_tag="reader_2")),
    # Images that come with the request.
    "ct: upload .nii.gz": Click("ct", "ct_axial", _click(LESION, INSIDE), sent_as="nii.gz"),
    "ct: upload .nii with a slope": Click("ct", "ct_left_handed", _click([30, 26, 18]), sent_as="nii"),
    "ct: upload .nrrd": Click("ct", "ct_oblique", _click([24, 34, 12]), sent_as="nrrd"),
    "ct: upload .mha": Click("ct", "ct_oblique", _click([24, 34, 12]), sent_as="mha"),
    "mr: upload .nii.gz": Click("mr", "mr_thick", _click([34, 36, 12]), sent_as="nii.gz"),
    "ct: upload .nii without a qform": Click("ct", "ct_oblique", _click([24, 34, 12]), sent_as="sform.nii"),
    "ct: DICOM series": Click("ct", "ct_oblique", _click([24, 34, 12]), sent_as="session"),
    "ct: DICOM series, both kinds": Click(
        "ct", "ct_oblique", _click([24, 34, 12], not_=([20, 33, 12],)), sent_as="session"
    ),
}  # fmt: skip
"""Requests that are answered with a mask, by name."""

BFLOAT16 = (
    "ct: 1 click", "ct: 3 clicks", "ct: oblique", "ct: large", "mr", "pet", "ct_lesion", "ct: box", "ct: mask prompt",
    "ct: refine",
)  # fmt: skip
"""Those of ``MASKS`` that are asked once more of a server that computes in bfloat16."""

SAME: tuple[tuple[str, ...], ...] = (
    ("ct: 1 click", "ct: 1 click, all others taken back", "ct: as .nii.gz", "ct: clicks as text", "ct: keys of viewers",
     "ct: unknown keys", "ct: label map that nothing asks for"),
    ("ct: 3 clicks", "ct: 3 clicks, two taken back"),
    ("ct: points", "ct: label's name"),
    ("ct: mask prompt", "ct: mask prompt as NRRD", "ct: saved label as mask prompt"),
    ("ct: oblique", "ct: as .nii", "ct: as compressed .nrrd", "ct: upload .nrrd", "ct: upload .mha"),
    ("ct: box", "ct: box as Slicer sends it"),
    ("mr", "mr: upload .nii.gz"),
)  # fmt: skip
"""Requests that mean the same and so give the same mask, to the last bit on every machine."""


def _infer(
    params: Any, *, preset: str = "ct", image: str = "ct_axial", output: str = "json", more: str = "", **parts: Any
) -> Call:
    text = params if isinstance(params, str) else json.dumps(params)
    address = f"/infer/{preset}?image={image}&output={output}{more}"
    return Call(address, "POST", form={"params": text}, **parts)


def _upload(name: str, file: str) -> Call:
    return _infer({"foreground": [[30, 40, 20]]}, image="", files={"file": (name, file)})


def _put_label(name: str, file: str, *, query: str = "image=ct_axial&tag=final", params: str = "{}") -> Call:
    return Call(f"/datastore/label?{query}", "PUT", form={"params": params}, files={"label": (name, file)})


def _post(address: str, body: Any) -> Call:
    return Call(address, "POST", json=body)


GOOD = {"foreground": [LESION]}
SESSION = "00000000-0000-1000-8000-000000000000"
SEGMENTS = [{"name": "lesion", "idx": 1}, {"name": "vessel", "idx": 2}]
JONES = {"by": "Dr. Jones", "reason": "better here"}

REFUSALS: dict[str, Call] = {
    # Clicks.
    "no key": _infer({}),
    "no click": _infer({"foreground": []}),
    "background click alone": _infer({"background": [LESION]}),
    "click outside": _infer({"foreground": [[96, 40, 20]]}),
    "click at a negative place": _infer({"foreground": [LESION, [-1, 0, 0]]}),
    "background click outside": _infer({**GOOD, "background": [[0, 0, 44]]}),
    "click in mm": _infer({"foreground": [[30.5, 40, 20]]}),
    "click of two numbers": _infer({"foreground": [[30, 40]]}),
    "click as flat list": _infer({"foreground": LESION}),
    "click as word": _infer({"foreground": "here"}),
    "click as number": _infer({"foreground": 7}),
    "click with text": _infer({"foreground": [[30, "40", 20]]}),
    "click with true": _infer({"foreground": [[30, True, 20]]}),
    "click with null": _infer({"foreground": [[30, None, 20]]}),
    "click with NaN": _infer('{"foreground": [[NaN, 40, 20]]}'),
    "same voxel in both": _infer({**GOOD, "background": [LESION]}),
    "too many clicks": _infer({"foreground": [LESION] * 1001}),
    "clicks of another label": _infer({"liver": [LESION]}),
    "two lists of clicks": _infer({**GOOD, "lesion": [DARK]}),
    "points without labels": _infer({"points": [LESION]}),
    "point label 2": _infer({"points": [LESION], "point_labels": [2]}),
    # Params.
    "params no JSON": _infer("nonsense"),
    "params cut off": _infer('{"foreground": [[30, 40'),
    "params a list": _infer("[]"),
    "params with a key twice": _infer('{"foreground": [[1, 1, 1]], "foreground": [[30, 40, 20]]}'),
    "params too deep": _infer('{"a": ' + "[" * 100 + "]" * 100 + "}"),
    "params too long": _infer({"foreground": [LESION] * 40_000}),
    # Options.
    "threshold 2": _infer({**GOOD, "threshold": 2}),
    "threshold word": _infer({**GOOD, "threshold": "half"}),
    "threshold true": _infer({**GOOD, "threshold": True}),
    "unknown device": _infer({**GOOD, "device": "tpu"}),
    "device not here": _infer({**GOOD, "device": "cuda:99"}),
    "extension .png": _infer({**GOOD, "result_extension": ".png"}),
    "compress maybe": _infer({**GOOD, "result_compress": "maybe"}),
    "refine maybe": _infer({**GOOD, "refine": "maybe"}),
    "refine as list": _infer({**GOOD, "refine": [True]}),
    "save perhaps": _infer({**GOOD, "save_label": "perhaps"}),
    "label tag a path": _infer({**GOOD, "label_tag": "../x"}),
    "another image in params": _infer({**GOOD, "image": "pet"}),
    "another model in params": _infer({**GOOD, "model": "mr"}),
    # Boxes.
    "box flat": _infer({"roi": [1, 9, 1, 9, 5, 5]}),
    "box of five numbers": _infer({"box": [1, 9, 1, 9, 5]}),
    "box as word": _infer({"box": "all"}),
    "box outside": _infer({"box": [[100, 100, 50], [120, 120, 60]]}),
    "box with a click outside": _infer({"foreground": [DARK], "box": [[18, 30, 12], [42, 50, 28]]}),
    "box twice": _infer({"box": [[18, 30, 12], [42, 50, 28]], "roi": [1, 9, 1, 9, 5, 8]}),
    # Label maps.
    "start_from word": _infer({**GOOD, "start_from": "mine"}),
    "start_from upload, nothing sent": _infer({**GOOD, "start_from": "upload", "start_value": 1}),
    "start_from a tag that is not there": _infer({**GOOD, "start_from": "label", "read_tag": "third"}),
    "start_from without click": _infer({"start_value": 1}, files={"label": ("a.nii.gz", "label")}),
    "start_from a value that is not there": _infer(
        {**GOOD, "start_value": 9}, files={"label": ("a.nii.gz", "label")}
    ),
    "start_from several values": _infer(GOOD, files={"label": ("a.nii.gz", "label")}),
    "start_value 0": _infer({**GOOD, "start_value": 0}, files={"label": ("a.nii.gz", "label")}),
    "start_from elsewhere": _infer({**GOOD, "start_value": 1}, files={"label": ("a.nii.gz", "label far away")}),
    "start_from an empty mask": _infer({**GOOD, "start_value": 1}, files={"label": ("a.nii.gz", "label of zeros")}),
    "start_from a file cut off": _infer({**GOOD, "start_value": 1}, files={"label": ("a.nii.gz", "label cut off")}),
    "start_from a photograph": _infer({**GOOD, "start_value": 1}, files={"label": ("a.png", "text")}),
    "start_from halves": _infer({**GOOD, "start_value": 1}, files={"label": ("a.nii.gz", "label of halves")}),
    "path of a label": _infer({**GOOD, "uploaded_label": "/etc/passwd"}),
    "click on what is protected": _infer(
        {"foreground": [[20, 40, 20]], "protected": "upload"}, files={"label": ("a.nii.gz", "label")}
    ),
    "protected word": _infer({**GOOD, "protected": "all"}),
    # Images and addresses.
    "no image": _infer(GOOD, image=""),
    "unknown image": _infer(GOOD, image="case_9"),
    "image as path": _infer(GOOD, image="../case_9"),
    "unknown session": _infer(GOOD, image="", more=f"&session_id={SESSION}"),
    "unknown preset": _infer(GOOD, preset="nonsense"),
    "preset without weights": _infer(GOOD, preset="kits"),
    "unknown output": _infer(GOOD, output="png"),
    "DICOM SEG of a folder": _infer(GOOD, output="dicom_seg"),
    "pathology": Call("/infer/wsi_v2/ct", "POST", form={"params": "{}"}),
    "image of four axes": _infer({"foreground": [[1, 1, 1]]}, image="four_d"),
    "image of one value": _infer(GOOD, preset="mr", image="", files={"file": ("a.nii", "flat image")}),
    # Uploads.
    "upload of nothing": _upload("a.nii.gz", "nothing"),
    "upload of text": _upload("a.nii.gz", "text"),
    "upload of text as NRRD": _upload("a.nrrd", "text"),
    "upload of text as MetaImage": _upload("a.mha", "text"),
    "upload of text as DICOM": _upload("a.dcm", "text"),
    "upload of a photograph": _upload("a.png", "text"),
    "upload cut off": _upload("a.nii", "image cut off"),
    "upload cut off, packed": _upload("a.nii.gz", "packed image cut off"),
    "upload not packed": _upload("a.nii.gz", "image"),
    "upload of four axes": _upload("a.nii", "image of four axes"),
    "upload of a slice": _upload("a.nii", "slice"),
    "upload of complex numbers": _upload("a.nii", "complex image"),
    "upload without a place": _upload("a.nii", "image without place"),
    "upload sheared": _upload("a.nii", "sheared image"),
    "upload of voxels of a metre": _upload("a.nii", "image of metres"),
    "upload that names another file": _upload("a.nrrd", "NRRD of another file"),
    "session of text": Call("/session/?uncompress=true", "PUT", files={"files": ("a.zip", "text")}),
    # Training.
    "train: unknown preset": _post("/train/nonsense", {}),
    "train: unknown key": _post("/train/ct", {"epochs": 3}),
    "train: max_epochs -1": _post("/train/ct", {"max_epochs": -1}),
    "train: max_epochs 1.5": _post("/train/ct", {"max_epochs": 1.5}),
    "train: max_epochs word": _post("/train/ct", {"max_epochs": "many"}),
    "train: max_minutes true": _post("/train/ct", {"max_minutes": True}),
    "train: parent": _post("/train/ct", {"parent": "newest"}),
    "train: label_name": _post("/train/ct", {"label_name": "a\nb"}),
    "train: tracking": _post("/train/ct", {"tracking": "wandb"}),
    "train: fresh": _post("/train/ct", {"fresh": "maybe"}),
    "train: seed": _post("/train/ct", {"seed": -3}),
    "train: device": _post("/train/ct", {"device": "cuda:99"}),
    "train: multi_gpu": _post("/train/ct", {"multi_gpu": "yes"}),
    "train: another model": _post("/train/ct", {"model": "mr"}),
    "train: body a list": _post("/train/ct", [1]),
    "train: within the server": _post("/train/ct?run_sync=true", {}),
    # Versions of the weights.
    "versions: unknown preset": Call("/versions/nonsense"),
    "versions: unknown version": Call("/versions/ct/v0009-00000000"),
    "versions: export of an unknown one": Call("/versions/ct/v0009-00000000/export"),
    "versions: publish an unknown one": _post("/versions/ct/v0009-00000000/publish", JONES),
    "versions: publish without a name": _post("/versions/ct/shipped/publish", {"by": ""}),
    "versions: publish with more": _post("/versions/ct/shipped/publish", {**JONES, "is_best": True}),
    "versions: nothing to roll back to": _post("/versions/ct/roll_back", JONES),
    "versions: name with a blank": Call("/versions/ct/v0001%20"),
    "versions: export of what ships": Call("/versions/ct/shipped/export"),
    # The data store and the rest.
    "store: other voxels under this id": Call("/datastore/image?image=pet", "PUT", files={"file": ("x.nii", "image")}),
    "store: image id of elsewhere": Call("/datastore/image?image=../x", "PUT", files={"file": ("x.nii", "image")}),
    "store: image of four axes": Call(
        "/datastore/image?image=new", "PUT", files={"file": ("x.nii", "image of four axes")}
    ),
    "store: file name without id": Call("/datastore/image?image=", "PUT", files={"file": ("a.zip", "image")}),
    "store: unknown image": Call("/datastore/image?image=case_9"),
    "store: unknown label": Call("/datastore/label?label=ct_axial&tag=third"),
    "store: label of text": _put_label("x.nii.gz", "text"),
    "store: label of halves": _put_label("x.nii.gz", "label of halves"),
    "store: label as photograph": _put_label("x.png", "label"),
    "store: label of an unknown image": _put_label("x.nii.gz", "label", query="image=case_9&tag=final"),
    "store: label under a tag of elsewhere": _put_label("x.nii.gz", "label", query="image=ct_axial&tag=../x"),
    "store: label with a wrong label_info": _put_label("x.nii.gz", "label", params='{"label_info": [{"name": 3}]}'),
    "store: info no JSON": Call("/datastore/image/info?image=ct_axial", "PUT", form={"info": '{"x": -Infinity}'}),
    "next sample: unknown strategy": _post("/activelearning/nonsense", {}),
    "next sample: body a list": _post("/activelearning/random", [1]),
    "next sample: client_id": _post("/activelearning/random", {"client_id": 3}),
    "scoring: unknown": _post("/scoring/nonsense", {}),
    "batch: unknown preset": _post("/batch/infer/nonsense", {}),
    "batch: images": _post("/batch/infer/ct?images=some", {}),
    "weights through the server": Call("/model/ct", "PUT", files={"file": ("x.pt", "text")}),
    "proxy without PACS": Call("/proxy/dicom/studies"),
    "unknown address": Call("/nonsense"),
}  # fmt: skip
"""Requests that are refused, by name."""

OTHERS: dict[str, Call] = {
    "versions": Call("/versions/"),
    "versions of ct": Call("/versions/ct"),
    "shipped version of ct": Call("/versions/ct/shipped"),
    "page of versions": Call("/versions/ct/page"),
    "label is saved": _put_label("x.nii.gz", "label", params=json.dumps({"label_info": SEGMENTS})),
    "label is fetched": Call("/datastore/label?label=ct_axial&tag=final"),
    "label is there": Call("/datastore/label?image=ct_axial&tag=final", "HEAD"),
    "segments of the label": Call("/datastore/label/info?label=ct_axial&tag=final"),
    "same image once more": Call("/datastore/image?image=ct_axial", "PUT", files={"file": ("x.nii", "image")}),
    "answer without mask": _infer(GOOD),
    "trainings": Call("/train/"),
    "scorings": Call("/scoring/"),
    "endpoints": Call("/openapi.json"),
}  # fmt: skip
"""Requests that are answered with something else than a mask. They come first: they save the label that others use."""
