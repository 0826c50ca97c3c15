"""OHIF: foreground clicks may come as an object, a list for each label."""

from collections.abc import Mapping
from typing import Any

from lib.prompts.reading import clicks_of_another_label, read_list

KEYS = ("foreground",)
# OHIF sends whatever an earlier dialog left behind.
IGNORED = ("label", "label_prompt", "label_names", "restore_label_idx", "result_dtype")


def read(request: Mapping[str, Any], label: str) -> dict[str, dict[str, Any]]:
    """The clicks of the task's label.

    Raises:
        ClickError: clicks of another label.
    """
    value = request.get("foreground")
    if not isinstance(value, Mapping):
        return {}
    for key, clicks in value.items():
        if key != label and clicks:
            raise clicks_of_another_label(key, label)
    return {"foreground": {"foreground": read_list(label, value.get(label))}}
