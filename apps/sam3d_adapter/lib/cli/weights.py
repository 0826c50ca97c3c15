"""The command line that makes the small weights."""

import argparse
import dataclasses
import logging
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from lib.pretraining.recipe import LESIONS, Recipe, trial
from lib.pretraining.run import REFUSED, make_weights

DESCRIPTION = """Train the small weights anew, from the volumes of patients and from phantoms that are made for it.
A command that was stopped, however, goes on when it is given again; what is finished is not done again."""
TRIAL_STEPS = 4

logger = logging.getLogger(__name__)


def run(command: Sequence[str] | None = None) -> int:
    """Follow the recipe as the arguments say.

    Args:
        command: Of the command line; None for the process's own.

    Returns:
        Exit status: 0, 1 with one sentence that says why, or 130 where it was interrupted.
    """
    arguments = _arguments(command)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        made = make_weights(_recipe(arguments), arguments.data, arguments.held_out, arguments.out, arguments.device)
    except REFUSED as error:
        logger.error("%s", " ".join(str(error).split()))
        return 1
    except KeyboardInterrupt:
        logger.error("Stopped. What is finished is kept; the same command goes on from there.")
        return 130
    sys.stdout.write(f"{made.base}\n{made.weights}\nTo measure them on the held-out cases:\n")
    sys.stdout.writelines(f"  {line}\n" for line in made.commands())
    return 0


def _recipe(arguments: argparse.Namespace) -> Recipe:
    if arguments.trial:
        return trial(LESIONS, arguments.steps or TRIAL_STEPS)
    if arguments.steps is not None:
        return dataclasses.replace(LESIONS, minutes=arguments.minutes, steps=arguments.steps)
    return LESIONS if arguments.minutes is None else dataclasses.replace(LESIONS, minutes=arguments.minutes)


def _arguments(command: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make_weights.py", description=DESCRIPTION)
    folders = ", ".join(f"{part.folder}/" for part in LESIONS.patients)
    parser.add_argument("--data", type=Path, required=True, help=f"holds {folders} each with images/ and labels/")
    parser.add_argument("--held-out", type=Path, required=True, help="names of cases never trained on, one a line")
    parser.add_argument("--out", type=Path, default=Path("trained"), help="of all that is made (default: %(default)s)")
    parser.add_argument("--minutes", type=_positive, help=f"of training (default: {LESIONS.minutes:g})")
    parser.add_argument("--steps", type=_count, help="of training, in place of minutes; with both, what ends first")
    parser.add_argument("--device", help="cpu or cuda (default: the GPU where there is one)")
    parser.add_argument(
        "--trial", action="store_true", help=f"few phantoms and {TRIAL_STEPS} steps, to see that everything runs"
    )
    return parser.parse_args(command)


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return value
