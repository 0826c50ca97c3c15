"""Patches: ``params`` of ``/infer`` that are no JSON object end in status 500, and may name another image or model.

MONAI Label 0.8.5 reads them without a check (``monailabel/endpoints/infer.py:165``), takes the last of equal keys, lets
``image`` and ``model`` override the address, and copies and prints whatever depth they have. We know of no upstream
issue.
"""

from typing import Any

from fastapi import HTTPException

from lib.host.json_object import MAX_CHARACTERS as MAX_PARAMS_BYTES
from lib.host.json_object import read_object
from lib.host.patches.version_guard import check_host_version

__all__ = ["MAX_PARAMS_BYTES", "read_params"]

_EXPECTED = 'A JSON object is expected, such as {"foreground": [[i, j, k]]}.'


def read_params(text: str, *, model: str, image: str) -> dict[str, Any]:
    """``params`` of a request.

    Args:
        text: as sent; may be empty.
        model: of the address.
        image: of the address.

    Returns:
        Them, without ``model`` and ``image``.

    Raises:
        HTTPException: 413 for too many, 422 for all else.
    """
    check_host_version(__name__)
    params = read_object(text, "params", _EXPECTED)
    for key, address in (("model", model), ("image", image)):
        if params.pop(key, address) != address:
            raise HTTPException(
                422, f"'params' names another {key} than the address of the request; name it in the address alone."
            )
    return params
