"""Next Sample by coverage: the case that looks least like those that are labelled or that somebody has."""

from collections.abc import Collection, Hashable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lib.activelearning.by_score import ByScore, Scores
from lib.activelearning.next_case import Pool, seen_longest_ago
from lib.workflow.scores import WHOLE, Score
from lib.workflow.served import FALLBACK, STRATEGY

_IN_TURN = "no case has a score with the weights that are served, so cases come in turn"


class Coverage(ByScore):
    """Farthest first over the features that the network sees in the images.

    The first case is the one that looks most like all others. A case without a score of the weights that are served
    comes after those that have one, and where none has, the queue chooses; the log says so.
    """

    name = "coverage"
    what = "Case without a label that looks least like the labelled ones"

    def choose(self, pool: Pool) -> tuple[str, str]:
        """As `NextCase.choose`."""
        chosen = by_coverage(pool, vectors(self.scores(pool).get(WHOLE, {})))
        self.tell("" if chosen else _IN_TURN)
        return (chosen, STRATEGY) if chosen else (seen_longest_ago(pool), FALLBACK)

    def unscored(self, scores: Scores, images: Sequence[str], unlabelled: Sequence[str]) -> Collection[Hashable]:
        """As `ByScore.unscored`."""
        return set(images) - set(scores.get(WHOLE, {}))


def by_coverage(pool: Pool, features: Mapping[str, NDArray[np.float32]]) -> str | None:
    """The case of a pool that looks least like those that are covered; None where no case has features."""
    rest = [image for image in pool.images if image in features]
    return farthest(features, rest, [image for image in sorted(pool.covered) if image in features]) if rest else None


def vectors(scores: Mapping[str, Score]) -> dict[str, NDArray[np.float32]]:
    """The features by image id; images that have none are left out."""
    return {image: np.frombuffer(score.numbers, "<f4") for image, score in scores.items() if score.numbers}


def scaled(features: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float64]]:
    """Features with mean 0 and deviation 1 over all images; one that is the same in all images becomes 0."""
    every = np.stack(list(features.values())).astype(np.float64)
    deviation = every.std(axis=0)
    deviation[deviation == 0] = 1
    return dict(zip(features, (every - every.mean(axis=0)) / deviation, strict=True))


def farthest(features: Mapping[str, NDArray[np.float32]], images: list[str], covered: list[str]) -> str:
    """The image that is farthest from the nearest covered one; where none is covered, the one in the middle of all.

    Args:
        features: (F,) by image id; each is brought to deviation 1 over all images.
        images: to choose from, at least one.
        covered: images.
    """
    at = scaled(features)
    places = np.stack([at[name] for name in images])
    if not covered:
        return images[int(np.square(places).sum(axis=1).argmin())]
    nearest = np.full(len(images), np.inf)
    for name in covered:
        nearest = np.minimum(nearest, np.square(places - at[name]).sum(axis=1))
    return images[int(nearest.argmax())]
