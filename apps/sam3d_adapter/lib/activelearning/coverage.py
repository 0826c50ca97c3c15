"""Next Sample by coverage: the case that stands for most of what is unlike the labelled ones."""

import random
from collections.abc import Collection, Hashable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from lib.activelearning.by_score import ByScore, Scores
from lib.activelearning.next_case import Pool, seen_longest_ago
from lib.workflow.scores import WHOLE, Score
from lib.workflow.served import FALLBACK, STRATEGY

SAMPLE = 1000
"""In larger pools so many images count, drawn at random, so that a choice stays quick."""

_IN_TURN = "no case has a score with the weights that are served, so cases come in turn"


class Coverage(ByScore):
    """Chooses by the features that the network sees in the images, so that each has a covered case that looks like it.

    Covered are cases that are labelled or that somebody has. The first case is the most typical of all. A case without
    a score of the weights that are served comes after those that have one, and where none has, the queue chooses; the
    log says so.
    """

    name = "coverage"
    what = "Case without a label that stands for most of what is unlike the labelled ones"

    def choose(self, pool: Pool) -> tuple[str, str]:
        """As `NextCase.choose`."""
        chosen = by_coverage(pool, vectors(self.scores(pool).get(WHOLE, {})))
        self.tell("" if chosen else _IN_TURN)
        return (chosen, STRATEGY) if chosen else (seen_longest_ago(pool), FALLBACK)

    def unscored(self, scores: Scores, images: Sequence[str], unlabelled: Sequence[str]) -> Collection[Hashable]:
        """As `ByScore.unscored`."""
        return set(images) - set(scores.get(WHOLE, {}))


def by_coverage(pool: Pool, features: Mapping[str, NDArray[np.float32]]) -> str | None:
    """The case of a pool that covers most of what is not covered yet; None where no case has features."""
    rest = [image for image in pool.images if image in features]
    covered = [image for image in sorted(pool.covered) if image in features]
    return representative(features, rest, covered) if rest else None


def vectors(scores: Mapping[str, Score]) -> dict[str, NDArray[np.float32]]:
    """The features by image id; images that have none are left out."""
    return {image: np.frombuffer(score.numbers, "<f4") for image, score in scores.items() if score.numbers}


def scaled(features: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float64]]:
    """Features with mean 0 and deviation 1 over all images; one that is the same in all images becomes 0."""
    every = np.stack(list(features.values())).astype(np.float64)
    deviation = every.std(axis=0)
    deviation[deviation == 0] = 1
    return dict(zip(features, (every - every.mean(axis=0)) / deviation, strict=True))


def representative(features: Mapping[str, NDArray[np.float32]], images: list[str], covered: list[str]) -> str:
    """The image that leaves all images closest, on average, to a covered one: greedy k-medoids.

    Not the one that is farthest from all covered ones: that takes outliers first, however few they are
    (docs/experiments/active-learning.md).

    Args:
        features: (F,) by image id; each is brought to deviation 1 over all images.
        images: to choose from, at least one.
        covered: images.
    """
    at = scaled(features)
    names = sorted(at)
    counted = names if len(names) <= SAMPLE else random.Random(0).sample(names, SAMPLE)
    every = np.stack([at[name] for name in counted])
    left = cdist(every, np.stack([at[name] for name in images]))
    if covered:
        nearest = cdist(every, np.stack([at[name] for name in covered])).min(axis=1)
        left = np.minimum(left, nearest[:, None])
    return images[int(left.mean(axis=0).argmin())]
