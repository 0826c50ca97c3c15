"""Groups recorded answers into interactions: the order of the clicks, and the mask after each."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import zip_longest
from typing import Any

from lib.prompts.click import Click
from lib.prompts.reading import ClickError

MAX_IDLE_S = 120.0
"""A longer pause counts as this: the user was doing something else."""


@dataclass(frozen=True)
class Step:
    """One answer.

    Attributes:
        time: seconds since 1970.
        clicks: of the request, in the order they were set.
        mask_hash: of the answer, as `lib.volumes.mask_hash` has it.
        mask_voxels: of the answer.
        model_version: sha256 of the weights.
        record_id: of the audit log.
    """

    time: float
    clicks: tuple[Click, ...]
    mask_hash: str
    mask_voxels: int
    model_version: str
    record_id: str


@dataclass(frozen=True)
class RecordedInteraction:
    """The answers that led to one mask; at least one."""

    steps: tuple[Step, ...]

    @property
    def last(self) -> Step:
        """The final answer."""
        return self.steps[-1]

    def until(self, number: int) -> "RecordedInteraction":
        """The steps up to ``number``, counted from 0."""
        return RecordedInteraction(self.steps[: number + 1])

    def until_time(self, time: float) -> "RecordedInteraction":
        """The steps up to ``time``, which is not before the first one."""
        return RecordedInteraction(tuple(step for step in self.steps if step.time <= time))

    def seconds(self, accepted_at: float | None = None) -> float:
        """Time from the first to the last answer, or to acceptance; each pause counts at most `MAX_IDLE_S`."""
        times = [step.time for step in self.steps] + ([] if accepted_at is None else [accepted_at])
        pauses = (later - earlier for earlier, later in zip(times, times[1:], strict=False))
        return sum(min(max(pause, 0.0), MAX_IDLE_S) for pause in pauses)


def interactions(records: Iterable[Mapping[str, Any]], shape: Sequence[int]) -> list[RecordedInteraction]:
    """Groups the records of one image and one preset.

    Viewers send all clicks with each request, foreground and background separately. A click that the previous request
    lacks was added since; a missing one was undone. A request that shares no click with any interaction of the same
    user starts a new one: the viewer was reset, or the user moved on. Users without a name may alternate, so a request
    continues the interaction with which it shares the most clicks.

    Args:
        records: in any order; those with clicks outside of an image of this shape are skipped.
        shape: of the image, voxels along i, j, k.

    Returns:
        In the order of their first answer.
    """
    read = [(record.get("user"), step) for record in records if (step := _step(record, shape)) is not None]
    open_: list[tuple[Any, list[Step]]] = []
    for user, step in sorted(read, key=lambda entry: entry[1].time):
        shared = [_shared(steps[-1], step) if user == other else 0 for other, steps in open_]
        if not any(shared):
            open_.append((user, [step]))
            continue
        # Of equal ones, the most recent.
        best = max(range(len(open_)), key=lambda n: (shared[n], open_[n][1][-1].time))
        open_[best][1].append(_continued(open_[best][1][-1], step))
    return [RecordedInteraction(tuple(steps)) for _, steps in open_]


def _continued(before: Step, step: Step) -> Step:
    """The step with its clicks in order, as far as the previous step shows it."""
    there = set(step.clicks)
    kept = tuple(click for click in before.clicks if click in there)
    # Of several clicks added at once, the order across the two lists is not recorded.
    new = in_order(tuple(click for click in step.clicks if click not in set(kept)))
    return Step(**{**vars(step), "clicks": kept + new})


def _shared(before: Step, step: Step) -> int:
    return len(set(before.clicks) & set(step.clicks))


def _step(record: Mapping[str, Any], shape: Sequence[int]) -> Step | None:
    try:
        clicks = in_order(Click.read(dict(record["request"]), shape))
        if not any(click.is_foreground for click in clicks):
            return None
        return Step(
            time=datetime.fromisoformat(record["time"]).timestamp(),
            clicks=tuple(dict.fromkeys(clicks)),
            mask_hash=str(record["mask_hash"]),
            mask_voxels=int(record["mask_voxels"]),
            model_version=str(record["model_version"]),
            record_id=str(record["id"]),
        )
    except (ClickError, KeyError, TypeError, ValueError):
        return None


def in_order(clicks: Sequence[Click]) -> tuple[Click, ...]:
    """Clicks that were added at once, alternating: first foreground, first background, second foreground, ..."""
    foreground = [click for click in clicks if click.is_foreground]
    background = [click for click in clicks if not click.is_foreground]
    return tuple(click for pair in zip_longest(foreground, background) for click in pair if click is not None)
