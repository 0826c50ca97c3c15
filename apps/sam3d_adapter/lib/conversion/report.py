"""What a conversion did with every key, to read and to keep."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lib.files.atomic_write import replacing

NO_LICENCE = (
    "none: the authors of 3DSAM-adapter publish their checkpoints without a licence. For your own use; do not pass "
    "this file on. This project never publishes it."
)
"""Written into every converted file, and said at every conversion."""


@dataclass(frozen=True)
class KeyReport:
    """The keys of one file.

    Attributes:
        source: Name of the file.
        loaded: Key -> what it became and where, e.g. ``"image_encoder.depth_embed, weights"``.
        created: Parameter the file lacks -> the rule that made it.
        ignored: Key -> the reason.
    """

    source: str
    loaded: Mapping[str, str]
    created: Mapping[str, str] = field(default_factory=dict)
    ignored: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, object]:
        """Plain values."""
        return {
            "source": self.source,
            "loaded": dict(self.loaded),
            "created": dict(self.created),
            "ignored": dict(self.ignored),
        }

    def lines(self) -> list[str]:
        """Counts, with each rule and reason once."""
        places = Counter(place.rsplit(", ", 1)[-1] for place in self.loaded.values())
        found = [f"{self.source}:"]
        found += [f"  {count:4d} keys loaded: {place}" for place, count in places.items()]
        found += [f"  {count:4d} created: {rule}" for rule, count in Counter(self.created.values()).items()]
        found += [f"  {count:4d} keys ignored: {reason}" for reason, count in Counter(self.ignored.values()).items()]
        return found


@dataclass(frozen=True)
class Conversion:
    """A finished conversion.

    Attributes:
        preset: Whose files.
        written: What each written file is -> the file.
        kept: The same for what was there already and is right.
        keys: One for each file that was read.
        provenance: As stored in the weights (in the base, where there are no weights).
    """

    preset: str
    written: Mapping[str, Path]
    kept: Mapping[str, Path]
    keys: tuple[KeyReport, ...]
    provenance: Mapping[str, object]

    def text(self) -> str:
        """For the terminal."""
        lines = [line for report in self.keys for line in report.lines()]
        lines += [f"{what} written: {path}" for what, path in self.written.items()]
        lines += [f"{what} was there and fits: {path}" for what, path in self.kept.items()]
        return "\n".join([*lines, f"Licence: {self.provenance['licence']}"])

    def write(self, path: Path) -> None:
        """Keep it, every key spelled out, as JSON; replaced atomically."""
        content = {
            "preset": self.preset,
            "written": {what: file.name for what, file in self.written.items()},
            "kept": {what: file.name for what, file in self.kept.items()},
            "provenance": dict(self.provenance),
            "keys": [report.to_dict() for report in self.keys],
        }
        with replacing(path) as partial:
            partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
