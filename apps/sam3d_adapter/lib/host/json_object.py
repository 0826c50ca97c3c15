"""What a client sends as the text of a JSON object, read strictly: shared by the patches of several endpoints."""

import json
from collections.abc import Sequence
from typing import Any

from fastapi import HTTPException

from lib.prompts.reading import is_nested_beyond, short

MAX_CHARACTERS = 2**18
"""256 KiB: a thousand clicks take a tenth of it."""
_MAX_DEPTH = 16


def read_object(text: str, name: str, expected: str = "A JSON object is expected.") -> dict[str, Any]:
    """The object of a form's field.

    Args:
        text: as sent; may be empty.
        name: of the field, for messages.
        expected: a sentence, for messages.

    Raises:
        HTTPException: 413 for too much, 422 for all else.
    """
    if len(text) > MAX_CHARACTERS:
        raise HTTPException(
            413, f"'{name}' has {len(text)} characters; at most {MAX_CHARACTERS} are read. Send fewer clicks or values."
        )
    try:
        found = json.loads(text, object_pairs_hook=lambda pairs: _once(pairs, name)) if text.strip() else {}
    except RecursionError as error:
        raise _too_deep(name, expected) from error
    except ValueError as error:
        raise HTTPException(422, f"'{name}' is {short(text)}, which is not JSON ({error}). {expected}") from error
    if not isinstance(found, dict):
        raise HTTPException(422, f"'{name}' is {short(found)}, not an object. {expected}")
    if is_nested_beyond(found, _MAX_DEPTH):
        raise _too_deep(name, expected)
    return found


def require_storable(value: Any, name: str) -> str:
    """Passes if a value can be kept by the server, and sent to clients later on.

    Python's json takes NaN, infinity and halves of characters, and writes them; what reads the index of the data store
    afterwards, or sends it, fails: one such value stops ``GET /datastore/`` for all, or the next start of the server.

    Args:
        value: as read from JSON.
        name: of what it came in, for messages.

    Returns:
        It as JSON.

    Raises:
        HTTPException: 422.
    """
    if is_nested_beyond(value, _MAX_DEPTH):
        raise _too_deep(name, "A flat JSON object is expected.")
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
        text.encode()
    except ValueError as error:
        raise HTTPException(
            422, f"'{name}' holds a number that is not finite or a text that is none ({short(value)}); JSON as its "
            "standard has it is expected. Leave that value out."
        ) from error  # fmt: skip
    return text


def _once(pairs: Sequence[tuple[str, Any]], name: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise HTTPException(422, f"'{name}' has the key {short(key)} twice; which of the two counts? Send it once.")
        found[key] = value
    return found


def _too_deep(name: str, expected: str) -> HTTPException:
    return HTTPException(422, f"'{name}' is nested more than {_MAX_DEPTH} deep. {expected}")
