"""Draw the curve of a training: loss, and Dice after the first and the last click on held-out volumes, over minutes.

python -m benchmarks.training_curve CURVE.json [CURVE.json ...] --out OUT.png

Several curves are those of trainings that followed one another, each from the weights of the one before.
"""

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

FINAL = {"dice": ("tab:red", "Dice, one click, held out"), "dice_5": ("tab:blue", "Dice, five clicks, held out")}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("curves", type=Path, nargs="+", help="<size>_curve.json as lib.learning.pretrain writes it")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    figure, left = plt.subplots(figsize=(7, 3.5), layout="constrained")
    right = left.twinx()
    began, steps = 0.0, 0
    for number, path in enumerate(arguments.curves):
        points = json.loads(path.read_text())
        minutes = [began + p["minutes"] for p in points]
        name = None if number else "training loss (Dice + cross-entropy)"
        left.plot(minutes, [p["loss"] for p in points], color="tab:gray", label=name)
        for key, (colour, label) in FINAL.items():
            if key in points[0]:
                is_last = number == len(arguments.curves) - 1
                right.plot(
                    minutes, [p[key] for p in points], color=colour, marker=".", label=label if is_last else None
                )
        if number:
            left.axvline(began, color="black", linewidth=0.6)
        began, steps = minutes[-1], steps + points[-1]["step"]
    left.set(xlabel="minutes", ylabel="loss", ylim=(0, None))
    right.set(ylabel="Dice", ylim=(0, 1))
    handles = left.get_legend_handles_labels()[0] + right.get_legend_handles_labels()[0]
    left.legend(handles=handles, loc="lower center", frameon=False, fontsize=8)
    left.set_title(f"{steps} steps")
    figure.savefig(arguments.out, dpi=110)


if __name__ == "__main__":
    main()
