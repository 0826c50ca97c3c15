"""Mends: ``params`` of ``/infer`` that are no JSON object end in status 500, and may name another image or model.

MONAI Label 0.8.5 reads them without a check (``monailabel/endpoints/infer.py:165``), takes the last of equal keys, lets
``image`` and ``model`` override the address, and copies and prints whatever depth they have. We know of no upstream
issue.
"""

import json
from collections.abc import Sequence
from typing import Any

from fastapi import HTTPException

from lib.host.version_guard import check_host_version
from lib.interaction.click import is_nested_beyond, short

MAX_PARAMS_BYTES = 2**18
"""256 KiB: a thousand clicks take a tenth of it."""
_MAX_DEPTH = 16
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
    check_host_version("infer_params")
    if len(text) > MAX_PARAMS_BYTES:
        raise HTTPException(
            413, f"'params' has {len(text)} characters; at most {MAX_PARAMS_BYTES} are read. Send fewer clicks."
        )
    try:
        params = json.loads(text, object_pairs_hook=_object) if text.strip() else {}
    except RecursionError as error:
        raise _too_deep() from error
    except ValueError as error:
        raise HTTPException(422, f"'params' is {short(text)}, which is not JSON ({error}). {_EXPECTED}") from error
    if not isinstance(params, dict):
        raise HTTPException(422, f"'params' is {short(params)}, not an object. {_EXPECTED}")
    if is_nested_beyond(params, _MAX_DEPTH):
        raise _too_deep()
    for key, address in (("model", model), ("image", image)):
        if params.pop(key, address) != address:
            raise HTTPException(
                422, f"'params' names another {key} than the address of the request; name it in the address alone."
            )
    return params


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise HTTPException(422, f"'params' has the key {short(key)} twice; which of the two counts? Send it once.")
        found[key] = value
    return found


def _too_deep() -> HTTPException:
    return HTTPException(422, f"'params' is nested more than {_MAX_DEPTH} deep. {_EXPECTED}")
