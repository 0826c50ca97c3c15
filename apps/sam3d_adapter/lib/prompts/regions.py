"""Keys of a request that say more than clicks: a box, a mask to start from, segments that are not to be touched."""

from collections.abc import Mapping
from typing import Any

from lib.prompts.click import is_nested_beyond, short

BOX_KEYS = ("box", "roi")
"""Two names of one thing: ``roi`` is what 3D Slicer calls it."""
SOURCES = ("none", "label", "upload")
LABEL_FILE_KEY = "uploaded_label"
SAVED_LABEL_KEY, SAVED_NAMES_KEY = "saved_label", "saved_names"
HOST_LABEL_KEYS = (LABEL_FILE_KEY, SAVED_LABEL_KEY, SAVED_NAMES_KEY)
"""Set by ``lib.host.label_maps`` alone: paths of label maps, and names of the segments of the saved one."""
HOST_LABEL_KEYS_BY_SOURCE = {"label": SAVED_LABEL_KEY, "upload": LABEL_FILE_KEY}
DEFAULT_READ_TAG = "final"
_MAX_VALUE = 65535

LABEL_FILE_IGNORED = (
    "The mask that came with the request had no effect, because neither 'start_from' nor 'protected' is 'upload'."
)


class RegionError(ValueError):
    """A box or a choice of a mask that cannot be used, with what is valid."""


def read_source(name: str, value: object) -> str:
    """One of `SOURCES`.

    Raises:
        RegionError: something else.
    """
    if value is None or value == "":
        return SOURCES[0]
    if not isinstance(value, str) or value not in SOURCES:
        raise RegionError(
            f"{name} is {short(value)}; choose from: {', '.join(SOURCES)}. 'label' is the saved label of the image, "
            "'upload' the mask that comes as the part 'label' of the form."
        )
    return value


def read_value(name: str, value: object, least: int) -> int | None:
    """A value of a label map, or None where none is given.

    Raises:
        RegionError: no whole number in range.
    """
    if value is None or value == "":
        return None
    try:
        number = None if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = None
    if number is None or not least <= number <= _MAX_VALUE or number != int(number):
        raise RegionError(f"{name} is {short(value)}; a whole number from {least} to {_MAX_VALUE} is needed.")
    return int(number)


def read_tag(value: object) -> str:
    """The tag of the saved label; that there is one is the host's to see.

    Raises:
        RegionError: no text.
    """
    if value is None or value == "":
        return DEFAULT_READ_TAG
    if not isinstance(value, str):
        raise RegionError(f"read_tag is {short(value)}; the tag of a saved label is needed, such as 'final'.")
    return value


def read_box_key(request: Mapping[str, Any]) -> Any:
    """The box of a request, its coordinates not looked at yet; None where there is none.

    Raises:
        RegionError: two different ones, or one too deep to be copied.
    """
    given = [request[key] for key in BOX_KEYS if key in request and request[key] not in (None, "", [])]
    if any(is_nested_beyond(value, 4) for value in given):
        raise RegionError("The box is nested too deeply; two corner voxels [[i, j, k], [i, j, k]] are expected.")
    if len(given) == 2 and given[0] != given[1]:
        raise RegionError("Different boxes were sent as 'box' and as 'roi'; send one of them.")
    return given[0] if given else None


def effective_start(request: Mapping[str, Any], start_from: str, protected: str) -> str:
    """Where the start mask comes from: a mask that was sent along without a word is one to start from."""
    is_open = request.get("start_from") in (None, "") and protected != "upload"
    return "upload" if request.get(LABEL_FILE_KEY) and is_open else start_from


def region_warnings(request: Mapping[str, Any], start_from: str, protected: str) -> list[str]:
    """What had no effect."""
    is_ignored = request.get(LABEL_FILE_KEY) and "upload" not in (start_from, protected)
    return [LABEL_FILE_IGNORED] if is_ignored else []
