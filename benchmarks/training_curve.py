"""Draw the curve of a training: loss, and Dice after the first and the last click on held-out volumes, over minutes.

python -m benchmarks.training_curve CURVE.json [CURVE.json ...] --out OUT.png

Several curves are those of trainings that followed one another, each from the weights of the one before.
"""

import argparse
from pathlib import Path

from lib.pretraining.run import draw_curves


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("curves", type=Path, nargs="+", help="<size>_curve.json as lib.pretraining.pretrain writes it")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    draw_curves(arguments.curves, arguments.out)


if __name__ == "__main__":
    main()
