"""What strategies of Next Sample share that choose by scores."""

import logging
from abc import abstractmethod
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from typing import Any

from monailabel.interfaces.datastore import Datastore

from lib.activelearning.next_case import NextCase, Pool
from lib.host.workflow import Workflow
from lib.registry.errors import RegistryError
from lib.serving.predicted_dice import Calibration
from lib.serving.preset_segmenter import PresetSegmenter
from lib.workflow.scores import Score, read_scores

logger = logging.getLogger(__name__)

Scores = Mapping[str, Mapping[str, Score]]
"""By structure and image id."""


class ByScore(NextCase):
    """Chooses by scores of the weights that are served; what has none is scored beside the server from then on.

    Args:
        workflow: as `NextCase`; its database has the scores.
        segmenter: of the preset whose scores count; None where there is none.
        score: begins to score the images that have no score yet; whether it did.
        more: as `NextCase`.
    """

    what = ""
    """In words, for viewers."""

    def __init__(
        self,
        workflow: Workflow,
        segmenter: PresetSegmenter | None,
        score: Callable[[], bool],
        **more: Any,
    ) -> None:
        super().__init__(workflow, self.what, **more)
        self._segmenter, self._score = segmenter, score
        self._asked: frozenset[tuple[Hashable, str]] = frozenset()
        self._told = ""

    @abstractmethod
    def unscored(self, scores: Scores, images: Sequence[str], unlabelled: Sequence[str]) -> Collection[Hashable]:
        """What is to be scored, such as ids of images; nothing where a scoring would find nothing to do."""

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        """As `NextCase`; images that came since are scored from then on."""
        chosen = super().__call__(request, datastore)
        if self._segmenter is not None:
            self._score_new(self._segmenter, datastore)
        return chosen

    def scores(self, pool: Pool) -> Scores:
        """The scores of the weights that are served."""
        if self._segmenter is None or (version := self._version(self._segmenter)) is None:
            return {}
        return read_scores(pool.connection, self._segmenter.preset.name, version)

    def calibration(self) -> Calibration | None:
        """What predicts the Dice of the version that is served; None where nothing does."""
        if self._segmenter is None or (version := self._version(self._segmenter)) is None:
            return None
        return self._segmenter.calibration(version)

    def tell(self, why: str = "") -> None:
        """Logs that cases are not chosen as they should be, or that they are again; once."""
        if why != self._told:
            self._told = why
            logger.warning("Next sample: %s.", why or f"cases are chosen by {self.name} again")

    @staticmethod
    def _version(segmenter: PresetSegmenter) -> str | None:
        try:
            return segmenter.served.weights_sha256()
        except (RegistryError, OSError) as error:
            logger.warning("Next sample: which weights are served is not known (%s).", type(error).__name__)
            return None

    def _score_new(self, segmenter: PresetSegmenter, datastore: Datastore) -> None:
        if (version := self._version(segmenter)) is None:
            return
        try:
            with self._workflow.database(datastore).reading() as connection:
                known = read_scores(connection, segmenter.preset.name, version)
            unscored = self.unscored(known, datastore.list_images(), datastore.get_unlabeled_images())
        except OSError as error:
            logger.warning("Next sample: new images are not scored (%s).", type(error).__name__)
            return
        # What could not be scored a moment ago is not tried again before something new comes.
        wanted = frozenset((one, version) for one in unscored)
        if wanted - self._asked and self._score():
            self._asked = wanted
