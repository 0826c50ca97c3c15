"""A request for a mask: known keys only, coerced and range-checked, in one form for the task, the record and replay.

Viewers send much more: Slicer every option of every panel, OHIF whatever an earlier dialog left behind. Foreign keys
are dropped, so that none of them can be mistaken for one that the server sets.

Not pydantic: nearly every field needs a rule and a sentence of its own (emptied numbers, lists of choices, JSON as
text), and a model around these rules would only add lines.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from lib.answer_warnings import answer_warning
from lib.prompts.prompt import prompt_kinds
from lib.prompts.reading import ClickError, PromptError, clicks_of_another_label, is_nested_beyond, read_list, short
from lib.requests.viewers import slicer, viewers
from lib.segmenters.contract import DEFAULT_THRESHOLD, Options
from lib.serving.devices import read_device

RESULT_EXTENSIONS = (".nrrd", ".nii", ".nii.gz")
THRESHOLDS = (0.001, 0.999)
"""Lowest and highest probability; answers are bounded at logits of 8, a probability of 0.0003 and 0.9997."""
SOURCES = ("none", "label", "upload")
"""Where a label map comes from: nowhere, the label saved on the server, or the file sent along."""
LABEL_FILE_KEY = "uploaded_label"
SAVED_LABEL_KEY, SAVED_NAMES_KEY = "saved_label", "saved_names"
SERVER_KEYS = (LABEL_FILE_KEY, SAVED_LABEL_KEY, SAVED_NAMES_KEY)
"""Set by the server alone: paths of label maps, and the names of the segments of the saved one."""
SERVER_KEYS_BY_SOURCE = {"label": SAVED_LABEL_KEY, "upload": LABEL_FILE_KEY}
DEFAULT_READ_TAG = "final"
LABEL_FILE_IGNORED = answer_warning(
    "unused-file",
    "The mask that came with the request had no effect, because neither 'start_from' nor 'protected' is 'upload'.",
)

_OPTION_KEYS = (
    *("threshold", "device", "result_extension", "result_compress", "result_crop", "refine", "stop_at_warnings"),
    *("start_from", "start_value", "protected", "protected_except", "read_tag"),
)
_MAX_VALUE = 65535
_MAX_NAMED = 5


class OptionError(PromptError):
    """An option of a request that cannot be used, with what is valid."""


@dataclass(frozen=True)
class Request:
    """A request, read.

    Attributes:
        image: path of the image.
        prompts: values by the keys of `lib.prompts.prompt.Prompt`, not compared with the image yet.
        options: threshold and refinement.
        device: ``cpu`` or ``cuda:N``.
        result_extension: of the mask's file, one of `RESULT_EXTENSIONS`.
        result_compress: whether a .nrrd file is compressed.
        result_crop: whether the file holds the box around the mask alone.
        start_from: where the mask prompt comes from, one of `SOURCES`.
        start_value: value of the structure in that label map; None where the server is to find out.
        protected: where the label map of protected segments comes from, one of `SOURCES`.
        protected_except: value in it that is not protected; None where the server is to find out.
        read_tag: tag of the saved label.
        stop_at_warnings: whether a mask that would mislead is refused, for a viewer that shows no warnings.
        counts_right_handed: whether slices count from the other end where the image's axes are left-handed.
        uploaded_label, saved_label: paths of label maps.
        saved_names: of the segments of the saved label, in the order of their values.
        warnings: what had no effect.
    """

    image: Any
    prompts: Mapping[str, Any]
    options: Options
    device: str
    result_extension: str
    result_compress: bool
    result_crop: bool
    start_from: str
    start_value: int | None
    protected: str
    protected_except: int | None
    read_tag: str
    stop_at_warnings: bool = False
    counts_right_handed: bool = False
    uploaded_label: str | None = None
    saved_label: str | None = None
    saved_names: tuple[str, ...] = ()
    warnings: tuple[str, ...] = field(default=())

    @classmethod
    def read(cls, request: Mapping[str, Any], label: str) -> Self:
        """The request of an infer task, or of a record.

        Args:
            request: from the client, by way of MONAI Label; or as `to_json` writes it.
            label: name of the structure that the task segments.

        Raises:
            OptionError: a value of the wrong kind or out of range.
            DeviceError: a device that is not here.
            ClickError: clicks that are not for this task, or in no list.
        """
        unknown = [key for key in request if key not in _known_keys(label)]
        prompts = _read_prompts(request, label, unknown)
        threshold = _read_threshold(request.get("threshold"))
        device = read_device(request.get("device"))
        extension = _read_extension(request.get("result_extension"))
        compress, crop, refine, stop = (
            _read_flag(key, request.get(key))
            for key in ("result_compress", "result_crop", "refine", "stop_at_warnings")
        )
        source = _read_source("start_from", request.get("start_from"))
        start_value = _read_value("start_value", request.get("start_value"), least=1)
        protected = _read_source("protected", request.get("protected"))
        return cls(
            image=request.get("image"),
            prompts=prompts,
            options=Options(threshold, refine),
            device=device,
            result_extension=extension,
            result_compress=compress,
            result_crop=crop,
            start_from=_effective_start(request, source, protected),
            start_value=start_value,
            protected=protected,
            protected_except=_read_value("protected_except", request.get("protected_except"), least=0),
            read_tag=_read_tag(request.get("read_tag")),
            stop_at_warnings=stop,
            counts_right_handed=slicer.counts_right_handed(request),
            uploaded_label=request.get(LABEL_FILE_KEY),
            saved_label=request.get(SAVED_LABEL_KEY),
            saved_names=tuple(request.get(SAVED_NAMES_KEY) or ()),
            warnings=(*_warnings(request, unknown), *_unused_file(request, source, protected)),
        )

    def to_json(self) -> dict[str, Any]:
        """What a record keeps: all that the mask depends on, nothing that names an image or a person."""
        return {
            **self.prompts,
            "threshold": self.options.threshold,
            "device": self.device,
            "result_extension": self.result_extension,
            "refine": self.options.refine,
            "start_from": self.start_from,
            "start_value": self.start_value,
            "protected": self.protected,
            "protected_except": self.protected_except,
            # Masks are 0 / 1; OHIF copies bytes and knows no other type.
            "result_dtype": "uint8",
        }


def _known_keys(label: str) -> set[str]:
    prompts = {key for kind in prompt_kinds().values() for key in kind.keys}
    sent = {key for viewer in viewers() for key in (*viewer.KEYS, *viewer.IGNORED)}
    return {label, *prompts, *sent, *_OPTION_KEYS, *SERVER_KEYS}


def _read_prompts(request: Mapping[str, Any], label: str, unknown: Collection[str]) -> dict[str, Any]:
    """By canonical key, whichever way the viewer sent them."""
    for key in unknown:
        if _holds_clicks(request[key]):
            raise clicks_of_another_label(key, label)
    canonical = {key: request[key] for kind in prompt_kinds().values() for key in kind.keys if key in request}
    sent = [viewer.read(request, label) for viewer in viewers()]
    for key in ("foreground", "background"):
        given = {name: clicks for each in sent for name, clicks in each.get(key, {}).items() if clicks}
        canonical[key] = _the_one_list(given)
    canonical["box"] = _the_one_box({name: box for each in sent for name, box in each.get("box", {}).items()})
    for key in ("start_from", "start_value"):
        canonical.pop(key, None)
    return canonical


def _the_one_list(given: Mapping[str, list[Any]]) -> list[Any]:
    if not given:
        return []
    (first, clicks), *others = given.items()
    for name, other in others:
        if other != clicks:
            raise ClickError(f"Different clicks were sent as {short(first)} and as {short(name)}; send them once.")
    return clicks


def _the_one_box(sent: Mapping[str, Any]) -> Any:
    given = [box for box in sent.values() if box not in (None, "", [])]
    if any(is_nested_beyond(box, 4) for box in given):
        raise OptionError("The box is nested too deeply; two corner voxels [[i, j, k], [i, j, k]] are expected.")
    if len(given) == 2 and given[0] != given[1]:
        raise OptionError("Different boxes were sent as 'box' and as 'roi'; send one of them.")
    return given[0] if given else None


def _holds_clicks(value: Any) -> bool:
    """Whether a key nobody knows holds coordinates: a list of at least one list of two to four numbers."""
    try:
        clicks = read_list("", value)
    except ClickError:
        return False
    return bool(clicks) and all(
        isinstance(click, list | tuple)
        and 2 <= len(click) <= 4
        and all(isinstance(part, int | float) and not isinstance(part, bool) for part in click)
        for click in clicks
    )


def _read_threshold(value: object) -> float:
    """A probability within `THRESHOLDS`; near 0 and 1 every or no voxel of the region would belong to the mask."""
    if _is_emptied(value):
        return DEFAULT_THRESHOLD
    number = _as_number(value)
    low, high = THRESHOLDS
    if not low <= number <= high:
        raise OptionError(f"threshold is {short(value)}; a number between {low:g} and {high:g} is needed.")
    return number


def _is_emptied(value: object) -> bool:
    """Whether a number is absent, or what a viewer sends for a field the user emptied: blank text, or 0 (Slicer)."""
    if isinstance(value, str):
        return not value.strip()
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool) and value == 0)


def _as_number(value: object) -> float:
    """NaN for what is none."""
    try:
        return math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return math.nan


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


def _read_source(name: str, value: object) -> str:
    if value is None or value == "":
        return SOURCES[0]
    if not isinstance(value, str) or value not in SOURCES:
        raise OptionError(
            f"{name} is {short(value)}; choose from: {', '.join(SOURCES)}. 'label' is the saved label of the image, "
            "'upload' the mask that comes as the part 'label' of the form."
        )
    return value


def _read_value(name: str, value: object, least: int) -> int | None:
    """A value of a label map, or None where none is given."""
    if value is None or value == "":
        return None
    number = _as_number(value)
    if not least <= number <= _MAX_VALUE or number != int(number):
        raise OptionError(f"{name} is {short(value)}; a whole number from {least} to {_MAX_VALUE} is needed.")
    return int(number)


def _read_tag(value: object) -> str:
    """The tag of the saved label; that there is one is the host's to see."""
    if value is None or value == "":
        return DEFAULT_READ_TAG
    if not isinstance(value, str):
        raise OptionError(f"read_tag is {short(value)}; the tag of a saved label is needed, such as 'final'.")
    return value


def _effective_start(request: Mapping[str, Any], start_from: str, protected: str) -> str:
    """A mask that was sent along without a word is one to start from."""
    is_open = request.get("start_from") in (None, "") and protected != "upload"
    return "upload" if request.get(LABEL_FILE_KEY) and is_open else start_from


def _unused_file(request: Mapping[str, Any], start_from: str, protected: str) -> list[str]:
    is_used = "upload" in (_effective_start(request, start_from, protected), protected)
    return [LABEL_FILE_IGNORED] if request.get(LABEL_FILE_KEY) and not is_used else []


def _warnings(request: Mapping[str, Any], unknown: list[str]) -> list[str]:
    warnings = []
    threshold = request.get("threshold")
    if threshold is not None and _is_emptied(threshold):
        warnings.append(answer_warning("empty-threshold", f"threshold was empty or 0; {DEFAULT_THRESHOLD} was used."))
    if unknown:
        named = ", ".join(short(key) for key in unknown[:_MAX_NAMED])
        more = f" and {len(unknown) - _MAX_NAMED} more" if len(unknown) > _MAX_NAMED else ""
        warnings.append(answer_warning("unknown-keys", f"Unknown keys had no effect: {named}{more}."))
    return warnings
