"""Strata of cases by structure, so that structures that were labelled earlier keep their part in learning."""

from collections import Counter
from collections.abc import Iterable

from lib.annotations.label_names import label_of
from lib.annotations.submitted import SubmittedCase

MOST_STRATA = 8
"""Each takes memory of its own in a training."""


def strata(cases: Iterable[SubmittedCase]) -> dict[str, list[SubmittedCase]]:
    """Cases by structure, each once: a case with several counts for the one that the fewest cases show.

    Args:
        cases: their order is kept.

    Returns:
        At most `MOST_STRATA`, the largest first; the smallest are put together under "".
    """
    cases = list(cases)
    counts = Counter(name for case in cases for name in structures_of(case))
    rarest = [min(structures_of(case), key=lambda name: (counts[name], name)) for case in cases]
    sizes = sorted(Counter(rarest).items(), key=lambda item: (-item[1], item[0]))
    kept = [name for name, _ in (sizes if len(sizes) <= MOST_STRATA else sizes[: MOST_STRATA - 1])]
    found: dict[str, list[SubmittedCase]] = {name: [] for name in kept}
    for name, case in zip(rarest, cases, strict=True):
        found.setdefault(name if name in kept else "", []).append(case)
    return found


def structures_of(case: SubmittedCase) -> set[str]:
    """The structures of a case, without the numbers of instances."""
    return {label_of(name) for name in case.names}
