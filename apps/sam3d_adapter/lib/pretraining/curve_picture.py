"""The curve of a training as a picture: loss, and Dice after the first and the last click on held-out volumes."""

import json
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from lib.files.atomic_write import replacing

_HELD_OUT = {"dice": ("tab:red", "Dice, one click, held out"), "dice_5": ("tab:blue", "Dice, five clicks, held out")}


def draw_curves(curves: Sequence[Path], out: Path) -> None:
    """Draw trainings that followed one another, each from the weights of the one before, over minutes.

    Args:
        curves: ``<size>_curve.json`` as `lib.training.train.train` writes it, in their order.
        out: PNG file.
    """
    # Not by pyplot, whose state belongs to the main thread and stays when something fails.
    figure = Figure(figsize=(7, 3.5), layout="constrained")
    left = figure.subplots()
    right = left.twinx()
    began, steps = 0.0, 0
    for number, path in enumerate(curves):
        points = json.loads(path.read_text())
        minutes = [began + p["minutes"] for p in points]
        name = None if number else "training loss (Dice + cross-entropy)"
        left.plot(minutes, [p["loss"] for p in points], color="tab:gray", label=name)
        for key, (colour, label) in _HELD_OUT.items():
            if key in points[0]:
                is_last = number == len(curves) - 1
                right.plot(
                    minutes, [p[key] for p in points], color=colour, marker=".", label=label if is_last else None
                )
        if number:
            left.axvline(began, color="black", linewidth=0.6)
        began, steps = minutes[-1], steps + int(points[-1]["step"])
    left.set(xlabel="minutes", ylabel="loss", ylim=(0, None))
    right.set(ylabel="Dice", ylim=(0, 1))
    handles = left.get_legend_handles_labels()[0] + right.get_legend_handles_labels()[0]
    # A box of the paper's colour: the line between two parts of a training runs behind the words.
    left.legend(handles=handles, loc="lower center", facecolor="white", framealpha=1, edgecolor="none", fontsize=8)
    left.set_title(f"{steps} steps")
    with replacing(out) as partial:
        figure.savefig(partial, dpi=110, format="png")
