"""The pictures of the versions page, as base64 of PNG."""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

_LINES = (("dice", "1", "Dice, 1 click", "#c8553d"), ("dice", "5", "Dice, 5 clicks", "#0b6e99"),
          ("nsd2", "5", "outline within 2 mm, 5 clicks", "#5b8c5a"))  # fmt: skip
_CURVES = (("dice", "Dice, 1 click", "#c8553d"), ("dice_5", "Dice, 5 clicks", "#0b6e99"))
_NAMES_SHOWN = 14


class _Version(Protocol):
    @property
    def id(self) -> str: ...

    @property
    def state(self) -> str: ...

    @property
    def scores(self) -> Mapping[str, Any]: ...


def finite(value: object) -> float | None:
    """The number, or None for all that is none."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else None  # type: ignore[arg-type]


def learning_picture(versions: Sequence[_Version]) -> str | None:
    """Scores over versions, with intervals, the served one marked; None where none was measured."""
    figure, axes = _figure(3.3)
    is_empty = True
    for kind, clicks, label, colour in _LINES:
        points = []
        for place, version in enumerate(versions):
            own = version.scores.get("candidate")
            value = getattr(own, kind).get(clicks) or {} if own else {}
            mean, low, high = (finite(value.get(key)) for key in ("mean", "low", "high"))
            if mean is not None:
                points.append((place, mean, mean if low is None else low, mean if high is None else high))
        if points:
            is_empty = False
            places, means, lows, highs = zip(*points, strict=True)
            axes.plot(places, means, marker="o", color=colour, label=label)
            axes.fill_between(places, lows, highs, color=colour, alpha=0.13, linewidth=0)
    if is_empty:
        return None
    for place, version in enumerate(versions):
        if version.state == "served":
            axes.axvline(place, color="#2a7f62", linewidth=7, alpha=0.18, label="answers now")
    step = -(-len(versions) // _NAMES_SHOWN)
    shown = range(0, len(versions), step)
    axes.set_xticks(shown, [_short(versions[place].id) for place in shown], rotation=20, ha="right", fontsize=8)
    axes.set(ylabel="score, 0 to 1", ylim=(0, 1), xlim=(-0.5, len(versions) - 0.5))
    axes.legend(frameon=False, fontsize=8, loc="lower left", ncols=2)
    return _png(figure)


def training_picture(curve: Sequence[Mapping[str, float | None]]) -> str | None:
    """Loss, and Dice where it was measured, over minutes, or over steps where no minutes are known."""
    by = next((key for key in ("minutes", "step", "epoch") if any(finite(p.get(key)) is not None for p in curve)), None)
    if by is None:
        return None
    figure, left = _figure(2.4)
    loss = _series(curve, by, "loss")
    left.plot(*loss, color="#8a949e", marker="." if len(loss[0]) < 2 else None, label="loss")
    left.set(xlabel={"step": "steps", "epoch": "epochs"}.get(by, by), ylabel="loss")
    if loss[1]:
        left.set_ylim(0, max(1e-6, *loss[1]) * 1.08)
    right = left.twinx()
    right.set(ylabel="Dice", ylim=(0, 1))
    drawn = bool(loss[0])
    for key, label, colour in _CURVES:
        places, values = _series(curve, by, key)
        if places:
            right.plot(places, values, color=colour, marker=".", label=label)
            drawn = True
    left.xaxis.set_major_locator(MaxNLocator(integer=by != "minutes"))
    handles = left.get_legend_handles_labels()[0] + right.get_legend_handles_labels()[0]
    right.legend(handles=handles, frameon=False, fontsize=8, loc="lower right")
    return _png(figure) if drawn else None


def _series(curve: Sequence[Mapping[str, float | None]], by: str, key: str) -> tuple[list[float], list[float]]:
    pairs = [(finite(point.get(by)), finite(point.get(key))) for point in curve]
    known = [(place, value) for place, value in pairs if place is not None and value is not None]
    return [place for place, _ in known], [value for _, value in known]


def _figure(height: float) -> tuple[Figure, Axes]:
    # Not by pyplot, whose state belongs to the main thread and stays when something fails.
    figure = Figure(figsize=(9, height), layout="constrained")
    axes = figure.subplots()
    axes.grid(alpha=0.25)
    return figure, axes


def _png(figure: Figure) -> str:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=100)
    return base64.b64encode(file.getvalue()).decode("ascii")


def _short(name: str) -> str:
    # A dollar sign would begin a formula.
    return (name if len(name) <= 18 else f"{name[:17]}…").replace("$", r"\$")
