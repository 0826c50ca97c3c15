"""Scores of images for `lib.activelearning.coverage`: worked out beside the server, or by ``sam3d score``."""

import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.scoring import ScoringMethod

from lib.host.batch_inference import batch_device
from lib.host.workflow import Workflow
from lib.serving.preset_segmenter import OpenSegmenter, PresetSegmenter
from lib.volumes.read import read_volume
from lib.volumes.volume import ImageError, file_key
from lib.workers.choice import IN_PROCESS, WorkerChoice
from lib.workflow.database import Database
from lib.workflow.scores import Score, keep_score, read_score

logger = logging.getLogger(__name__)

SCORED, UP_TO_DATE, FAILED = "scored", "up_to_date", "failed"


class NoFeatures(ValueError):
    """A network that says nothing of an image as a whole."""


@dataclass(frozen=True)
class ScoreCase:
    """An image that is to be scored.

    Attributes:
        image: id.
        path: its file or folder.
        known: its score until now; None where it has none.
    """

    image: str
    path: Path
    known: Score | None


class FeatureScoring(ScoringMethod):
    """Works out the features of all images of a data store, and keeps each at once.

    An image whose file and version of the weights are those of its score is passed over. One that cannot be scored
    costs itself alone; it is not tried again with the same file and weights.

    Args:
        segmenters: by the name of their preset; the first one is taken where a request names none.
        workflow: its database takes the scores.
    """

    def __init__(self, segmenters: Mapping[str, PresetSegmenter], workflow: Workflow) -> None:
        super().__init__("Features of all images, by which the strategy 'coverage' chooses cases")
        self._segmenters, self._workflow = segmenters, workflow

    def __call__(
        self,
        request: Mapping[str, Any],
        datastore: Datastore,
        told: Callable[[str, str], None] = lambda image, outcome: None,
        workers: WorkerChoice = IN_PROCESS,
    ) -> dict[str, int]:
        """Scores what has no score yet.

        Args:
            request: may name a preset as ``model``, and a ``device``.
            datastore: of the app.
            told: called with each image's id and what became of it.
            workers: where images are scored.

        Returns:
            How many images were ``scored``, were ``up_to_date``, ``failed``.

        Raises:
            ValueError: there is no such preset.
            NoFeatures: of the preset's network; it can be asked again with another preset.
            CheckpointError: no version of the preset can be served.
            WorkersError: the workers cannot be used.
            WorkflowError: the database cannot be used.
        """
        os.nice(10)  # users' clicks come first
        name = request.get("model") or next(iter(self._segmenters))
        if name not in self._segmenters:
            raise ValueError(f"There is no preset '{name}' here; choose from: {', '.join(self._segmenters)}.")
        segmenter, device = self._segmenters[name], batch_device(request.get("device"))
        weights = segmenter.open(device).model_version
        database = self._workflow.database(datastore)
        counts = dict.fromkeys((SCORED, UP_TO_DATE, FAILED), 0)

        def tell(image: str, outcome: str) -> None:
            counts[outcome] += 1
            told(image, outcome)

        open_tool = partial(segmenter.open, device, weights)
        with workers.start(open_tool, device=device) as started:
            cases = _stale(datastore, database, name, weights, tell)
            for case, done in started.each(partial(score_case, name), cases):
                try:
                    score = done.result()
                except NoFeatures:
                    raise
                # Broad: a fault at one image must not end the others. Its name may be that of a patient.
                except Exception:
                    logger.warning("An image was not scored; it is tried again next time.", exc_info=True)
                    tell(case.image, FAILED)
                    continue
                with database.changing() as connection:
                    keep_score(connection, score)
                tell(case.image, _outcome(score, case.known))
        logger.info("Images were scored.", extra={"fields": {"preset": name, **counts}})
        return counts


def _stale(
    datastore: Datastore, database: Database, preset: str, weights: str, tell: Callable[[str, str], None]
) -> Iterator[ScoreCase]:
    """Images whose score does not count any more, or that have none; those of the others are told."""
    for image in sorted(datastore.list_images()):
        with database.reading() as connection:
            known = read_score(connection, preset, image)
        # Broad, for a PACS: its fault at one image must not end the others.
        try:
            path = Path(datastore.get_image_uri(image))
            file = file_stamp(path)
        except Exception:
            logger.warning("An image was not scored; it is tried again next time.", exc_info=True)
            tell(image, FAILED)
            continue
        if known is not None and (known.file, known.version) == (file, weights):
            tell(image, _outcome(known, known))
        else:
            yield ScoreCase(image, path, known)


def _outcome(score: Score, known: Score | None) -> str:
    if not score.features:
        return FAILED
    return UP_TO_DATE if known is not None and score.at == known.at else SCORED


def score_case(preset: str, segmenter: OpenSegmenter, case: ScoreCase) -> Score:
    """The score of one image; its features depend on its voxels and the weights alone.

    Args:
        preset: name of the segmenter's.
        segmenter: with one version of the weights.
        case: whose features are kept where voxels and weights are the same.

    Raises:
        NoFeatures: of the preset's network.
        MemoryShortage: the image is too large at the moment.
        OSError: there is no such file.
    """
    known, version = case.known, segmenter.model_version
    score = Score(case.image, preset, "", file_stamp(case.path), version, b"", time.time())
    try:
        volume = read_volume(case.path)
        if known is not None and (known.content, known.version) == (volume.content_key, version):
            return replace(known, file=score.file)
        seen = segmenter.features(volume)
    except ImageError as error:
        logger.warning("An image cannot be scored (%s).", type(error).__name__)
        return score
    if seen is None:
        raise NoFeatures(f"The network of preset '{preset}' has no features to compare images by. Name another preset.")
    # A volume without one finite value around its middle has none.
    features = seen.astype("<f4").tobytes() if np.isfinite(seen).all() else b""
    return replace(score, content=volume.content_key, features=features)


def file_stamp(path: Path) -> str:
    """Changes when an image's file, or a file of its folder, is replaced; not where all are moved.

    Raises:
        OSError: there is no such file.
    """
    return hashlib.sha256(repr(file_key(path)[1:]).encode()).hexdigest()
