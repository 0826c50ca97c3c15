"""Next Sample by predicted error: the case in which the model is likely to answer a first click badly.

After ClaSP PE (arXiv 2601.13677): noise that shrinks as labels come, and a share of the choices by strata.
"""

import math
import random
import warnings
from collections.abc import Collection, Hashable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2

from lib.activelearning.by_score import ByScore, Scores
from lib.activelearning.coverage import by_coverage, scaled, vectors
from lib.activelearning.first_clicks import found_clicks, unclicked
from lib.activelearning.next_case import Pool, seen_longest_ago
from lib.workflow.scores import WHOLE
from lib.workflow.served import FALLBACK, STRATEGY

FIRST_LABELS = 10
"""So many cases are chosen by coverage: a model that has learned from fewer says little of its errors."""
LAST_LABELS = 50
"""From so many labels on there is hardly any noise left."""
BETA = (1.0, 100.0)
"""Of the noise at `FIRST_LABELS` and at `LAST_LABELS`, exponentially between; its scale is 1 / beta."""
STRATIFIED = 0.66
"""Share of the choices that are made within one stratum."""
CLUSTERS = 4
"""Strata where all labels are of one structure."""

_BY_COVERAGE = "no case that is left has a predicted error, so cases are chosen by coverage"
_IN_TURN = "no case that is left has a score with the weights that are served, so cases come in turn"


class PredictedError(ByScore):
    """Chooses by predicted error with noise, two in three times within a stratum that is drawn.

    Strata are the structures that were labelled; where it is one, clusters of cases that look alike to the network.
    The first `FIRST_LABELS` cases are chosen by coverage, and so are those that have no predicted error, after all that
    have one. Where there are no features either, the queue chooses.
    """

    name = "predicted_error"
    what = "Case without a label in which the model is likely to answer a click badly"

    def choose(self, pool: Pool) -> tuple[str, str]:
        """As `NextCase.choose`."""
        scores = self.scores(pool)
        features = vectors(scores.get(WHOLE, {}))
        errors = self._errors(scores, pool) if pool.labels >= FIRST_LABELS else {}
        if errors:
            self.tell()
            drawn = pool.draw.choice(strata(errors, features))
            by_image = drawn if pool.draw.random() < STRATIFIED else _mean(errors)
            return noisiest(by_image, beta(pool.labels), pool.draw), STRATEGY
        chosen = by_coverage(pool, features)
        is_early = pool.labels < FIRST_LABELS
        self.tell(_IN_TURN if chosen is None else "" if is_early else _BY_COVERAGE)
        return (seen_longest_ago(pool), FALLBACK) if chosen is None else (chosen, STRATEGY)

    def unscored(self, scores: Scores, images: Sequence[str], unlabelled: Sequence[str]) -> Collection[Hashable]:
        """As `ByScore.unscored`."""
        return (set(images) - set(scores.get(WHOLE, {}))) | unclicked(scores, images, unlabelled)

    def _errors(self, scores: Scores, pool: Pool) -> dict[str, dict[str, float]]:
        """By structure and image of the pool, where the model found the structure."""
        calibration, images = self.calibration(), set(pool.images)
        found = {
            structure: {image: one.error(calibration) for image, one in clicks.items() if image in images}
            for structure, clicks in found_clicks(scores).items()
        }
        return {structure: errors for structure, errors in found.items() if errors}


def beta(labels: int) -> float:
    """Of the noise beside `noisiest` scores.

    Args:
        labels: how many cases are labelled.
    """
    done = min(max((labels - FIRST_LABELS) / (LAST_LABELS - FIRST_LABELS), 0.0), 1.0)
    return BETA[0] * (BETA[1] / BETA[0]) ** done


def noisiest(scores: Mapping[str, float], beta: float, draw: random.Random) -> str:
    """The name with the largest log(score) + Gumbel noise of scale 1 / beta: each with a chance like score ** beta.

    Args:
        scores: 0 to 1, by name; at least one.
        beta: above 0.
        draw: source of the noise.
    """

    def noisy(name: str) -> float:
        gumbel = -math.log(max(draw.expovariate(1.0), 1e-12))
        return math.log(max(scores[name], 1e-6)) + gumbel / beta

    return max(sorted(scores), key=noisy)


def strata(
    errors: Mapping[str, Mapping[str, float]], features: Mapping[str, NDArray[np.float32]]
) -> list[dict[str, float]]:
    """Groups of cases with their errors; at least one, none of them empty.

    Args:
        errors: by structure and image id; at least one.
        features: (F,) by image id, as far as there are.
    """
    if len(errors) > 1:
        return [dict(errors[structure]) for structure in sorted(errors)]
    (own,) = errors.values()
    groups: dict[int, dict[str, float]] = {}
    cluster = clusters(features)
    for image, error in own.items():
        groups.setdefault(cluster.get(image, -1), {})[image] = error
    return [groups[number] for number in sorted(groups)]


def clusters(features: Mapping[str, NDArray[np.float32]]) -> dict[str, int]:
    """The cluster of each image, by k-means; all in one where there are few images.

    Args:
        features: (F,) by image id.
    """
    if len(features) <= CLUSTERS:
        return dict.fromkeys(features, 0)
    at = scaled(features)
    names = sorted(at)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of an empty cluster, which is none of ours
        _, numbers = kmeans2(np.stack([at[name] for name in names]), CLUSTERS, minit="++", seed=0)
    return dict(zip(names, numbers.tolist(), strict=True))


def _mean(errors: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Mean over the structures that were found in an image."""
    found: dict[str, list[float]] = {}
    for by_image in errors.values():
        for image, error in by_image.items():
            found.setdefault(image, []).append(error)
    return {image: float(np.mean(values)) for image, values in found.items()}
