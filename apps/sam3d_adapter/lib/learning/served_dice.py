"""How good the version is that is served, as far as it was measured here."""

import math
from collections.abc import Mapping
from typing import Any

from lib.registry.state import State
from lib.registry.version import Version
from lib.registry.versions import Versions


class ServedDice:
    """Reads it once for each change of the versions, for viewers ask before every click.

    Args:
        versions: of the preset.
    """

    def __init__(self, versions: Versions) -> None:
        self._versions = versions
        self._read: tuple[tuple[State, list[str]], float | None] | None = None

    def value(self) -> float | None:
        """Mean Dice on the validation cases after the most clicks that were measured; None where nobody knows.

        It is that of the last training that measured the served version, be it as its candidate or to compare with.

        Raises:
            NewerFormat: a later release wrote what is served.
            OSError: the versions cannot be read.
        """
        now = (self._versions.known_state(), self._versions.ids())
        if self._read is None or self._read[0] != now:
            served = now[0].served
            found = (_dice(version, served) for version in reversed(self._versions.versions()))
            self._read = (now, next((dice for dice in found if dice is not None), None))
        return self._read[1]


def _dice(version: Version, served: str) -> float | None:
    """Dice of the served version by the training that made another one, or itself."""
    measured: dict[str, Any] = {**_mapping(version.metrics.get("compared_with")), "candidate": version.id}
    scores = _mapping(version.metrics.get("validation"))
    for role in (role for role, id in measured.items() if id == served):
        by_clicks = {
            key: at for key, at in _mapping(_mapping(scores.get(role)).get("dice_at")).items() if key.isdecimal()
        }
        mean = _mapping(by_clicks.get(max(by_clicks, key=int, default=""))).get("mean")
        if isinstance(mean, int | float) and math.isfinite(mean):
            return float(mean)
    return None


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
