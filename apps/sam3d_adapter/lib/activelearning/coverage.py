"""Next Sample by coverage: the case that looks least like those that are labelled or that somebody has."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from monailabel.interfaces.datastore import Datastore
from numpy.typing import NDArray

from lib.activelearning.next_case import NextCase, Pool, seen_longest_ago
from lib.host.workflow import Workflow
from lib.registry.errors import RegistryError
from lib.serving.preset_segmenter import PresetSegmenter
from lib.workflow.scores import Score, read_scores
from lib.workflow.served import FALLBACK, STRATEGY

logger = logging.getLogger(__name__)

_IN_TURN = "no case has a score with the weights that are served, so cases come in turn"
_BY_COVERAGE = "cases are chosen by coverage again"


class Coverage(NextCase):
    """Farthest first over the features that the network sees in the images.

    The first case is the one that looks most like all others. A case without a score of the weights that are served
    comes after those that have one, and where none has, the queue chooses; the log says so.

    Args:
        workflow: as `NextCase`; its database has the scores.
        segmenter: of the preset whose scores count; None where there is none.
        score: begins to score the images that have no score yet; whether it did.
        more: as `NextCase`.
    """

    name = "coverage"

    def __init__(
        self, workflow: Workflow, segmenter: PresetSegmenter | None, score: Callable[[], bool], **more: Any
    ) -> None:
        super().__init__(workflow, "Case without a label that looks least like the labelled ones", **more)
        self._segmenter, self._score = segmenter, score
        self._unscored: frozenset[tuple[str, str]] = frozenset()
        self._said = False

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        """As `NextCase`; images that came since are scored from then on."""
        chosen = super().__call__(request, datastore)
        if self._segmenter is not None:
            self._score_new(self._segmenter, datastore)
        return chosen

    def choose(self, pool: Pool) -> tuple[str, str]:
        """As `NextCase.choose`."""
        scores = self._scores(pool)
        rest = [image for image in pool.images if image in scores]
        if self._said is bool(rest):
            self._said = not rest
            logger.warning("Next sample: %s.", _BY_COVERAGE if rest else _IN_TURN)
        if not rest:
            return seen_longest_ago(pool), FALLBACK
        return farthest(scores, rest, [image for image in sorted(pool.covered) if image in scores]), STRATEGY

    def _scores(self, pool: Pool) -> dict[str, NDArray[np.float32]]:
        if self._segmenter is None:
            return {}
        try:
            version = self._segmenter.served.weights_sha256()
        except (RegistryError, OSError) as error:
            logger.warning("Next sample: which weights are served is not known (%s).", type(error).__name__)
            return {}
        return vectors(read_scores(pool.connection, self._segmenter.preset.name, version))

    def _score_new(self, segmenter: PresetSegmenter, datastore: Datastore) -> None:
        try:
            version = segmenter.served.weights_sha256()
            with self._workflow.database(datastore).reading() as connection:
                known = read_scores(connection, segmenter.preset.name, version)
            unscored = frozenset((image, version) for image in datastore.list_images() if image not in known)
        except (RegistryError, OSError) as error:
            logger.warning("Next sample: new images are not scored (%s).", type(error).__name__)
            return
        # What could not be scored a moment ago is not tried again before something new comes.
        if unscored - self._unscored and self._score():
            self._unscored = unscored


def vectors(scores: Mapping[str, Score]) -> dict[str, NDArray[np.float32]]:
    """The features by image id; images that have none are left out."""
    return {image: np.frombuffer(score.features, "<f4") for image, score in scores.items() if score.features}


def farthest(features: Mapping[str, NDArray[np.float32]], images: list[str], covered: list[str]) -> str:
    """The image that is farthest from the nearest covered one; where none is covered, the one in the middle of all.

    Args:
        features: (F,) by image id; each is brought to deviation 1 over all images.
        images: to choose from, at least one.
        covered: images.
    """
    every = np.stack(list(features.values())).astype(np.float64)
    middle, deviation = every.mean(axis=0), every.std(axis=0)
    deviation[deviation == 0] = 1

    def scaled(names: list[str]) -> NDArray[np.float64]:
        return (np.stack([features[name] for name in names]) - middle) / deviation

    places = scaled(images)
    if not covered:
        return images[int(np.square(places).sum(axis=1).argmin())]
    nearest = np.full(len(images), np.inf)
    for centre in scaled(covered):
        nearest = np.minimum(nearest, np.square(places - centre).sum(axis=1))
    return images[int(nearest.argmax())]
