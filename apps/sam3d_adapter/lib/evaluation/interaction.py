"""One object, clicked on up to the last click, whatever the task answers."""

import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from lib.evaluation import metrics
from lib.evaluation.image_free_baselines import BallPainter
from lib.evaluation.simulated_user import MAX_CLICKS, Mask, SimulatedClick, SimulatedUser, clicks_at_once

TIMEOUT_S = 90.0


class RequestTimeout(Exception):
    """A request that took too long."""


@dataclass(frozen=True)
class Answer:
    """What a task gave for the clicks so far.

    Attributes:
        mask: on the image's own grid, (i, j, k).
        encodes: how often the image encoder ran.
        encode_ms: time of that, ms.
        click_ms: from cached features to the mask on the image's grid, ms.
        obeyed_by_network: for each click, whether the network itself gave it its label, before anything was enforced;
            None where the task does not tell.
        warned: codes of what the answer warns of (`lib.answer_warnings.CODES`).
        expected_dice: as if the network's own probabilities were right; None where the task gives none.
    """

    mask: np.ndarray
    encodes: int = 0
    encode_ms: float = 0.0
    click_ms: float = 0.0
    obeyed_by_network: Sequence[bool] | None = None
    warned: Sequence[str] = ()
    expected_dice: float | None = None


class Task(Protocol):
    """What is evaluated."""

    def __call__(self, image: Path, clicks: Sequence[SimulatedClick]) -> Answer:
        """The answer to a whole interaction, from its first click on; any exception counts as a failed request."""


@dataclass
class Trace:
    """An interaction as it grew, one entry for each step.

    Attributes:
        clicks: ``step`` and click.
        withdrawn: clicks that were taken back; see ``standing``.
        obeyed: share of the clicks so far whose voxel has the asked label in the answer.
        obeyed_before: the same of the network alone.
        warned: codes of each answer's warnings.
        expected_dice: of each answer, by the network itself; None also where a request failed.
        far_change: of each further click; see `metrics.far_change`. None also where no answer came before or now.
    """

    clicks: list[tuple[int, SimulatedClick]] = field(default_factory=list)
    withdrawn: int = 0
    dice: list[float] = field(default_factory=list)
    nsd2: list[float] = field(default_factory=list)
    nsd5: list[float] = field(default_factory=list)
    failed: list[bool] = field(default_factory=list)
    errors: list[str | None] = field(default_factory=list)
    obeyed: list[float] = field(default_factory=list)
    obeyed_before: list[float] = field(default_factory=list)
    warned: list[list[str]] = field(default_factory=list)
    expected_dice: list[float | None] = field(default_factory=list)
    far_change: list[float | None] = field(default_factory=list)
    encodes: list[int] = field(default_factory=list)
    encode_ms: list[float | None] = field(default_factory=list)
    click_ms: list[float | None] = field(default_factory=list)
    request_ms: list[float | None] = field(default_factory=list)

    def repeat(self) -> None:
        """A step without click, because the mask equals the truth: scores as before, no time."""
        for scores in (self.dice, self.nsd2, self.nsd5, self.obeyed, self.obeyed_before):
            scores.append(scores[-1])
        for unknown in (self.far_change, self.encode_ms, self.click_ms, self.request_ms):
            unknown.append(None)
        self.warned.append(list(self.warned[-1]))
        self.expected_dice.append(self.expected_dice[-1])
        self.failed.append(False)
        self.errors.append(None)
        self.encodes.append(0)


def play_interaction(
    task: Task,
    image: Path,
    truth: Mask,
    spacing: Sequence[float],
    user: SimulatedUser,
    steps: int,
    *,
    timeout_s: float = TIMEOUT_S,
) -> Trace:
    """Clicks and corrects; never raises for what the task does.

    Args:
        task: is given all clicks so far at every step.
        image: the file it segments.
        truth: (i, j, k) bool.
        spacing: mm along i, j, k.
        user: who clicks.
        steps: number of requests.
        timeout_s: a request that takes longer has failed.
    """
    trace = Trace()
    mask: Mask = np.zeros_like(truth)
    given = user.first_clicks()
    stand: list[SimulatedClick] = []
    for step in range(1, steps + 1):
        if step > 1:
            click = user.correct(mask, step)
            given = [] if click is None else [click]
        if not given:
            trace.repeat()
            continue
        trace.clicks += [(step, click) for click in given]
        stood, stand = stand, standing([click for _, click in trace.clicks])
        trace.withdrawn = len(trace.clicks) - len(stand)
        began = time.perf_counter()
        answer, error = _ask(task, image, stand, truth.shape, timeout_s)
        trace.request_ms.append((time.perf_counter() - began) * 1000)
        before, mask = mask, np.asarray(answer.mask, dtype=bool)
        trace.failed.append(error is not None)
        trace.errors.append(error)
        trace.warned.append(list(answer.warned))
        trace.expected_dice.append(answer.expected_dice)
        trace.encodes.append(answer.encodes)
        trace.encode_ms.append(answer.encode_ms if answer.encodes else None)
        trace.click_ms.append(None if error else answer.click_ms)
        obeyed = metrics.obeyed(mask, stand)
        by_network = answer.obeyed_by_network if answer.obeyed_by_network is not None else obeyed
        trace.obeyed.append(float(np.mean(obeyed)))
        trace.obeyed_before.append(float(np.mean(by_network)))
        answered = step > 1 and not any(trace.failed[-2:])
        moved = [click for some, others in ((stand, stood), (stood, stand)) for click in some if click not in others]
        trace.far_change.append(metrics.far_change(before, mask, moved, spacing) if answered else None)
        if step > 1 and np.array_equal(mask, before):
            scores = [trace.dice[-1], trace.nsd2[-1], trace.nsd5[-1]]
        else:
            scores = [metrics.dice(mask, truth), *metrics.surface_dice(mask, truth, spacing)]
        for kept, score in zip((trace.dice, trace.nsd2, trace.nsd5), scores, strict=True):
            kept.append(score)
    return trace


def standing(clicks: Sequence[SimulatedClick]) -> list[SimulatedClick]:
    """The clicks that are sent: of two of opposite signs in one voxel, the later.

    Only a hand that trembles puts them there, and the task refuses both together and asks to take one back.
    """
    last = {click.ijk: click.positive for click in clicks}
    return [click for click in clicks if last[click.ijk] == click.positive]


def ball_interaction(
    truth: Mask, spacing: Sequence[float], radii_mm: tuple[float, float], user: SimulatedUser, steps: int
) -> list[float]:
    """Dice after each click of whoever paints a ball around it, clicked on as any task is."""
    painter = BallPainter(truth.shape, spacing, radii_mm)
    mask = painter.paint(user.first_clicks())
    scores = [metrics.dice(mask, truth)]
    for step in range(2, steps + 1):
        click = user.correct(mask, step)
        mask = painter.paint([click] if click is not None else [])
        scores.append(metrics.dice(mask, truth))
    return scores


def steps_of(mode: str, clicks: int = MAX_CLICKS) -> int:
    """Number of requests of a mode: as many as clicks, or one."""
    return clicks if clicks_at_once(mode) is None else 1


def _ask(
    task: Task, image: Path, clicks: Sequence[SimulatedClick], shape: tuple[int, ...], timeout_s: float
) -> tuple[Answer, str | None]:
    """The answer, or an empty mask and why."""
    began = time.perf_counter()
    try:
        with _time_limit(timeout_s):
            answer = task(image, clicks)
        problem = _problem(answer.mask, shape, time.perf_counter() - began, timeout_s)
    # Broad: whatever goes wrong in a task is a failed request of that task, and the next case goes on.
    except Exception as error:
        problem = str(getattr(error, "detail", "") or error or type(error).__name__)
    if problem is None:
        return answer, None
    return Answer(np.zeros(shape, dtype=bool)), problem


def _problem(mask: np.ndarray, shape: tuple[int, ...], seconds: float, timeout_s: float) -> str | None:
    if seconds > timeout_s:
        return f"The request took {seconds:.0f} s; the limit is {timeout_s:g} s."
    if mask.shape != shape:
        return f"The mask has the shape {mask.shape}; the image's is {shape}."
    if mask.dtype.kind == "f" and not np.isfinite(mask).all():
        return "The mask holds values that are not finite."
    return None


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Interrupts what runs too long, as soon as Python runs again; only the main thread can be interrupted."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def interrupt(*_: Any) -> None:
        raise RequestTimeout(f"The request took longer than {seconds:g} s.")

    began = time.monotonic()
    handler = signal.signal(signal.SIGALRM, interrupt)
    left, _ = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if left:  # somebody else's alarm goes on
            signal.setitimer(signal.ITIMER_REAL, max(left - (time.monotonic() - began), 1e-3))
