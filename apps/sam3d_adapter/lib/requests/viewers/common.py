"""What OHIF, 3D Slicer, MITK and scripts have in common: MONAI Label's keys for clicks, and a box."""

from collections.abc import Mapping
from typing import Any

from lib.prompts.reading import read_list

KEYS = ("foreground", "background", "box")
# Used by the host on the way to the task or back from it.
IGNORED = (
    *("model", "image", "description", "session", "save_label", "label_tag", "label_info", "client_id"),
    "series_hash",
)


def read(request: Mapping[str, Any], label: str) -> dict[str, dict[str, Any]]:
    """Lists of clicks and the box, not looked at yet; foreground clicks as an object are OHIF's."""
    foreground = request.get("foreground")
    return {
        "foreground": {"foreground": [] if isinstance(foreground, Mapping) else read_list("foreground", foreground)},
        "background": {"background": read_list("background", request.get("background"))},
        "box": {"box": request.get("box")},
    }
