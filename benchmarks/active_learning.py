"""Does choosing cases pay? Strategies of Next Sample through the running server, with simulated annotators.

python -m benchmarks.active_learning --data DIR --out OUT [--rare DIR] [--pools plain,rare] [--seeds 1,2,3] \\
  [--strategies random,coverage] [--labels 20,30,40] [--epochs 3] [--pool 140] [--held-back 60] \\
  [--table] [--result FOLDER] [--picture FILE]

DIR holds images/ and labels/ (everything above 0 is the structure). Some cases are held back; of the others, annotators
label those that Next Sample gives. After so many labels the server trains, and its gate decides. What is served then,
and the newest version even where the gate refused it, are measured on the cases that were held back. With --rare, one
case in ten of a second pool is of another data set.

Each pool, strategy and seed is a run, with a server, studies and versions of its own in OUT. A command that was stopped
goes on when it is given again; --table only shows what is finished.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.active_learning_table import TABLES, draw, read_runs, size, tables
from benchmarks.results import add_option, report
from benchmarks.simulation import Plan, Pool, Simulation
from demo import APP_DIR, REPOSITORY
from lib.configs.settings import STRATEGIES
from lib.evaluation.cases import Source, from_folders

PLAIN, RARE = POOLS = ("plain", "rare")
RARE_ONE_IN = 10
NEVER_SEEN = REPOSITORY / "benchmarks" / "held_out.txt"
_DRAW = 0
"""Seed of which cases are held back, the same in all runs."""


def make_pools(data: Path, rare: Path | None, unseen: Path, size: int, held_back: int) -> dict[str, Pool]:
    """The pools by their names on the command line.

    Args:
        data: Folder of most cases.
        rare: Folder of the others; None for no second pool.
        unseen: Names of the cases of ``rare`` that the shipped weights never saw, one a line: these are held back.
        size: Cases in each pool.
        held_back: Cases of ``data`` that are held back.
    """
    cases = _drawn(data)
    if held_back + size > len(cases):
        raise SystemExit(f"{data} holds {len(cases)} cases; {size} + {held_back} are asked for.")
    # From both ends, so that the pool stays the same when more are held back.
    kept, rest = cases[:held_back], cases[-size:]
    pools = {PLAIN: Pool(data.name, rest, kept)}
    if rare is not None:
        never = set(unseen.read_text(encoding="utf-8").split())
        others = _drawn(rare)
        few = [case for case in others if case.name not in never][: size // RARE_ONE_IN]
        held = [*kept, *(case for case in others if case.name in never)]
        name = f"{data.name}, 1 in {RARE_ONE_IN} of {rare.name}"
        pools[RARE] = Pool(name, [*rest[: size - len(few)], *few], held)
    return pools


def _drawn(folder: Path) -> list[Source]:
    cases = from_folders(folder / "images", folder / "labels", dataset=folder.name)
    return [cases[index] for index in np.random.default_rng(_DRAW).permutation(len(cases))]


def runs_of(arguments: argparse.Namespace) -> list[Simulation]:
    """All that were asked for; a seed is finished before the next one begins."""
    plan = Plan(arguments.app, arguments.preset, arguments.labels, arguments.epochs)
    pools = make_pools(arguments.data, arguments.rare, arguments.unseen, arguments.pool, arguments.held_back)
    out = arguments.out.resolve()
    return [
        Simulation(plan, pools[key], strategy, seed, out / key / strategy / f"seed_{seed}", out / key)
        for seed in arguments.seeds
        for key in arguments.pools
        for strategy in arguments.strategies
        if key in pools
    ]


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def _words(choices: Sequence[str]) -> Callable[[str], list[str]]:
    def read(text: str) -> list[str]:
        words = text.split(",")
        if unknown := [word for word in words if word not in choices]:
            raise argparse.ArgumentTypeError(f"'{unknown[0]}' is none of {', '.join(choices)}.")
        return words

    return read


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rare", type=Path, help="folder as --data, of the rare cases of a second pool")
    parser.add_argument("--unseen", type=Path, default=NEVER_SEEN, help="names of cases of --rare that are held back")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pools", type=_words(POOLS), default=list(POOLS))
    parser.add_argument("--strategies", type=_words(STRATEGIES), default=list(STRATEGIES))
    parser.add_argument("--seeds", type=_numbers, default=[1, 2, 3])
    parser.add_argument("--labels", type=_numbers, default=[20, 30, 40], help="numbers of labels to train after")
    parser.add_argument("--epochs", type=int, default=3, help="of each training")
    parser.add_argument("--pool", type=int, default=140, help="cases in a pool")
    parser.add_argument("--held-back", type=int, default=60, help="cases of --data that nobody labels")
    parser.add_argument("--preset", default="mr")
    parser.add_argument("--app", type=Path, default=APP_DIR, help="the app folder")
    parser.add_argument("--table", action="store_true", help="run nothing, show what is finished")
    parser.add_argument("--picture", type=Path, help="PNG to draw")
    add_option(parser, TABLES)
    arguments = parser.parse_args()
    simulations = runs_of(arguments)
    if arguments.table:
        sys.argv.remove("--table")  # a result file names the command that measures
    else:
        for simulation in simulations:
            print(f"{simulation.pool.name}, {simulation.strategy}, seed {simulation.seed}", file=sys.stderr, flush=True)
            simulation()
    runs = read_runs(simulations)
    if not runs:
        sys.exit("No run has finished its first training yet.")
    for name, rows in tables(runs).items():
        report(rows, size(runs), arguments.result and arguments.result / f"{name}.json")
    if arguments.picture:
        draw(runs, arguments.picture)


if __name__ == "__main__":
    main()
