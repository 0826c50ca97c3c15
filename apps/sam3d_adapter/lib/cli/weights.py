"""``sam3d weights``: small weights trained from nothing."""

import dataclasses
import logging
import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from lib.pretraining.recipe import Recipe

TRIAL_STEPS = 4
_PATH = click.Path(path_type=Path)

logger = logging.getLogger(__name__)


def _above_zero(ctx: click.Context, option: click.Parameter, value: float | None) -> float | None:
    if value is not None and not 0 < value < math.inf:
        raise click.BadParameter(f"{value} is not above 0")
    return value


@click.command(short_help="Train the small weights that ship anew.")
@click.option(
    "--data",
    type=_PATH,
    required=True,
    help="Folder of the volumes and label maps that docs/weights.md lists.",
)
@click.option("--held-out", type=_PATH, required=True, help="File: names of cases never trained on, one a line.")
@click.option("--out", type=_PATH, default=Path("trained"), show_default=True, help="Folder for all that is made.")
@click.option("--size", help="Of the network; docs/weights.md lists them.  [default: tiny]")
@click.option("--minutes", type=float, callback=_above_zero, help="Minutes of training.  [default: 600]")
@click.option(
    "--steps", type=click.IntRange(min=1), help="Steps of training, in place of minutes; with both, what ends first."
)
@click.option("--parent", type=_PATH, nargs=2, help="BASE and WEIGHTS to start from, in place of a new network.")
@click.option("--device", help="cpu or cuda.  [default: the GPU where there is one]")
@click.option("--trial", is_flag=True, help=f"Few volumes and {TRIAL_STEPS} steps, to see that everything runs.")
def weights(**options: Any) -> None:
    """Train the small weights anew, from volumes, label maps and phantoms.

    A command that was stopped goes on when it is given again; what is finished is not done again.

    \b
    Example:
      sam3d weights --data path/to/volumes --held-out benchmarks/held_out.txt --minutes 95
    """
    # Before torch is loaded: there will be a process for each core, whose threads would take the cores from each other.
    os.environ["OMP_NUM_THREADS"] = "1"
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    raise SystemExit(run(**options))


def run(
    *,
    data: Path,
    held_out: Path,
    out: Path,
    size: str | None,
    minutes: float | None,
    steps: int | None,
    parent: tuple[Path, Path] | None,
    device: str | None,
    trial: bool,
) -> int:
    """Follow the recipe; the options are those of the command.

    Returns:
        Exit status: 0, 1 with one sentence that says why, or 130 where it was interrupted.
    """
    from lib.pretraining.run import DEFAULT_SIZE, REFUSED, make_weights

    try:
        recipe = _recipe(minutes, steps, trial)
        made = make_weights(recipe, data, held_out, out, device, parent, size or DEFAULT_SIZE)
    except REFUSED as error:
        logger.error("%s", " ".join(str(error).split()))
        return 1
    except KeyboardInterrupt:
        logger.error("Stopped. What is finished is kept; the same command goes on from there.")
        return 130
    sys.stdout.writelines(f"{file}\n" for file in made.files)
    sys.stdout.write("To measure them on the held-out cases:\n")
    sys.stdout.writelines(f"  {line}\n" for line in made.commands())
    return 0


def _recipe(minutes: float | None, steps: int | None, is_trial: bool) -> "Recipe":
    from lib.pretraining.recipe import STRUCTURES, trial

    if is_trial:
        return trial(STRUCTURES, steps or TRIAL_STEPS)
    if steps is not None:
        return dataclasses.replace(STRUCTURES, minutes=minutes, steps=steps)
    return STRUCTURES if minutes is None else dataclasses.replace(STRUCTURES, minutes=minutes)
