"""Draw the curve of a training: loss, and Dice after one click on held-out volumes, over minutes.

python -m benchmarks.training_curve CURVE.json OUT.png
"""

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("curve", type=Path, help="<size>_curve.json as lib.learning.pretrain writes it")
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    points = json.loads(arguments.curve.read_text())
    minutes = [p["minutes"] for p in points]
    figure, left = plt.subplots(figsize=(7, 3.5), layout="constrained")
    left.plot(minutes, [p["loss"] for p in points], color="tab:gray", label="training loss (Dice + cross-entropy)")
    left.set(xlabel="minutes", ylabel="loss", ylim=(0, None))
    right = left.twinx()
    right.plot(minutes, [p["dice"] for p in points], color="tab:red", marker="o", label="Dice, one click, held out")
    right.set(ylabel="Dice", ylim=(0, 1))
    handles = left.get_legend_handles_labels()[0] + right.get_legend_handles_labels()[0]
    left.legend(handles=handles, loc="center right", frameon=False)
    left.set_title(f"{points[-1]['step']} steps from scratch")
    figure.savefig(arguments.out, dpi=110)


if __name__ == "__main__":
    main()
