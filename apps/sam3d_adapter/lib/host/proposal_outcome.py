"""What became of the mask that the server proposed for an image, seen when a label of it is submitted."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from monailabel.datastore.local import LocalDatastore

from lib.annotations.label_names import NamesError, is_object_of, named_values
from lib.evaluation.metrics import dice
from lib.host.studies_datastore import tag_text
from lib.volumes.label_file import read_label_file
from lib.volumes.label_grid import image_grid, label_affine, on_grid
from lib.workflow.proposals import CORRECTED, KEY, LEAST_KEPT, REPLACED, TAG, TAKEN, is_rejected
from lib.workflow.reviews import is_reviewed

logger = logging.getLogger(__name__)


def with_outcome(label: Path, image: str, tag: str, info: Mapping[str, Any], datastore: Any) -> dict[str, Any]:
    """What comes with a label, and what it made of the image's proposal; whatever a client says of that is dropped.

    Args:
        label: its file.
        image: id of its image.
        tag: under which it is to be stored.
        info: what comes with it.
        datastore: of the app.
    """
    said = {key: value for key, value in info.items() if key != KEY}
    if not is_reviewed(tag_text(tag)) or not datastore._datastore.label(image, TAG):
        return said
    proposal = LocalDatastore.get_label_info(datastore, image, TAG)
    if not isinstance(proposal.get(KEY), Mapping):
        return said
    try:
        overlap, is_all = _compared(label, image, said, datastore, proposal)
    # Broad: whatever is wrong with the proposal, the label is stored.
    except Exception as error:
        logger.warning("A label was not compared with what was proposed (%s).", type(error).__name__)
        return said
    is_kept = overlap >= LEAST_KEPT and not is_rejected(proposal)
    outcome = TAKEN if is_all else CORRECTED if is_kept else REPLACED
    facts = {key: proposal[KEY].get(key) for key in ("structure", "version", "predicted_dice")}
    return {**said, KEY: {**facts, "outcome": outcome, "dice": round(overlap, 4)}}


def _compared(
    label: Path, image: str, info: Mapping[str, Any], datastore: LocalDatastore, proposal: Mapping[str, Any]
) -> tuple[float, bool]:
    """Dice of the structure in a label with the proposed mask, and whether the label is that mask and nothing else."""
    picture = Path(LocalDatastore.get_image_uri(datastore, image))
    shape, affine = image_grid(picture)
    masks = []
    for path, names in ((label, info), (Path(LocalDatastore.get_label_uri(datastore, image, TAG)), proposal)):
        file = read_label_file(path)
        onto = label_affine(path, file.affine, picture, affine)
        try:
            named = named_values(file.segments(), names, file.texts)
        except NamesError:
            named = None
        wanted = [
            number
            for name, value in (named if named is not None else [("", value) for value in file.segments()])
            if not name or is_object_of(name, proposal[KEY]["structure"])
            for number in file.numbers((value,))
        ]
        parts = (np.isin(file.voxels, wanted), file.voxels > 0)
        masks.append([on_grid(part.view(np.uint8), onto, shape, affine) > 0 for part in parts])
    (structure, everything), (proposed, _) = masks
    return dice(structure, proposed), bool(np.array_equal(everything, proposed))
