"""One version of a preset's weights: its id, what is known of it, and the frozen base that it needs."""

import contextlib
import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from lib.registry.errors import DamagedFile, RegistryError

SHIPPED = "shipped"
"""The id of the weights that a preset names itself."""
_ID = re.compile(r"v(\d{4,9})-[0-9a-f]{8}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MOST_NAME = 100


@dataclasses.dataclass(frozen=True)
class Facts:
    """What is stated when a version is added.

    Attributes:
        started_by: person or program that made it.
        parent: the version that training started from; None if that is not here.
        data: hashes of the images and labels it was trained on.
        metrics: what was measured, plain JSON; may be empty.
        files: further files to keep with it, by the name they get.
        origin: of a version made elsewhere: where it comes from, and what was stated there.
    """

    started_by: str
    parent: str | None = SHIPPED
    data: tuple[str, ...] = ()
    metrics: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    files: Mapping[str, Path] = dataclasses.field(default_factory=dict)
    origin: Mapping[str, Any] | None = None


@dataclasses.dataclass(frozen=True)
class Version:
    """One version, as in its ``version.json``; it never changes.

    Attributes:
        id: such as ``v0003-1a2b3c4d``: a number that is never used again for the preset, and the start of ``sha256``.
        preset: name of the preset.
        family: of the network.
        size: of the network.
        parent: id of the version that training started from, ``shipped``, or None if that is not here.
        sha256: of the weights file; what answers call ``model_version``.
        nbytes: of the weights file.
        base_sha256: of the frozen tensors it needs; None for a family without a base.
        created: ISO 8601, UTC.
        started_by: person or program that made it.
        data: hashes of the images and labels it was trained on.
        metrics: what was measured here; empty for an imported version.
        origin: of a version made elsewhere: where it comes from, and what was measured there.
    """

    id: str
    preset: str
    family: str
    size: str
    parent: str | None
    sha256: str
    nbytes: int
    base_sha256: str | None
    created: str
    started_by: str
    data: tuple[str, ...] = ()
    metrics: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    origin: Mapping[str, Any] | None = None

    @property
    def number(self) -> int:
        """The number in the id."""
        return number_of(self.id)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {**dataclasses.asdict(self), "data": list(self.data)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Version":
        """Reads what `to_dict` made.

        Raises:
            DamagedFile: a value is missing, unknown or of another type.
        """
        expected = {field.name for field in dataclasses.fields(cls)}
        if values.keys() != expected:
            raise DamagedFile(f"version.json has the keys {sorted(values)}, expected {sorted(expected)}.")
        texts = [values[key] for key in ("preset", "family", "size", "created", "started_by")]
        is_right = (
            is_id(values["id"])
            and all(isinstance(text, str) for text in texts)
            and is_sha256(values["sha256"])
            and (values["base_sha256"] is None or is_sha256(values["base_sha256"]))
            and (values["parent"] in (None, SHIPPED) or is_id(values["parent"]))
            and isinstance(values["nbytes"], int)
            and isinstance(values["data"], list)
            and all(isinstance(item, str) for item in values["data"])
            and isinstance(values["metrics"], dict)
            and (values["origin"] is None or isinstance(values["origin"], dict))
        )
        if not is_right:
            raise DamagedFile("version.json holds a value of the wrong kind: it is damaged.")
        return cls(**{**values, "data": tuple(values["data"])})


def make_id(number: int, sha256: str) -> str:
    """The id of a version."""
    return f"v{number:04d}-{sha256[:8]}"


def is_id(text: object) -> bool:
    """Whether a text has the form of a version's id."""
    return isinstance(text, str) and _ID.fullmatch(text) is not None


def number_of(version_id: str) -> int:
    """The number in an id; 0 of ``shipped``."""
    found = _ID.fullmatch(version_id)
    return int(found[1]) if found else 0


def require_name(name: str, what: str = "by") -> str:
    """The name of a person or program, without blanks around it.

    Raises:
        RegistryError: it is empty, too long, or not printable.
    """
    stripped = name.strip() if isinstance(name, str) else ""
    if not stripped or len(stripped) > _MOST_NAME or not stripped.isprintable():
        raise RegistryError(
            f"'{what}' is {str(name)[:_MOST_NAME]!r}; the name of who does this is needed, of 1 to {_MOST_NAME} "
            "characters."
        )
    return stripped


def is_sha256(text: object) -> bool:
    """Whether a text has the form of a sha256."""
    return isinstance(text, str) and _SHA256.fullmatch(text) is not None


def base_of(weights: Path) -> str | None:
    """sha256 of the frozen base that a weights file needs, from its header; None for a family without a base.

    Raises:
        RegistryError: the file is no safetensors file, or its base is no sha256.
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
    """sha256 of the app's own base, from the weights that the preset names; None where they do not state it."""
    with contextlib.suppress(RegistryError, OSError):
        return base_of(weights)
    return None
