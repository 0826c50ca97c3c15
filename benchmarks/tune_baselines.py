"""Tune region growing and the image-free ball on the development phantoms, once for each kind of first click.

python -m benchmarks.tune_baselines [--lesions 40]

Writes benchmarks/baselines.json, which the table on phantoms reads: its own phantoms are never tuned on.
"""

import argparse
import json
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.baselines import GrowParams, tune_ball, tune_region_growing
from benchmarks.clicks import MODES, clicked_lesions

DEVELOPMENT_SEEDS = range(1, 25)
FILE = Path(__file__).with_name("baselines.json")


def tune(mode: str, lesions: int) -> dict[str, Any]:
    """The constants of one kind of first click, and the mean Dice they gave."""
    cases = [case for *_, case in islice(clicked_lesions(DEVELOPMENT_SEEDS, mode), lesions)]
    radius, ball_dice = tune_ball(cases)
    growing, growing_dice = tune_region_growing(cases)
    return {
        "ball_radius_mm": radius,
        "region_growing": asdict(growing),
        "dice_tuned_on": {"ball": round(ball_dice, 3), "region growing": round(growing_dice, 3)},
        "lesions": len(cases),
    }


def frozen() -> Mapping[str, tuple[float, GrowParams]]:
    """Radius of the ball, mm, and parameters of region growing, by kind of first click."""
    content = json.loads(FILE.read_text())
    return {mode: (c["ball_radius_mm"], GrowParams(**c["region_growing"])) for mode, c in content.items()}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lesions", type=int, default=40)
    arguments = parser.parse_args()
    with ProcessPoolExecutor(len(MODES)) as pool:
        tuned = dict(zip(MODES, pool.map(partial(tune, lesions=arguments.lesions), MODES), strict=True))
    FILE.write_text(json.dumps(tuned, indent=1) + "\n")
    print(FILE.read_text())


if __name__ == "__main__":
    main()
