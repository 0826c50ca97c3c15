"""Proposals: masks of one structure in images that nobody has labelled, made without a user's click.

A click falls where the structure lies in the labelled images; its answer is the proposal. How far that agrees with the
answer to a click at its deepest voxel is the confidence.
"""

import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from monailabel.datastore.local import LocalDatastore
from numpy.typing import NDArray

from lib.activelearning.first_clicks import LEAST_VOXELS
from lib.activelearning.scoring import file_stamp
from lib.annotations.label_names import label_of
from lib.annotations.usual_place import LEAST_LABELS, usual_place, voxel_at
from lib.evaluation.metrics import dice
from lib.evaluation.simulated_user import deepest_error
from lib.geometry.axes import Array
from lib.host.saved_labels import labelled_cases
from lib.host.studies_datastore import tag_text
from lib.host.workflow import Workflow
from lib.infers.write_mask import write_mask
from lib.prompts.click import Click
from lib.prompts.prompts import Prompts
from lib.serving.preset_segmenter import OpenSegmenter, PresetSegmenter
from lib.volumes.read import read_volume
from lib.volumes.volume import ImageError, Volume
from lib.workers.choice import IN_PROCESS, WorkerChoice
from lib.workflow.proposals import KEY, TAG

logger = logging.getLogger(__name__)

PROPOSED, UP_TO_DATE, NOTHING, FAILED = "proposed", "up_to_date", "nothing_found", "failed"


class NoPlace(ValueError):
    """Too few labels to tell where a structure lies."""


@dataclass(frozen=True, eq=False)
class Proposed:
    """A mask that nobody asked for.

    Attributes:
        mask: (i, j, k) bool.
        confidence: Dice between it and the answer to a click at its deepest voxel, 0 to 1; no predicted Dice.
    """

    mask: NDArray[np.bool_]
    confidence: float


def propose(image: Volume, place: Array, segmenter: OpenSegmenter) -> Proposed | None:
    """The mask of the structure that lies at a place of an image; None where nothing is found there.

    Args:
        image: the whole image.
        place: from `usual_place`.
        segmenter: with one version of the weights.

    Raises:
        ImageError: an image without contrast.
    """

    def answer(voxel: tuple[int, int, int]) -> NDArray[np.bool_]:
        return segmenter.segment(image, Prompts((Click(voxel),))).mask > 0

    mask = answer(voxel_at(place, image.voxels.shape, image.affine))
    if np.count_nonzero(mask) < LEAST_VOXELS:
        return None
    deepest = deepest_error(mask, seed=0)
    assert deepest is not None  # the mask is not empty
    return Proposed(mask, dice(mask, answer(deepest)))


@dataclass(frozen=True)
class ProposeCase:
    """An image that is to have a proposal.

    Attributes:
        image: id.
        path: its file or folder.
        facts: what the proposal counts for: structure, version of the weights, file of the image.
    """

    image: str
    path: Path
    facts: dict[str, str]


@dataclass(frozen=True)
class MaskFile:
    """A proposal as it is saved.

    Attributes:
        content: of a ``.nii.gz`` file.
        confidence: as `Proposed`.
    """

    content: bytes
    confidence: float


def propose_case(place: Array, segmenter: OpenSegmenter, case: ProposeCase) -> MaskFile | None:
    """The proposal for one image, on whatever worker; None where nothing is found.

    Raises:
        ImageError: an image that cannot be read, or without contrast.
        OSError: there is no such file.
    """
    volume = read_volume(case.path)
    found = propose(volume, place, segmenter)
    if found is None:
        return None
    file = write_mask(found.mask.astype(np.uint8), volume.affine, ".nii.gz", compress=True)
    try:
        return MaskFile(file.read_bytes(), found.confidence)
    finally:
        file.unlink(missing_ok=True)


class Proposing:
    """Proposes masks for all cases of a folder that nobody has labelled, marked or drafted.

    A proposal of the version that is served, of the image as it is, is passed over. An image that cannot be read costs
    itself alone. A mask that a batch saved is left as it is.

    Args:
        segmenter: of the preset.
        workflow: has the marks of cases.
    """

    def __init__(self, segmenter: PresetSegmenter, workflow: Workflow) -> None:
        self._segmenter, self._workflow = segmenter, workflow

    def __call__(
        self,
        structure: str,
        datastore: LocalDatastore,
        *,
        device: str | None = None,
        told: Callable[[str, str], None] = lambda image, outcome: None,
        workers: WorkerChoice = IN_PROCESS,
    ) -> dict[str, int]:
        """Proposes what has no proposal yet, and keeps each at once.

        Args:
            structure: name in the labels that there are.
            datastore: of a folder.
            device: as `PresetSegmenter.open`.
            told: called with each image's id and what became of it.
            workers: where images are segmented.

        Returns:
            How many images there are of each outcome.

        Raises:
            NoPlace: fewer labels of the structure than it takes to know its place.
            CheckpointError: no version of the preset can be served.
            WorkersError: the workers cannot be used.
            WorkflowError: the database cannot be used.
        """
        os.nice(10)  # users' clicks come first
        place = usual_place(labelled_cases(datastore), structure)
        if place is None:
            raise NoPlace(
                f"Fewer than {LEAST_LABELS} submitted labels here have a '{structure}', so that nobody knows where it "
                "lies. Label some cases first, or look at how their segments are called."
            )
        served = self._segmenter.open(device)
        counts = dict.fromkeys((PROPOSED, UP_TO_DATE, NOTHING, FAILED), 0)

        def tell(image: str, outcome: str) -> None:
            counts[outcome] += 1
            told(image, outcome)

        open_tool = partial(self._segmenter.open, served.device, served.model_version)
        with workers.start(open_tool, device=served.device) as started:
            cases = self._open_cases(label_of(structure), datastore, served.model_version, tell)
            for case, done in started.each(partial(propose_case, place), cases):
                try:
                    outcome = self._keep(case, done.result(), structure, datastore)
                except ImageError as error:
                    logger.warning("No mask was proposed for an image (%s).", type(error).__name__)
                    outcome = FAILED
                # Broad: a fault at one image must not end the others. Its name may be that of a patient.
                except Exception:
                    logger.warning("No mask was proposed for an image.", exc_info=True)
                    outcome = FAILED
                tell(case.image, outcome)
        return counts

    def _open_cases(
        self, structure: str, datastore: LocalDatastore, weights: str, tell: Callable[[str, str], None]
    ) -> Iterator[ProposeCase]:
        """Images without label, mark or draft whose proposal does not count any more, or that have none."""
        known = self._workflow.read(datastore)
        for image in sorted(datastore.list_images()):
            if known.by_image.get(image) or image in known.marks:
                continue
            # Broad: as above.
            try:
                path = Path(datastore.get_image_uri(image))
                facts = {"structure": structure, "version": weights, "file": file_stamp(path)}
            except Exception:
                logger.warning("No mask was proposed for an image.", exc_info=True)
                tell(image, FAILED)
                continue
            there = _saved(image, datastore)
            if there is not None and (KEY not in there or facts.items() <= there[KEY].items()):
                tell(image, UP_TO_DATE)
            else:
                yield ProposeCase(image, path, facts)

    def _keep(self, case: ProposeCase, found: MaskFile | None, structure: str, datastore: LocalDatastore) -> str:
        there = _saved(case.image, datastore)
        if found is None:
            if there is not None:  # of another version, or of the image that was here before
                datastore.remove_label(case.image, TAG)
            return NOTHING
        info = {
            "model": self._segmenter.preset.name,
            "label_info": [{"name": structure, "idx": 1}],
            KEY: {**case.facts, "confidence": round(found.confidence, 3), "at": time.time()},
        }
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "mask.nii.gz"
            file.write_bytes(found.content)
            datastore.save_label(case.image, str(file), TAG, info)
        return PROPOSED


def _saved(image: str, datastore: LocalDatastore) -> dict[str, Any] | None:
    """What is kept of the mask that an image has under the tag of proposals; None where it has none."""
    case = datastore._datastore.objects[image]
    return next((entry.info for tag, entry in case.labels.items() if tag_text(tag) == TAG), None)
