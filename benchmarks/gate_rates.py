"""How often the gate lets a worse model through, and how often it keeps out one that is no worse.

python -m benchmarks.gate_rates [--simulations 2000] [--chains 200] [--out DIR] [--result FOLDER]

Prints the tables of docs/experiments/gate.md and draws gate_rates.png. Validation patients are made up: each has a
difference between two versions in each of the three scores of the gate, normal around the true difference, with the
standard deviations and correlations that were measured. The rule is that of `lib.learning.gate`; a test compares the
two.
"""

import argparse
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

from benchmarks.results import Row, add_option, report
from lib.evaluation.compare import GATES, MARGIN
from lib.evaluation.statistics import CONFIDENCE, RESAMPLES, SEED
from lib.learning.gate import MAIN, ROUNDING

SD = np.array([0.11, 0.06, 0.065])
"""Between patients, of the differences of GATES between two successive trainings of the shipped weights, pooled over
sarcoma in CT, MR and PET and hippocampus in MR (39 patients, mode centre; by dataset 0.015 to 0.19, 0.04 to 0.09, 0.06
to 0.07)."""
CORRELATION = np.array([[1.0, 0.55, 0.3], [0.55, 1.0, 0.75], [0.3, 0.75, 1.0]])
SHARES = (1.0, 0.5, 0.2)
"""Of SD: a training anew, and assumed figures for rounds that change the model less."""
MEANS = (-0.05, -0.03, -0.02, -0.01, 0.0, 0.01, 0.02, 0.05)
PATIENTS = (8, 16, 32)
ROUNDS = 20
CHAIN_DRIFTS = (-0.005, -0.01, 0.005)
CHAIN_PATIENTS = 16
CHAIN_SHARE = 0.1
"""Small rounds are where losses below the margin are shown to be below it, and so get through."""
INHERITED = 0.5
"""What a version keeps of its parent's strengths and weaknesses with single patients (assumed)."""
CHUNK = 500
TABLES = ("gate_rates", "gate_best", "gate_chains")


@dataclass(frozen=True)
class Rule:
    """A way to decide; the gate's own is the last of RULES.

    Attributes:
        name: for the tables.
        with_best: whether the best version ever is compared with too.
        no_loss: whether the mean of MAIN may not be lower than the served version's.
    """

    name: str
    with_best: bool
    no_loss: bool


RULES = (
    Rule("served alone", with_best=False, no_loss=False),
    Rule("served, no loss", with_best=False, no_loss=True),
    Rule("served and best", with_best=True, no_loss=False),
    Rule("the gate", with_best=True, no_loss=True),
)


@lru_cache(maxsize=64)
def _shares(n: int) -> np.ndarray:
    """(RESAMPLES, n): the weight of each patient in each resample; those that scipy draws with the protocol's seed."""
    drawn = np.random.default_rng(SEED).integers(0, n, (RESAMPLES, n))
    counts = np.zeros((RESAMPLES, n))
    np.add.at(counts, (np.arange(RESAMPLES)[:, None], drawn), 1)
    return counts / n


def low_ends(differences: np.ndarray) -> np.ndarray:
    """Lower ends of the bootstrap interval of the mean over patients; `statistics.interval`, of many at once.

    Args:
        differences: (n, ...), patients first.

    Returns:
        (...)
    """
    flat = differences.reshape(len(differences), -1)
    shares = _shares(len(flat))
    at = (1 - CONFIDENCE) / 2 * (RESAMPLES - 1)
    below = int(at)
    found = []
    for start in range(0, flat.shape[1], CHUNK):
        means = flat[:, start : start + CHUNK].T @ shares.T
        means.partition((below, below + 1), axis=1)
        found.append(means[:, below] + (at - below) * (means[:, below + 1] - means[:, below]))
    return np.concatenate(found).reshape(differences.shape[1:])


def passes(rule: Rule, served: np.ndarray, best: np.ndarray) -> np.ndarray:
    """Whether candidates get through.

    Args:
        rule: to decide by.
        served: (n, simulations, 3), candidate minus served.
        best: the same, candidate minus best.
    """
    return _decision(rule, low_ends(served), served.mean(0), low_ends(best) if rule.with_best else None)


def _decision(rule: Rule, low: np.ndarray, mean: np.ndarray, low_best: np.ndarray | None) -> np.ndarray:
    through = (low >= -MARGIN).all(-1)
    if rule.no_loss:
        through &= mean[..., GATES.index(MAIN)] >= -ROUNDING
    return through if low_best is None else through & (low_best >= -MARGIN).all(-1)


def deviations(rng: np.random.Generator, share: float, shape: tuple[int, ...]) -> np.ndarray:
    """(*shape, 3): of one version with each patient, such that two versions differ by ``share`` of the measured SD."""
    covariance = np.outer(SD, SD) * CORRELATION * share**2 / 2
    return rng.multivariate_normal(np.zeros(len(SD)), covariance, shape)


def rates(n: int, share: float, simulations: int, gap: float | None = None) -> dict[str, list[float]]:
    """Share of candidates that get through, by rule, for each of MEANS.

    Args:
        n: validation patients.
        share: of the measured SD.
        simulations: candidates that are made up.
        gap: by how much the best version is truly better than the served one; None where it is the served one.
    """
    rng = np.random.default_rng([n, round(100 * share)])
    candidate, served, best = (deviations(rng, share, (n, simulations)) for _ in range(3))
    against_served = candidate - served
    against_best = against_served if gap is None else candidate - best - gap
    # The true difference shifts the interval and leaves it as wide.
    low, mean = low_ends(against_served), against_served.mean(0)
    low_best = low_ends(against_best)
    return {
        rule.name: [
            float(_decision(rule, low + true, mean + true, low_best + true if rule.with_best else None).mean())
            for true in MEANS
        ]
        for rule in RULES
    }


def chain(rule: Rule, drift: float, share: float, n: int, chains: int) -> tuple[np.ndarray, np.ndarray]:
    """Rounds of training, each from the served version, of which each truly changes all scores by ``drift``.

    There is one more validation patient each round.

    Returns:
        True score of the served version minus that of the first, (ROUNDS + 1, chains); numbers of publishes, (chains,).
    """
    rng = np.random.default_rng([n, round(1e4 * (drift + 1))])
    # Two versions of which one inherits differ less: made up for, so that candidate and parent differ by SD.
    scale = share / np.sqrt(1 - INHERITED)
    most = n + ROUNDS
    served = deviations(rng, scale, (most, chains))
    best, true, true_best = served.copy(), np.zeros(chains), np.zeros(chains)
    path, publishes = [true], np.zeros(chains, int)
    for number in range(ROUNDS):
        fresh = deviations(rng, scale, (most, chains))
        candidate = INHERITED * served + np.sqrt(1 - INHERITED**2) * fresh
        own = true + drift
        seen = slice(0, n + number)
        against_served = candidate[seen] - served[seen] + drift
        against_best = candidate[seen] - best[seen] + (own - true_best)[:, None]
        through = passes(rule, against_served, against_best)
        is_best = through & (against_best.mean(0)[:, GATES.index(MAIN)] > 0)
        served, true = np.where(through[:, None], candidate, served), np.where(through, own, true)
        best, true_best = np.where(is_best[:, None], candidate, best), np.where(is_best, own, true_best)
        path.append(true)
        publishes += through
    return np.array(path), publishes


def _per_cent(shares: Sequence[float]) -> dict[str, float]:
    """By true difference: whole numbers from 1 on, one decimal below."""
    per_cent = [100 * share for share in shares]
    shown = (round(value) if value >= 0.95 else round(value, 1) for value in per_cent)
    return dict(zip((f"{true:+.2f}" if true else "0" for true in MEANS), shown, strict=True))


def rate_table(simulations: int) -> Iterator[Row]:
    """Per cent published by true difference: by the gate, and without the demand of no loss where that differs."""
    for share, n in itertools.product(SHARES, PATIENTS):
        found = rates(n, share, simulations)
        gate, without = (_per_cent(found[name]) for name in ("the gate", "served and best"))
        yield {"patients": n, "spread": share, "rule": "the gate", **gate}
        if without != gate:
            yield {"patients": n, "spread": share, "rule": "served and best", **without}


def best_table(simulations: int, gap: float = 0.01) -> Iterator[Row]:
    """The same where the best version is better than the served one: against the served one alone, and the gate."""
    for n in PATIENTS:
        found = rates(n, SHARES[-1], simulations, gap)
        for name in ("served, no loss", "the gate"):
            yield {"patients": n, "rule": name, **_per_cent(found[name])}


def chain_table(drifts: Sequence[float], n: int, share: float, chains: int) -> Iterator[Row]:
    """What 20 rounds come to, by rule."""
    for drift, rule in itertools.product(drifts, RULES):
        path, publishes = chain(rule, drift, share, n, chains)
        end = path[-1]
        yield {
            "true change of each round": drift,
            "rule": rule.name,
            "published of 20": round(float(publishes.mean()), 1),
            "true change in the end": round(float(end.mean()), 3),
            "worst 5 % of chains": round(float(np.quantile(end, 0.05)), 3),
        }


def draw(path: Path, simulations: int, chains: int) -> None:
    """Left: share published by true difference. Right: the true score of the served version over the rounds."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    for share, style in zip(SHARES, ("-", "--", ":"), strict=True):
        for n, colour in zip(PATIENTS, ("tab:red", "tab:orange", "tab:blue"), strict=True):
            shown = rates(n, share, simulations)["the gate"]
            left.plot(MEANS, shown, style, color=colour, marker=".", label=f"{n} patients, {share:g} sd")
    left.axvline(-MARGIN, color="black", linewidth=0.6)
    left.set(xlabel="true difference, candidate minus served", ylabel="share published", ylim=(0, 1))
    left.set_title("the gate, by validation patients and spread", fontsize=10)
    left.legend(frameon=False, fontsize=7)
    for rule, colour in zip(RULES, ("tab:red", "tab:orange", "tab:green", "tab:blue"), strict=True):
        found, _ = chain(rule, CHAIN_DRIFTS[0], CHAIN_SHARE, CHAIN_PATIENTS, chains)
        right.plot(found.mean(1), color=colour, label=rule.name)
        right.fill_between(range(ROUNDS + 1), *np.quantile(found, [0.05, 0.95], axis=1), color=colour, alpha=0.12)
    right.axhline(-MARGIN, color="black", linewidth=0.6)
    right.set(xlabel="round of training", ylabel="true score of the served version", xticks=range(0, ROUNDS + 1, 5))
    right.set_title(f"every candidate truly {CHAIN_DRIFTS[0]:+.3f}; mean and 90 % of chains", fontsize=10)
    right.legend(frameon=False, fontsize=8, loc="lower left")
    figure.savefig(path, dpi=110)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=2000)
    parser.add_argument("--chains", type=int, default=200)
    parser.add_argument("--out", type=Path, help="folder for gate_rates.png")
    add_option(parser, TABLES)
    arguments = parser.parse_args()
    candidates = f"{arguments.simulations:,} simulated candidates a number"
    tables = (
        (rate_table(arguments.simulations), candidates),
        (best_table(arguments.simulations), candidates),
        (
            chain_table(CHAIN_DRIFTS, CHAIN_PATIENTS, CHAIN_SHARE, arguments.chains),
            f"{arguments.chains} simulated chains of {ROUNDS} rounds",
        ),
    )
    for name, (rows, n) in zip(TABLES, tables, strict=True):
        report(rows, n, arguments.result and arguments.result / f"{name}.json")
        print()
    if arguments.out:
        draw(arguments.out / "gate_rates.png", arguments.simulations // 2, arguments.chains)


if __name__ == "__main__":
    main()
