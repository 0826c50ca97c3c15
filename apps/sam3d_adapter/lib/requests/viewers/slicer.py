"""3D Slicer: a region of interest as ``roi``, and DeepEdit panels that name foreground clicks after the label."""

from collections.abc import Mapping
from typing import Any

from lib.prompts.reading import read_list

KEYS = ("roi",)
# Slicer sends every option of every panel. No state is kept: each request carries all its clicks.
IGNORED = ("label", "slice", "reset_state")


# In each of its requests, and together in no other viewer's.
_MARKS = {"client_id": None, "label": None, "result_extension": ".nrrd", "result_dtype": "uint8"}


def counts_right_handed(request: Mapping[str, Any]) -> bool:
    """Whether a request counts voxels along right-handed axes, whatever the file's are: 3D Slicer does, from 5.8 on.

    It reverses the slices of other images when it opens them (https://github.com/Slicer/Slicer/pull/7627).
    """
    return all(key in request and value in (None, request[key]) for key, value in _MARKS.items())


def read(request: Mapping[str, Any], label: str) -> dict[str, dict[str, Any]]:
    """The region as a box, and the clicks under the label's name unless it is that of a key."""
    clicks = (
        [] if label in ("foreground", "background", "points", "point_labels") else read_list(label, request.get(label))
    )
    return {"foreground": {label: clicks}, "box": {"roi": request.get("roi")}}
