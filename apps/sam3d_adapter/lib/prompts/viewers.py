"""Where viewers put their clicks in a request -> the two lists ``foreground`` and ``background``.

A request names its foreground clicks once: as ``foreground`` (OHIF, Slicer and MITK for deepgrow), under the name of
the label (deepedit), or as ``points`` with ``point_labels`` (vista3d).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lib.prompts.click import ClickError, read_list, short

CLICK_KEYS = ("foreground", "background", "points", "point_labels")
"""Beside these, the name of the task's label."""

_SIGNS = {0: "background", 1: "foreground"}


@dataclass(frozen=True)
class Prompts:
    """Clicks of one request, their coordinates not looked at yet.

    Attributes:
        foreground: on the structure.
        background: beside it.
    """

    foreground: list[Any]
    background: list[Any]


def read_prompts(request: Mapping[str, Any], label: str, other_keys: Iterable[str] = ()) -> Prompts:
    """Finds the clicks, whichever way they were sent.

    Args:
        request: from the client.
        label: name of the structure the task segments.
        other_keys: of the request that are neither click keys nor options; clicks under one of them are meant for
            another structure.

    Raises:
        ClickError: clicks for another structure, two lists that contradict one another, points without their labels.
    """
    for key in other_keys:
        if _holds_clicks(request[key]):
            raise _other_label(key, label)
    points = _read_points(request)
    foreground = {
        "foreground": _read_foreground(request.get("foreground"), label),
        "points": points["foreground"],
        label: read_list(label, request.get(label)) if label not in CLICK_KEYS else [],
    }
    background = {"background": read_list("background", request.get("background")), "points": points["background"]}
    return Prompts(_the_one(foreground), _the_one(background))


def _read_foreground(value: Any, label: str) -> list[Any]:
    if not isinstance(value, Mapping):
        return read_list("foreground", value)
    for key, clicks in value.items():
        if key != label and clicks:
            raise _other_label(key, label)
    return read_list(label, value.get(label))


def _read_points(request: Mapping[str, Any]) -> dict[str, list[Any]]:
    points, labels = (read_list(key, request.get(key)) for key in ("points", "point_labels"))
    if len(points) != len(labels):
        raise ClickError(
            f"{len(points)} 'points' and {len(labels)} 'point_labels' were sent; each point needs one label, "
            "1 (foreground) or 0 (background)."
        )
    split: dict[str, list[Any]] = {"foreground": [], "background": []}
    for number, (point, sign) in enumerate(zip(points, labels, strict=True), start=1):
        if isinstance(sign, bool) or not isinstance(sign, int | float) or sign not in _SIGNS:
            raise ClickError(
                f"Label {number} of 'point_labels' is {short(sign)}; 1 (foreground) or 0 (background) is expected."
            )
        split[_SIGNS[int(sign)]].append(point)
    return split


def _the_one(lists: Mapping[str, list[Any]]) -> list[Any]:
    given = {key: clicks for key, clicks in lists.items() if clicks}
    if not given:
        return []
    (first, clicks), *others = given.items()
    for key, other in others:
        if other != clicks:
            raise ClickError(f"Different clicks were sent as {short(first)} and as {short(key)}; send them once.")
    return clicks


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


def _other_label(key: Any, label: str) -> ClickError:
    return ClickError(
        f"Clicks for {short(key)} were sent, but this task segments {short(label)} only. Select that label, or choose "
        "the model of the other structure."
    )
