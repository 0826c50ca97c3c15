"""The tables and the picture of `benchmarks.active_learning`, of whatever is finished."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from benchmarks.results import Row, Value
from benchmarks.simulation import Simulation, read_lines, scores_file
from lib.evaluation.statistics import CONFIDENCE, RESAMPLES, SEED
from lib.registry.version import SHIPPED

TABLES = ("active_learning", "active_learning_differences")
CHANCE = "random"
"""The strategy that the others are compared with."""
SERVED, NEWEST = "served", "newest"
_NAMES = {(SERVED, 1): "Dice at 1", (SERVED, 5): "Dice at 5", (NEWEST, 1): "newest at 1", (NEWEST, 5): "newest at 5"}


class Run(NamedTuple):
    """What is finished of a run.

    Attributes:
        pool: Name.
        strategy: Of Next Sample.
        seed: Of the run.
        labels: A line for each labelled case, in turn.
        dice: By number of labels, role and data set: (cases, clicks) of the cases that were held back.
        published: By number of labels, how many trainings so far the gate published.
    """

    pool: str
    strategy: str
    seed: int
    labels: Sequence[dict]
    dice: dict[int, dict[str, dict[str, NDArray[np.float64]]]]
    published: dict[int, int]

    def clicks(self, labels: int) -> NDArray[np.int_]:
        """Clicks on each of the first so many cases."""
        return np.array([len(line["dice"]) for line in self.labels[:labels]], dtype=int)


def read_runs(simulations: Sequence[Simulation]) -> list[Run]:
    """The runs that have been measured at least once, in their order."""
    runs = []
    for simulation in simulations:
        lines = read_lines(simulation.folder / "notes.jsonl")
        dice, published, count = {}, {}, 0
        for line in (line for line in lines if line["what"] == "round"):
            count += line[NEWEST] == line[SERVED] != SHIPPED
            found = {role: _scores(simulation, line[f"{role}_sha256"]) for role in (SERVED, NEWEST)}
            if all(found.values()):
                dice[line["labels"]], published[line["labels"]] = found, count
        if dice:
            labels = [line for line in lines if line["what"] == "label"]
            runs.append(Run(simulation.pool.name, simulation.strategy, simulation.seed, labels, dice, published))
    return runs


def _scores(simulation: Simulation, sha256: str) -> dict[str, NDArray[np.float64]]:
    """By data set; none where cases are not measured yet."""
    lines = read_lines(scores_file(simulation.shared, sha256))
    by_case = {(line["dataset"], line["case"]): line["dice"] for line in lines}
    found: dict[str, list[list[float]]] = {}
    for case in simulation.pool.held_back:
        if (case.dataset, case.name) not in by_case:
            return {}
        found.setdefault(case.dataset, []).append(by_case[case.dataset, case.name])
    return {dataset: np.array(scores) for dataset, scores in found.items()}


def size(runs: Sequence[Run]) -> str:
    """What was held back, and how many runs there are, in words."""
    held = {name: len(scores) for run in runs for name, scores in run.dice[0][SERVED].items()}
    cases = " and ".join(f"{count} {name}" for name, count in held.items())
    return f"{cases} held back; {len(runs)} runs"


def tables(runs: Sequence[Run]) -> dict[str, list[Row]]:
    """Rows by the names of `TABLES`."""
    return {TABLES[0]: list(_levels(runs)), TABLES[1]: list(_differences(runs))}


def _places(runs: Sequence[Run]) -> Iterator[tuple[str, str, int]]:
    """Pool, data set of the cases that were held back, number of labels."""
    for pool in dict.fromkeys(run.pool for run in runs):
        own = [run for run in runs if run.pool == pool]
        for dataset in own[0].dice[0][SERVED]:
            for labels in sorted({labels for run in own for labels in run.dice}):
                yield pool, dataset, labels


def _at(runs: Sequence[Run], pool: str, labels: int) -> dict[str, dict[int, Run]]:
    """The runs of a pool that were measured after so many labels, by strategy and seed."""
    found: dict[str, dict[int, Run]] = {}
    for run in runs:
        if run.pool == pool and labels in run.dice:
            found.setdefault(run.strategy, {})[run.seed] = run
    return found


def _levels(runs: Sequence[Run]) -> Iterator[Row]:
    for pool, dataset, labels in _places(runs):
        place: dict[str, Value] = {"pool": pool, "held back": dataset, "labels": labels}
        for strategy, by_seed in _at(runs, pool, labels).items():
            own = list(by_seed.values())
            dice = {name: estimate(_dice(own, labels, dataset, *which)) for which, name in _NAMES.items()}
            if not labels:
                # All strategies begin with the same weights.
                served = {name: dice[name] for which, name in _NAMES.items() if SERVED in which}
                yield {**place, "strategy": "none yet", "seeds": None, "labels of these": None, "clicks": None} | served
                break
            chosen = [sum(line["dataset"] == dataset for line in run.labels[:labels]) for run in own]
            yield {
                **place, "strategy": strategy, "seeds": len(own), "labels of these": round(float(np.mean(chosen)), 1),
                "clicks": total([run.clicks(labels) for run in own]), **dice,
                "published": f"{sum(run.published[labels] for run in own)} of {_trainings(own, labels)}",
            }  # fmt: skip


def _trainings(runs: Sequence[Run], labels: int) -> int:
    return sum(0 < number <= labels for run in runs for number in run.dice)


def _differences(runs: Sequence[Run]) -> Iterator[Row]:
    for pool, dataset, labels in _places(runs):
        found = _at(runs, pool, labels)
        for strategy in found if labels and CHANCE in found else ():
            seeds = sorted(found[strategy].keys() & found[CHANCE].keys())
            if strategy == CHANCE or not seeds:
                continue
            ours, chance = ([found[name][seed] for seed in seeds] for name in (strategy, CHANCE))
            yield {
                "pool": pool, "held back": dataset, "labels": labels, "strategy": strategy, "seeds": len(seeds),
                "interval over": "patients" if len(seeds) == 1 else "seeds and patients",
                "clicks": total([run.clicks(labels) for run in ours], [run.clicks(labels) for run in chance]),
                **{
                    name: estimate(_dice(ours, labels, dataset, *which) - _dice(chance, labels, dataset, *which))
                    for which, name in _NAMES.items()
                },
            }  # fmt: skip


def _dice(runs: Sequence[Run], labels: int, dataset: str, role: str, clicks: int) -> NDArray[np.float64]:
    """(seeds, patients)."""
    return np.stack([run.dice[labels][role][dataset][:, clicks - 1] for run in runs])


def estimate(values: NDArray[np.float64]) -> Value:
    """Mean and 95 % percentile interval of a bootstrap that draws seeds and, for all of them alike, patients.

    Args:
        values: (seeds, patients); one seed is taken as it is, and the interval then says nothing of how runs differ.
    """
    generator = np.random.default_rng(SEED)
    shares = [generator.multinomial(n, [1 / n] * n, RESAMPLES) / n for n in values.shape]
    return _interval(values.mean(), np.einsum("rs,sp,rp->r", shares[0], values, shares[1]), 3)


def total(clicks: Sequence[NDArray[np.int_]], minus: Sequence[NDArray[np.int_]] | None = None) -> Value:
    """Clicks of a run, or how many more, with the 95 % percentile interval of a bootstrap of seeds and their cases.

    Args:
        clicks: On each case, by seed; of all seeds as many cases.
        minus: Of other runs with the same seeds.
    """
    generator = np.random.default_rng(SEED)
    seeds, cases = len(clicks), len(clicks[0])
    drawn = generator.integers(seeds, size=(RESAMPLES, seeds))
    mean, sums = 0.0, np.zeros(RESAMPLES)
    for sign, group in ((1, clicks), (-1, minus or ())):
        if len(group):
            values = np.stack(group)
            mean += sign * values.sum(axis=1).mean()
            for column in drawn.T:
                picked = generator.integers(cases, size=(RESAMPLES, cases))
                sums += sign * values[column[:, None], picked].sum(axis=1) / seeds
    return _interval(mean, sums, 1)


def _interval(mean: float, resamples: NDArray[np.float64], digits: int) -> Value:
    ends = np.quantile(resamples, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return [round(float(value), digits) for value in (mean, *ends)]


def draw(runs: Sequence[Run], path: Path) -> None:
    """Dice of what is served (dashed: of the newest version) and clicks spent, by labels; bands are 95 % intervals."""
    rows = list(dict.fromkeys((pool, dataset) for pool, dataset, _ in _places(runs)))
    figure, panels = plt.subplots(len(rows), 3, squeeze=False, figsize=(11, 3.2 * len(rows) + 0.5))
    levels = list(_levels(runs))
    for line, (pool, dataset) in zip(panels, rows, strict=True):
        own = [row for row in levels if (row["pool"], row["held back"]) == (pool, dataset)]
        for panel, columns, title in zip(
            line,
            (("Dice at 1", "newest at 1"), ("Dice at 5", "newest at 5"), ("clicks",)),
            ("Dice after 1 click", "Dice after 5 clicks", "clicks spent"),
            strict=True,
        ):
            for column, style in zip(columns, ("-", "--"), strict=False):
                _draw_lines(panel, own, column, style)
            panel.set_xlabel("labels given")
            panel.set_ylabel(title)
            panel.grid(alpha=0.3)
        line[0].set_title(f"{pool}: {dataset} held back", loc="left", fontsize=9)
        line[0].legend(fontsize=8)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _draw_lines(panel: Axes, rows: Sequence[Mapping[str, Any]], column: str, style: str) -> None:
    """A line for each strategy, from the weights that ship on."""
    start = rows[0].get(column.replace("newest", "Dice")) or [0.0] * 3
    for number, strategy in enumerate(dict.fromkeys(row["strategy"] for row in rows[1:])):
        own = [row for row in rows if row["strategy"] == strategy]
        labels = [0, *(row["labels"] for row in own)]
        mean, low, high = np.array([start, *(row[column] for row in own)]).T
        seeds = max(row["seeds"] for row in own)
        name = f"{strategy} ({seeds} seed{'s' * (seeds > 1)})" if style == "-" else None
        panel.plot(labels, mean, style, color=f"C{number}", marker="o", markersize=4, label=name)
        if style == "-":
            panel.fill_between(labels, low, high, color=f"C{number}", alpha=0.15, linewidth=0)
