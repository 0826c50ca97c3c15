"""Scores of images that Next Sample chooses by: worked out beside the server, or by ``sam3d score``."""

import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.scoring import ScoringMethod
from numpy.typing import NDArray

from lib.activelearning.first_clicks import FirstClicks, first_clicks, found_clicks
from lib.annotations.usual_place import LEAST_LABELS, usual_places
from lib.geometry.axes import Array
from lib.host.batch_inference import batch_device
from lib.host.saved_labels import labelled_cases
from lib.host.workflow import Workflow
from lib.learning.pool_quality import pool_quality, write_pool_quality
from lib.serving.preset_segmenter import OpenSegmenter, PresetSegmenter
from lib.volumes.read import read_volume
from lib.volumes.volume import ImageError, Volume, file_key
from lib.workers.choice import IN_PROCESS, WorkerChoice
from lib.workflow.database import Database
from lib.workflow.scores import WHOLE, Score, keep_score, read_scores, scores_of_image

logger = logging.getLogger(__name__)

SCORED, UP_TO_DATE, NOTHING, FAILED = "scored", "up_to_date", "nothing_found", "failed"

Measure = Callable[[str, Volume, OpenSegmenter], NDArray[np.float32]]
"""Id of an image, the image, and a segmenter with one version of the weights -> what is kept of it."""


class NoFeatures(ValueError):
    """A network that says nothing of an image as a whole."""


@dataclass(frozen=True)
class ScoreCase:
    """An image that is to be scored.

    Attributes:
        image: id.
        path: its file or folder.
        measures: by structure, what is wanted.
        known: by structure, its scores until now.
    """

    image: str
    path: Path
    measures: Mapping[str, Measure]
    known: Mapping[str, Score]


class CaseScoring(ScoringMethod):
    """Works out what a strategy chooses by, of all images of a data store, and keeps each at once.

    An image whose file and version of the weights are those of its score is passed over. One that cannot be scored
    costs itself alone; it is not tried again with the same file and weights.

    Args:
        segmenters: by the name of their preset; the first one is taken where a request names none.
        workflow: its database takes the scores.
        features: whether to keep what the network sees in each image.
        clicks: whether to click on each structure that was labelled often enough, in images without a label.
    """

    def __init__(
        self, segmenters: Mapping[str, PresetSegmenter], workflow: Workflow, *, features: bool, clicks: bool
    ) -> None:
        super().__init__("Works out what Next Sample chooses cases by")
        self._segmenters, self._workflow = segmenters, workflow
        self._features, self._clicks = features, clicks

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
            How many images were ``scored``, were ``up_to_date``, had ``nothing_found`` to click on, ``failed``.

        Raises:
            ValueError: there is no such preset.
            NoFeatures: of the preset's network, where nothing else is wanted; name another preset.
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
        counts = dict.fromkeys((SCORED, UP_TO_DATE, NOTHING, FAILED), 0)

        def tell(image: str, outcome: str) -> None:
            counts[outcome] += 1
            told(image, outcome)

        open_tool = partial(segmenter.open, device, weights)
        with workers.start(open_tool, device=device) as started:
            cases = _stale(datastore, database, name, weights, self._measures(name, datastore), tell)
            for case, done in started.each(partial(score_case, name), cases):
                try:
                    scores = done.result()
                except NoFeatures:
                    raise
                # Broad: a fault at one image must not end the others. Its name may be that of a patient.
                except Exception:
                    logger.warning("An image was not scored; it is tried again next time.", exc_info=True)
                    tell(case.image, FAILED)
                    continue
                with database.changing() as connection:
                    for score in scores:
                        keep_score(connection, score)
                tell(case.image, _outcome(scores, case.known))
        if self._clicks:
            self._keep_quality(segmenter, device, datastore)
        logger.info("Images were scored.", extra={"fields": {"preset": name, **counts}})
        return counts

    def _keep_quality(self, segmenter: PresetSegmenter, device: str, datastore: Datastore) -> None:
        """For the page of versions: how good this version is on images without a label, where that can be predicted."""
        served, versions = segmenter.open(device), segmenter.served.versions
        if versions is None:
            return
        with self._workflow.database(datastore).reading() as connection:
            found = found_clicks(read_scores(connection, segmenter.preset.name, served.model_version))
        unlabelled, expected = set(datastore.get_unlabeled_images()), dict[str, list[float]]()
        for by_image in found.values():
            for image in by_image.keys() & unlabelled:
                expected.setdefault(image, []).append(float(np.mean(by_image[image].expected)))
        means = [float(np.mean(expected[image])) for image in sorted(expected)]
        known = served.calibration
        quality = None if known is None else pool_quality(known, served.version, means, len(unlabelled))
        write_pool_quality(versions.folder, quality)

    def _measures(self, preset: str, datastore: Any) -> Callable[[str], dict[str, Measure]]:
        """Id of an image -> by structure, what is wanted of it."""
        of_all: dict[str, Measure] = {}
        if self._features:
            of_all[WHOLE] = partial(measure_features, needed_of="" if self._clicks else preset)
        places = usual_places(labelled_cases(datastore)) if self._clicks else {}
        if self._clicks and not places:
            logger.warning(
                "There is nothing to click on yet: %d submitted labels of one structure are needed to know where it "
                "lies.", LEAST_LABELS,
            )  # fmt: skip
        unlabelled = set(datastore.get_unlabeled_images())
        clicks = {structure: partial(_clicks, place=place) for structure, place in places.items()}
        return lambda image: of_all | (clicks if image in unlabelled else {})


def _stale(
    datastore: Datastore,
    database: Database,
    preset: str,
    weights: str,
    measures: Callable[[str], Mapping[str, Measure]],
    tell: Callable[[str, str], None],
) -> Iterator[ScoreCase]:
    """Images of which a score does not count any more, or is missing; those of the others are told."""
    for image in sorted(datastore.list_images()):
        if not (wanted := measures(image)):
            continue
        with database.reading() as connection:
            known = scores_of_image(connection, preset, image)
        # Broad, for a PACS: its fault at one image must not end the others.
        try:
            path = Path(datastore.get_image_uri(image))
            file = file_stamp(path)
        except Exception:
            logger.warning("An image was not scored; it is tried again next time.", exc_info=True)
            tell(image, FAILED)
            continue
        scores = [known[name] for name in wanted if name in known]
        if len(scores) == len(wanted) and all((one.file, one.version) == (file, weights) for one in scores):
            tell(image, _outcome(scores, known))
        else:
            yield ScoreCase(image, path, wanted, known)


def _outcome(scores: Sequence[Score], known: Mapping[str, Score]) -> str:
    clicked = [score for score in scores if score.structure != WHOLE]
    # Not each network has features to go with the clicks.
    if any(not score.numbers for score in clicked or scores):
        return FAILED
    found = [FirstClicks.of_numbers(score.numbers) for score in clicked]
    if found and not any(one and one.is_found for one in found):
        return NOTHING
    before = {structure: score.at for structure, score in known.items()}
    return UP_TO_DATE if all(score.at == before.get(score.structure) for score in scores) else SCORED


def score_case(preset: str, segmenter: OpenSegmenter, case: ScoreCase) -> list[Score]:
    """The scores of one image; they depend on its voxels, the weights and the measures alone.

    Args:
        preset: name of the segmenter's.
        segmenter: with one version of the weights.
        case: whose scores are kept where voxels and weights are the same.

    Raises:
        NoFeatures: of the preset's network.
        MemoryShortage: the image is too large at the moment.
        OSError: there is no such file.
    """
    version, file, now = segmenter.model_version, file_stamp(case.path), time.time()
    unread = [Score(case.image, preset, structure, "", file, version, b"", now) for structure in case.measures]
    try:
        volume = read_volume(case.path)
    except ImageError as error:
        logger.warning("An image cannot be scored (%s).", type(error).__name__)
        return unread
    scores = []
    for score in unread:
        before = case.known.get(score.structure)
        if before is not None and (before.content, before.version) == (volume.content_key, version):
            scores.append(replace(before, file=file))
            continue
        numbers = b""
        try:
            numbers = case.measures[score.structure](case.image, volume, segmenter).astype("<f4").tobytes()
        except ImageError as error:
            logger.warning("An image cannot be scored (%s).", type(error).__name__)
        scores.append(replace(score, content=volume.content_key, numbers=numbers))
    return scores


def measure_features(image: str, volume: Volume, segmenter: OpenSegmenter, *, needed_of: str) -> NDArray[np.float32]:
    """What the network sees of an image: (F,); nothing of a volume without one finite value around its middle.

    Args:
        image: id.
        volume: the image.
        segmenter: with one version of the weights.
        needed_of: name of the preset, where an image without features cannot be scored.

    Raises:
        NoFeatures: such a network has none.
    """
    seen = segmenter.features(volume)
    if seen is None and needed_of:
        raise NoFeatures(
            f"The network of preset '{needed_of}' has no features to compare images by. Name another preset."
        )
    return seen if seen is not None and np.isfinite(seen).all() else np.zeros(0, np.float32)


def _clicks(image: str, volume: Volume, segmenter: OpenSegmenter, *, place: Array) -> NDArray[np.float32]:
    return first_clicks(image, volume, place, segmenter).numbers()


def file_stamp(path: Path) -> str:
    """Changes when an image's file, or a file of its folder, is replaced; not where all are moved.

    Raises:
        OSError: there is no such file.
    """
    return hashlib.sha256(repr(file_key(path)[1:]).encode()).hexdigest()
