"""Which frozen base a weights file is bound to, read from its header without torch."""

import contextlib
from pathlib import Path

from safetensors import SafetensorError, safe_open

from lib.registry.errors import RegistryError
from lib.registry.version import is_sha256


def base_of(weights: Path) -> str | None:
    """The base that a weights file names; None of a family without.

    Raises:
        RegistryError: it is no safetensors file, or names a base that is none.
        OSError: it cannot be read.
    """
    try:
        # numpy: reading the header needs no torch.
        with safe_open(weights, framework="numpy") as file:
            base = (file.metadata() or {}).get("base_sha256")
    except (SafetensorError, ValueError) as error:
        raise RegistryError(f"The weights are no readable safetensors file ({error}); nothing was added.") from error
    if base is not None and not is_sha256(base):
        raise RegistryError("The weights name a base that is no sha256; nothing was added.")
    return base


def shipped_base(weights: Path) -> str | None:
    """The base that the app has now, as the weights that the preset names tell it; None where they do not."""
    with contextlib.suppress(RegistryError, OSError):
        return base_of(weights)
    return None
