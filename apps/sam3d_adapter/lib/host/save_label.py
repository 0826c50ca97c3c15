"""Mends: ``save_label`` of ``params`` saves a mask for every value that is not empty, "false" included.

MONAI Label 0.8.5 takes it as it comes (``monailabel/interfaces/app.py:311``), though forms of viewers send text. We
know of no upstream issue.
"""

from typing import Any

from fastapi import HTTPException

from lib.host.version_guard import check_host_version
from lib.interaction.click import short

_TEXTS = {"true": True, "1": True, "false": False, "0": False, "": False}


def read_save_label(value: Any) -> bool:
    """Whether the mask is to be saved beside its image.

    Raises:
        HTTPException: 422.
    """
    check_host_version("save_label")
    if value is None or isinstance(value, bool):
        return bool(value)
    text = str(value).strip().lower() if isinstance(value, str | int) else None
    if text not in _TEXTS:
        raise HTTPException(422, f"save_label is {short(value)}; true or false is needed.")
    return _TEXTS[text]
