"""Synthetic volumes as files to train on."""

import logging
from collections.abc import Sequence
from pathlib import Path

from lib.synthesis.label_maps import find_label_maps
from lib.synthesis.volume import make_volume
from lib.volumes.objects import volume_of_seed, write_training_volume

logger = logging.getLogger(__name__)


def write_synthetic(out: Path, label_maps: Sequence[Path], modality: str, seeds: Sequence[int]) -> None:
    """Writes one ``*.npz`` (image, labels, affine, objects, weights) per seed; existing files are kept.

    Several processes may write into one folder: each file is written atomically.

    Args:
        out: Folder; made if it is absent.
        label_maps: NIfTI files below ``labelmaps_*/labels``.
        modality: ``ct``, ``mr`` or ``pet``.
        seeds: One volume each.

    Raises:
        LabelMapError: A manifest does not name them.
        SynthesisError: No volume can be made of them.
    """
    files = find_label_maps(label_maps)
    out.mkdir(parents=True, exist_ok=True)
    for done, seed in enumerate(seeds, start=1):
        path = volume_of_seed(out, seed)
        if path.exists():
            continue
        volume = make_volume(seed, files, modality)
        write_training_volume(path, volume.image, volume.affine, **vars(volume.objects))
        if done % 20 == 0:
            logger.info("%d of %d volumes", done, len(seeds))
