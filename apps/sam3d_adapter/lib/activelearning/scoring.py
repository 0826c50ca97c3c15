"""Scores of images for `lib.activelearning.coverage`: worked out beside the server, or by ``sam3d score``."""

import hashlib
import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
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
from lib.workflow.database import Database, WorkflowError
from lib.workflow.scores import Score, keep_score, read_score

logger = logging.getLogger(__name__)

SCORED, UP_TO_DATE, FAILED = "scored", "up_to_date", "failed"


class NoFeatures(ValueError):
    """A network that says nothing of an image as a whole."""


class FeatureScoring(ScoringMethod):
    """Works out the features of all images of a data store, one after the other, and keeps each at once.

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
        self, request: Mapping[str, Any], datastore: Datastore, told: Callable[[str, str], None] | None = None
    ) -> dict[str, int]:
        """Scores what has no score yet.

        Args:
            request: may name a preset as ``model``, and a ``device``.
            datastore: of the app.
            told: called with each image's id and what became of it.

        Returns:
            How many images were ``scored``, were ``up_to_date``, ``failed``.

        Raises:
            ValueError: there is no such preset.
            NoFeatures: of the preset's network; it can be asked again with another preset.
            CheckpointError: no version of the preset can be served.
            WorkflowError: the database cannot be used.
        """
        os.nice(10)  # users' clicks come first
        name = request.get("model") or next(iter(self._segmenters))
        if name not in self._segmenters:
            raise ValueError(f"There is no preset '{name}' here; choose from: {', '.join(self._segmenters)}.")
        segmenter = self._segmenters[name].open(batch_device(request.get("device")))
        database = self._workflow.database(datastore)
        counts = dict.fromkeys((SCORED, UP_TO_DATE, FAILED), 0)
        for image in sorted(datastore.list_images()):
            outcome = _score_one(image, name, segmenter, database, datastore)
            counts[outcome] += 1
            if told is not None:
                told(image, outcome)
        logger.info("Images were scored.", extra={"fields": {"preset": name, **counts}})
        return counts


def _score_one(image: str, preset: str, segmenter: OpenSegmenter, database: Database, datastore: Datastore) -> str:
    """Scores an image if it has to be, and says what became of it."""
    try:
        with database.reading() as connection:
            known = read_score(connection, preset, image)
        score = score_of(image, Path(datastore.get_image_uri(image)), preset, segmenter, known)
    except (NoFeatures, WorkflowError):
        raise
    # Broad: a fault at one image must not end the others. Its name may be that of a patient, so the log has it not.
    except Exception:
        logger.warning("An image was not scored; it is tried again next time.", exc_info=True)
        return FAILED
    if score != known:
        with database.changing() as connection:
            keep_score(connection, score)
    if not score.features:
        return FAILED
    return UP_TO_DATE if known is not None and score.at == known.at else SCORED


def score_of(image: str, path: Path, preset: str, segmenter: OpenSegmenter, known: Score | None = None) -> Score:
    """The score of one image; its features depend on its voxels and the weights alone.

    Args:
        image: id.
        path: its file or folder.
        preset: name of the segmenter's.
        segmenter: with one version of the weights.
        known: its score until now, which is kept where image and weights are the same.

    Raises:
        NoFeatures: of the preset's network.
        MemoryShortage: the image is too large at the moment.
        OSError: there is no such file.
    """
    version, file = segmenter.model_version, file_stamp(path)
    if known is not None and (known.file, known.version) == (file, version):
        return known
    score = Score(image, preset, "", file, version, b"", time.time())
    try:
        volume = read_volume(path)
        if known is not None and (known.content, known.version) == (volume.content_key, version):
            return replace(known, file=file)
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
