"""VISTA-3D panels: clicks of both signs in one list, with a list of their labels."""

from collections.abc import Mapping
from typing import Any

from lib.prompts.reading import ClickError, read_list, short

KEYS = ("points", "point_labels")
IGNORED = ()

_SIGNS = {0: "background", 1: "foreground"}


def read(request: Mapping[str, Any], label: str) -> dict[str, dict[str, Any]]:
    """The clicks of each sign.

    Raises:
        ClickError: not one label of 0 or 1 for each point.
    """
    points, labels = (read_list(key, request.get(key)) for key in KEYS)
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
    return {key: {"points": clicks} for key, clicks in split.items()}
