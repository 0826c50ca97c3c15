"""The publishing decision: a candidate replaces the served model only if it is shown to be no worse than two others.

The two are the served model and the best one ever published. Compared with the served model alone, each candidate could
be a little worse than the one before, and the losses would add up unnoticed.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from lib.evaluation.compare import GATES, MARGIN, compare_records
from lib.evaluation.metrics import AUC_CLICKS
from lib.evaluation.record import Record
from lib.evaluation.statistics import by_patient, interval

MIN_PATIENTS = 8
"""With fewer patients an interval says next to nothing (benchmarks.gate_rates, docs/gate.md)."""
GUARDED_PATIENTS = 4
"""Validation patients of a structure from which on it is guarded by itself, where there are others."""
MOST_LOSS = 0.03
"""Mean loss of a guarded structure's Dice that is allowed."""
FIRST = "dice_1"
MAIN = "dsc_auc_normalised"
"""The score that must not fall and that chooses the best version: Dice over the first five clicks."""
LEAST_DICE = 0.5
"""Least mean Dice of the candidate after five clicks: below it, labels and images hardly belong together."""
ROUNDING = 1e-9
"""Rounding error of a mean of differences of equal scores."""
NAMES = {
    "dice_1": "Dice after one click",
    "dsc_auc_normalised": "mean Dice over the first five clicks",
    "nsd_auc_normalised": "agreement of the outline within 2 mm over the first five clicks",
}


@dataclass(frozen=True)
class Difference:
    """Candidate minus another version, on the same patients; scores run from 0 to 1.

    Attributes:
        other: ``served`` or ``best``.
        dataset: of the cases.
        mode: of the simulated user.
        metric: one of ``compare.GATES``.
        n_patients: measured with both.
        mean: over patients; None if a score is not finite.
        low: lower end of the 95 % interval; None for a single patient, or if a score is not finite.
        high: upper end.
        share_better: share of patients with a higher score.
        passed: whether the candidate is shown to be no worse by more than ``compare.MARGIN``.
    """

    other: str
    dataset: str
    mode: str
    metric: str
    n_patients: int
    mean: float | None
    low: float | None
    high: float | None
    share_better: float
    passed: bool


@dataclass(frozen=True)
class Decision:
    """The gate's decision about a candidate.

    Attributes:
        publish: whether it may replace the served model.
        reasons: plain sentences; the first states the decision, the others why.
        n_patients: validation patients of the dataset with the fewest.
        is_new_best: whether it becomes the best version, if it is published.
        differences: all that were compared.
        guarded: those of each structure by itself, its name as the dataset; empty where there is one alone.
    """

    publish: bool
    reasons: tuple[str, ...]
    n_patients: int
    is_new_best: bool
    differences: tuple[Difference, ...]
    guarded: tuple[Difference, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        found = asdict(self)
        lists = {name: [asdict(one) for one in getattr(self, name)] for name in ("differences", "guarded")}
        return {**found, **lists, "reasons": list(self.reasons)}


def decide(
    candidate: Sequence[Record],
    served: Sequence[Record],
    best: Sequence[Record] | None = None,
    structures: Mapping[str, str] | None = None,
) -> Decision:
    """Compares evaluation records of the same validation cases and simulated users.

    The candidate is published if all of this holds in every dataset and mode; modes without a curve do not count:

    - there are at least ``MIN_PATIENTS`` patients;
    - each of ``compare.GATES`` has a 95 % interval of at least -``compare.MARGIN`` at its lower end, against the served
      and the best version;
    - the mean of ``MAIN`` is not lower than the served version's;
    - the mean Dice after five clicks is at least ``LEAST_DICE``;
    - no structure with ``GUARDED_PATIENTS``, where there are several, loses more than ``MOST_LOSS`` of mean Dice after
      one click, or over the first five, against the served and the best version.

    Args:
        candidate: records of the new version.
        served: records of the served version.
        best: records of the best version on these cases; None or equal weights if it is the served version.
        structures: by case, the structure that its object is; those that are not named are guarded with all others.

    Raises:
        CompareError: cases, files, modes or seeds differ, or nothing can be compared.
    """
    others = {"served": served}
    if best is not None and _weights(best) != _weights(served):
        others["best"] = best
    differences = tuple(one for name, records in others.items() for one in _differences(name, candidate, records))
    guarded = tuple(_guarded(candidate, others, structures or {}))
    n = min(one.n_patients for one in differences)
    refusals = _refusals(differences, n, is_same=_weights(candidate) == _weights(served))
    if n >= MIN_PATIENTS:
        refusals += _implausible(candidate)
        refusals += [_why_guarded(one) for one in guarded if not one.passed]
    against_best = [one for one in differences if one.metric == MAIN and one.other == list(others)[-1]]
    is_new_best = not refusals and sum(one.mean or 0.0 for one in against_best) > 0
    reasons = (*_reasons(refusals, differences, n), *_by_structure(guarded))
    return Decision(not refusals, reasons, n, is_new_best, differences, guarded)


def _differences(other: str, candidate: Sequence[Record], records: Sequence[Record]) -> Iterator[Difference]:
    # Modes that give all clicks at once have no curve and do not count.
    one, two = ([record for record in all_of if "dsc_auc" in record] for all_of in (candidate, records))
    for dataset, modes in compare_records(one, two)["datasets"].items():
        for mode, found in modes.items():
            for metric in GATES:
                d: Mapping[str, Any] = found["differences"][metric]
                mean, low, high = (_number(d[key]) for key in ("mean", "low", "high"))
                passed = low is not None and low >= -MARGIN
                yield Difference(other, dataset, mode, metric, d["n"], mean, low, high, d["share_better"], passed)


def _guarded(
    candidate: Sequence[Record], others: Mapping[str, Sequence[Record]], structures: Mapping[str, str]
) -> Iterator[Difference]:
    """The differences of each structure by itself, of Dice alone."""
    if len(set(structures.values())) < 2:
        return
    patients: dict[str, set[str]] = {}
    for record in candidate:
        patients.setdefault(structures.get(record["case"], ""), set()).add(record["patient"])
    for structure in sorted(patients.keys() - {""}):
        # A name that so many patients share is none of a patient's, whatever somebody called a segment.
        if len(patients[structure]) < GUARDED_PATIENTS:
            continue
        for other, records in others.items():
            own = [
                [{**record, "dataset": structure} for record in all_of if structures.get(record["case"]) == structure]
                for all_of in (candidate, records)
            ]
            for one in _differences(other, own[0], own[1]):
                if one.metric in (FIRST, MAIN):
                    yield replace(one, passed=one.mean is not None and one.mean >= -MOST_LOSS - ROUNDING)


def _why_guarded(one: Difference) -> str:
    return (
        f"Of '{one.dataset}', {one.n_patients} patients, its {NAMES[one.metric]} is {_amount(one.mean)} that of "
        f"{_whom(one)}, and at most {MOST_LOSS:.2f} may be lost of a structure: what was learned of it is forgotten. "
        "Submit more labels of it, or give it a preset of its own."
    )


def _by_structure(guarded: Sequence[Difference]) -> list[str]:
    """A sentence on what each structure gained or lost against the served model; none where there is one alone."""
    by_name: dict[str, list[Difference]] = {}
    for one in guarded:
        if one.other == "served" and one.metric == MAIN and one.mean is not None:
            by_name.setdefault(one.dataset, []).append(one)
    told = [
        f"'{name}' {', '.join(f'{one.mean:+.3f}' for one in found)} ({found[0].n_patients} patients)"
        for name, found in by_name.items()
    ]
    return [f"By structure, {NAMES[MAIN]} changed by: {'; '.join(told)}."] if told else []


def _number(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value


def _refusals(differences: Sequence[Difference], n: int, *, is_same: bool) -> list[str]:
    if is_same:
        return ["The new model has the same weights as the served one, so there is nothing to publish."]
    if n < MIN_PATIENTS:
        patients = f"{n} validation patient{'s' * (n != 1)}"
        return [
            f"There are labels of {patients}; with fewer than {MIN_PATIENTS}, chance decides more than the model does. "
            "Submit more labels, or let a named person publish it by hand."
        ]
    refusals = [_why_not(one, differences) for one in differences if not one.passed]
    for one in differences:
        if one.passed and one.other == "served" and one.metric == MAIN and (one.mean or 0.0) < -ROUNDING:
            refusals.append(
                f"Its {NAMES[MAIN]} is {_amount(one.mean)} that of the served model{_where(one, differences)}; "
                "there is no reason to change to a model that measured worse."
            )
    return refusals


def _implausible(candidate: Sequence[Record]) -> list[str]:
    """A sentence if the candidate is too poor for a comparison: on random labels all models are alike."""
    found = [record for record in candidate if "dsc_auc" in record]
    mean = interval(by_patient((record["patient"], record["dice"][:AUC_CLICKS][-1]) for record in found))["mean"]
    if mean is None or not math.isfinite(mean) or mean >= LEAST_DICE:
        return []
    return [
        f"After five clicks its mean Dice is {mean:.2f}, and at least {LEAST_DICE:.2f} is asked for: labels and images "
        "hardly belong together. Look at the labels; if they are right, a named person may publish it by hand."
    ]


def _why_not(one: Difference, differences: Sequence[Difference]) -> str:
    """Why a difference does not pass."""
    about = f"{NAMES[one.metric]}{_where(one, differences)}"
    if one.low is None or one.high is None:
        return f"Its {about} could not be compared with that of {_whom(one)}."
    worse = f"Its {about} is {_amount(one.mean)} that of {_whom(one)} ({_span(one)}). "
    if one.high < 0:
        return worse + "It is worse by more than chance explains."
    return worse + f"It may be {-one.low:.3f} lower, where at most {MARGIN:.2f} is allowed: too uncertain to publish."


def _reasons(refusals: Sequence[str], differences: Sequence[Difference], n: int) -> tuple[str, ...]:
    if refusals:
        return (f"Not published; the served model stays. Measured on {n} validation patients.", *refusals)
    lines = [f"Published: on {n} validation patients it is shown to be no worse than what was there."]
    for one in differences:
        if one.metric == MAIN:
            about = f"{NAMES[MAIN]}{_where(one, differences)}"
            lines.append(
                f"Its {about} is {_amount(one.mean)} that of {_whom(one)} ({_span(one)}); "
                f"higher in {one.share_better:.0%} of patients."
            )
    return tuple(lines)


def _whom(one: Difference) -> str:
    return "the served model" if one.other == "served" else "the best model so far"


def _where(one: Difference, differences: Sequence[Difference]) -> str:
    """Dataset and mode, if there are several."""
    named = [getattr(one, key) for key in ("dataset", "mode") if len({getattr(d, key) for d in differences}) > 1]
    return f" ({', '.join(named)})" if named else ""


def _amount(mean: float | None) -> str:
    if not mean:
        return "the same as"
    if abs(mean) < 5e-4:
        return f"a trace {'higher' if mean > 0 else 'lower'} than"
    return f"{abs(mean):.3f} {'higher' if mean > 0 else 'lower'} than"


def _span(one: Difference) -> str:
    return f"95 % interval {one.low:+.3f} to {one.high:+.3f}"


def _weights(records: Sequence[Record]) -> str | None:
    return records[0]["model"]["sha256"] if records else None
