"""Proposals: masks of one structure in images that nobody has labelled, made without a user's click.

A click falls where the structure lies in the labelled images; its answer is the proposal, with the Dice that is
predicted of that answer, as of a user's.
"""

import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from monailabel.datastore.dicom import DICOMWebDatastore
from monailabel.datastore.local import LocalDatastore

from lib.activelearning.first_clicks import LEAST_VOXELS
from lib.activelearning.scoring import file_stamp
from lib.annotations.label_names import label_of
from lib.annotations.made_with import modality_of_source
from lib.annotations.usual_place import LEAST_LABELS, usual_place, voxel_at
from lib.geometry.axes import Array
from lib.host.pacs.dicom_fetch import fetch_series
from lib.host.saved_labels import labelled_cases, mask_info
from lib.host.workflow import Workflow
from lib.infers.answer import answer_request
from lib.infers.write_mask import write_mask
from lib.presets import Preset
from lib.requests.request import Request
from lib.serving.preset_segmenter import OpenSegmenter, PresetSegmenter
from lib.volumes.read import read_volume
from lib.volumes.volume import ImageError
from lib.workers.choice import IN_PROCESS, WorkerChoice
from lib.workflow.proposals import KEY, TAG, is_rejected

logger = logging.getLogger(__name__)

PROPOSED, UP_TO_DATE, NOTHING, FAILED = "proposed", "up_to_date", "nothing_found", "failed"


class NoPlace(ValueError):
    """Too few labels to tell where a structure lies."""


@dataclass(frozen=True)
class ProposeCase:
    """An image that is to have a proposal.

    Attributes:
        image: id.
        path: its file or folder.
        modality: that the source of the image names; None where none does.
        facts: what the proposal counts for: structure, version of the weights, patients from whom its Dice can be
            predicted, file of the image.
    """

    image: str
    path: Path
    modality: str | None
    facts: dict[str, Any]


@dataclass(frozen=True)
class MaskFile:
    """A proposal as it is saved.

    Attributes:
        content: of a ``.nii.gz`` file.
        predicted_dice: as in an answer; None where nothing is predicted.
    """

    content: bytes
    predicted_dice: dict[str, Any] | None


def propose_case(place: Array, preset: Preset, segmenter: OpenSegmenter, case: ProposeCase) -> MaskFile | None:
    """The answer to one click where the structure usually lies, on whatever worker; None where nothing is found there.

    Args:
        place: from `usual_place`.
        preset: of the segmenter.
        segmenter: with one version of the weights.
        case: the image.

    Raises:
        ImageError: an image that cannot be read, or without contrast.
        OSError: there is no such file.
    """
    volume = read_volume(case.path)
    voxel = voxel_at(place, volume.voxels.shape, volume.affine)
    request = Request.read({"foreground": [list(voxel)], "device": segmenter.device}, preset.label)
    found = answer_request(preset, request, volume, segmenter, modality=case.modality)
    if np.count_nonzero(found.mask) < LEAST_VOXELS:
        return None
    file = write_mask(found.mask, volume.affine, ".nii.gz", compress=True)
    try:
        return MaskFile(file.read_bytes(), found.description["predicted_dice"])
    finally:
        file.unlink(missing_ok=True)


class Proposing:
    """Proposes masks for all cases that nobody has labelled, marked or drafted.

    A proposal of the version that is served, of the image as it is, is passed over, unless Dice is predicted by now
    from more patients and nobody has rejected it. An image that cannot be read costs itself alone. A mask that a batch
    saved is left as it is. Of a PACS, series are fetched into the server's cache, and proposals stay there.

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
            datastore: of a folder or a PACS.
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
            facts = {
                "structure": label_of(structure),
                "version": served.model_version,
                "patients": served.calibration.patients if served.calibration else 0,
            }
            do = partial(propose_case, place, self._segmenter.preset)
            for case, done in started.each(do, self._open_cases(facts, datastore, tell)):
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
        self, of_all: dict[str, Any], datastore: LocalDatastore, tell: Callable[[str, str], None]
    ) -> Iterator[ProposeCase]:
        """Images without label, mark or draft whose proposal does not count any more, or that have none."""
        known = self._workflow.read(datastore)
        is_pacs = isinstance(datastore, DICOMWebDatastore)
        # Labels that were stored in the PACS beside this server count as well.
        labelled = {*known.by_image, *known.marks, *(datastore.get_labeled_images() if is_pacs else ())}
        for image in sorted(set(datastore.list_images()) - labelled):
            # Broad: as above.
            try:
                if is_pacs:
                    fetch_series(image, datastore)
                path = Path(datastore.get_image_uri(image))
                facts = {**of_all, "file": file_stamp(path)}
                modality = modality_of_source(path, datastore.get_image_info(image), {})
            except Exception:
                logger.warning("No mask was proposed for an image.", exc_info=True)
                tell(image, FAILED)
                continue
            there = mask_info(image, TAG, datastore)
            if there is not None and (KEY not in there or _is_up_to_date(there, facts)):
                tell(image, UP_TO_DATE)
            else:
                yield ProposeCase(image, path, modality, facts)

    def _keep(self, case: ProposeCase, found: MaskFile | None, structure: str, datastore: LocalDatastore) -> str:
        there = mask_info(case.image, TAG, datastore)
        if found is None:
            if there is not None:  # of another version, or of the image that was here before
                datastore.remove_label(case.image, TAG)
                datastore.refresh()
            return NOTHING
        info = {
            "model": self._segmenter.preset.name,
            "label_info": [{"name": structure, "idx": 1}],
            KEY: {**case.facts, "predicted_dice": found.predicted_dice, "at": time.time()},
        }
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "mask.nii.gz"
            file.write_bytes(found.content)
            datastore.save_label(case.image, str(file), TAG, info)
        return PROPOSED


def _is_up_to_date(there: Mapping[str, Any], facts: Mapping[str, Any]) -> bool:
    """Whether a proposal would be the same mask now, with the same predicted Dice; that of a rejected one is no matter.

    Args:
        there: what is kept of it.
        facts: of a proposal that were made now.
    """
    asked = facts.keys() - {"patients"} if is_rejected(there) else facts.keys()
    return all(there[KEY].get(key) == facts[key] for key in asked)
