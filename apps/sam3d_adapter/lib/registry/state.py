"""Which version is served, and how it came to that."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from lib.registry.errors import DamagedFile
from lib.registry.version import SHIPPED, is_id

PUBLISHED, ROLLED_BACK, REFUSED, PRUNED = ACTIONS = ("published", "rolled back", "refused", "pruned")


@dataclasses.dataclass(frozen=True)
class Event:
    """One thing that was done.

    Attributes:
        action: one of `ACTIONS`.
        version: which it was done to; of a rollback, the one that is served since.
        at: ISO 8601, UTC.
        by: who or what did it.
        reason: why; may be empty.
        facts: of a version that was removed, what its version.json said.
    """

    action: str
    version: str
    at: str
    by: str
    reason: str = ""
    facts: Mapping[str, Any] | None = None


@dataclasses.dataclass(frozen=True)
class State:
    """Content of ``served.json``, and of a line of ``history.jsonl``: what is in force after an event.

    Attributes:
        seq: number of the event, from 1 on; 0 where nothing was ever done.
        served: id of the version that is served.
        best: id of the best version ever published; None where there is none but the shipped one.
        trail: what was served before, the last one at the end; what rollbacks go back along.
        event: that led to this.
    """

    seq: int = 0
    served: str = SHIPPED
    best: str | None = None
    trail: tuple[str, ...] = ()
    event: Event | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "State":
        """As `to_dict` made them.

        Raises:
            DamagedFile: a value is missing, unknown or of another kind.
        """
        try:
            event = Event(**values["event"])
            state = cls(**{**values, "trail": tuple(values["trail"]), "event": event})
        except (TypeError, KeyError) as error:
            raise DamagedFile(f"served.json lacks or holds another key than expected ({error}).") from error
        texts = (event.version, event.at, event.by, event.reason)
        is_right = (
            isinstance(state.seq, int)
            and state.seq > 0
            and all(name == SHIPPED or is_id(name) for name in (state.served, *state.trail))
            and (state.best is None or is_id(state.best))
            and event.action in ACTIONS
            and all(isinstance(text, str) for text in texts)
            and (event.facts is None or isinstance(event.facts, dict))
        )
        if not is_right:
            raise DamagedFile("served.json holds a value of the wrong kind: it is damaged.")
        return state
