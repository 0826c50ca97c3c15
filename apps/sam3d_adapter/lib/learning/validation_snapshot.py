"""A snapshot of the validation cases in a run's folder, so that all its models are measured on the same cases.

During the hours of a training, people correct labels and remove images. The snapshot names patients by keyed hashes,
because records with these names are kept with a version.
"""

import contextlib
import gzip
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path

import nibabel as nib
import numpy as np

from lib.annotations.label_names import label_of
from lib.annotations.strata import strata
from lib.annotations.submitted import SubmittedCase, SubmittedError
from lib.evaluation.cases import ENDINGS, Source
from lib.evaluation.ledger import key_of
from lib.evaluation.record import Record
from lib.files.atomic_write import replacing, sync_folder
from lib.volumes.memory import MemoryShortage
from lib.volumes.volume import ImageError

logger = logging.getLogger(__name__)

MAX_PATIENTS = 32
"""With so many the interval is narrow enough; measuring more would take longer than the training."""
_FOLDER, _TRUTH = "validation", "truth.nii.gz"


def save_validation_snapshot(run: Path, cases: Sequence[SubmittedCase], pseudonym: Callable[[str], str]) -> None:
    """Writes the truths of validation cases and links their images, all or nothing; keeps an existing snapshot.

    A label that cannot be read is left out with a warning. Measurements on other cases are removed.

    Args:
        run: folder of the run.
        cases: of validation patients; ``MAX_PATIENTS`` are taken, of each structure in turn, in the order of image
            checksums.
        pseudonym: a name -> its keyed hash.

    Raises:
        OSError: the disk is full.
    """
    folder = run / _FOLDER
    if folder.is_dir():
        return
    new = run / f".new-{_FOLDER}"
    for old in (new, run / "measured"):
        shutil.rmtree(old, ignore_errors=True)
    new.mkdir(mode=0o700)
    for case in _chosen(cases):
        try:
            labels = case.read_labels()
        except (SubmittedError, ImageError, OSError, MemoryShortage) as error:
            logger.warning("%s is not validated on: %s", case.image_id, error)
            continue
        own = new / pseudonym(case.image_id)
        own.mkdir()
        for file, truth in _truths(case, labels):
            with replacing(own / file) as partial:
                image = nib.Nifti1Image(truth, case.affine).to_bytes()
                partial.write_bytes(gzip.compress(image, compresslevel=1, mtime=0))
        _link(case.image, own / f"image{_ending(case.image)}")
    new.rename(folder)
    sync_folder(run)


def snapshot_sources(
    run: Path, cases: Sequence[SubmittedCase], pseudonym: Callable[[str], str], dataset: str
) -> list[Source]:
    """One source for each object in the snapshot, except for images that are gone.

    Args:
        run: folder of the run.
        cases: as in `save_validation_snapshot`.
        pseudonym: a name -> its keyed hash.
        dataset: name of the whole.
    """
    found = []
    for case in _chosen(cases):
        name = pseudonym(case.image_id)
        own = run / _FOLDER / name
        image = own / f"image{_ending(case.image)}"
        if not own.is_dir():
            continue
        if not image.exists():
            logger.warning("%s is not validated on any more: its image is gone.", case.image_id)
            continue
        objects = range(1, len(case.names) + 1) if len(case.names) > 1 else (None,)
        person = pseudonym(case.patient.name)
        found += [
            Source(name, image, own / _truth_file(case, value), person, dataset, value, split="validation")
            for value in objects
        ]
    return found


def snapshot_structures(cases: Sequence[SubmittedCase], pseudonym: Callable[[str], str]) -> dict[str, str]:
    """The structure of each object in the snapshot, by the id that its evaluation has.

    Args:
        cases: as in `save_validation_snapshot`.
        pseudonym: a name -> its keyed hash.
    """
    return {
        pseudonym(case.image_id) + (f"/{number}" if len(case.names) > 1 else ""): label_of(name)
        for case in _chosen(cases)
        for number, name in enumerate(case.names, start=1)
    }


def remove_validation_snapshot(run: Path) -> None:
    """Removes the snapshot; the measurements on it stay."""
    shutil.rmtree(run / _FOLDER, ignore_errors=True)


def on_common_cases(run: Path, records: Mapping[str, Sequence[Record]]) -> dict[str, list[Record]]:
    """The records on cases on which all models were measured; empty where there are none.

    Images that are gone by now do not count: for a model that was measured later they were failures.

    Args:
        run: folder of the run.
        records: by name of the model.
    """
    held = {name: {(*key_of(one), one["data_sha256"]): one for one in found} for name, found in records.items()}
    same = set.intersection(*(set(found) for found in held.values())) if held else set()
    same = {key for key in same if not _is_gone(run, key[0])}
    return {name: [one for key, one in found.items() if key in same] for name, found in held.items()} if same else {}


def _is_gone(run: Path, case: str) -> bool:
    own = run / _FOLDER / case.partition("/")[0]
    return own.is_dir() and not all(path.exists() for path in own.iterdir())


def _chosen(cases: Sequence[SubmittedCase]) -> list[SubmittedCase]:
    ordered = sorted(cases, key=lambda case: case.image_sha256)
    in_turn = (case for row in zip_longest(*strata(ordered).values()) for case in row if case is not None)
    patients = list(dict.fromkeys(case.patient.name for case in in_turn))[:MAX_PATIENTS]
    return [case for case in ordered if case.patient.name in patients]


def _truths(case: SubmittedCase, labels: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """The files with the truths of a case: one, unless its objects overlap."""
    if case.unions is None:
        yield _TRUTH, labels
        return
    for number in range(1, len(case.names) + 1):
        yield _truth_file(case, number), case.mask(labels, number) * np.uint8(number)


def _truth_file(case: SubmittedCase, number: int | None) -> str:
    return _TRUTH if case.unions is None else f"truth_{number}.nii.gz"


def _ending(image: Path) -> str:
    """Extension of an image file, which the reader needs; the rest of the name may identify the patient."""
    return next((ending for ending in ENDINGS if image.name.lower().endswith(ending)), "")


def _link(image: Path, target: Path) -> None:
    """Links an image, if possible so that it survives the removal of the original; across disks symbolically."""
    with contextlib.suppress(OSError):
        os.link(image.resolve(), target)
        return
    target.symlink_to(image.resolve())
