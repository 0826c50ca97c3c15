"""3D Slicer: a region of interest as ``roi``, and DeepEdit panels that name foreground clicks after the label."""

from collections.abc import Mapping
from typing import Any

from lib.prompts.reading import read_list

KEYS = ("roi",)
# Slicer sends every option of every panel. No state is kept: each request carries all its clicks.
IGNORED = ("label", "slice", "reset_state")


def is_sender(request: Mapping[str, Any]) -> bool:
    """Whether 3D Slicer sent a request: its client adds a name and a type of mask to all, and no other one both."""
    return "client_id" in request and "result_dtype" in request


def read(request: Mapping[str, Any], label: str) -> dict[str, dict[str, Any]]:
    """The region as a box, and the clicks under the label's name unless it is that of a key."""
    clicks = (
        [] if label in ("foreground", "background", "points", "point_labels") else read_list(label, request.get(label))
    )
    return {"foreground": {label: clicks}, "box": {"roi": request.get("roi")}}
