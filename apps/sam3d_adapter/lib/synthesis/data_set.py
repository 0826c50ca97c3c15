"""Synthetic volumes as files to train on.

python -m lib.synthesis.data_set --label-maps DATA --out DIR --modality ct --first 1000 --count 200
"""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lib.files.atomic_write import replacing
from lib.synthesis.label_maps import find_label_maps
from lib.synthesis.volume import MODALITIES, make_volume

logger = logging.getLogger(__name__)


def write_synthetic(out: Path, label_maps: Path, modality: str, seeds: Sequence[int]) -> None:
    """Writes one ``*.npz`` (image, labels, affine, objects, weights) per seed; existing files are kept.

    Several processes may write into one folder: each file is written atomically.

    Args:
        out: Folder; made if it is absent.
        label_maps: Folder that holds ``labelmaps_*``.
        modality: ``ct``, ``mr`` or ``pet``.
        seeds: One volume each.

    Raises:
        LabelMapError: There are no label maps.
        SynthesisError: No volume can be made of them.
    """
    files = find_label_maps(label_maps)
    out.mkdir(parents=True, exist_ok=True)
    for done, seed in enumerate(seeds, start=1):
        path = out / f"{seed:06d}.npz"
        if path.exists():
            continue
        volume = make_volume(seed, files, modality)
        with replacing(path) as partial, partial.open("wb") as file:
            np.savez_compressed(
                file,
                image=volume.image,
                labels=volume.objects.labels,
                affine=volume.affine,
                objects=volume.objects.table(),
                weights=volume.objects.weights(),
            )
        if done % 20 == 0:
            logger.info("%d of %d volumes", done, len(seeds))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--label-maps", type=Path, required=True, help="folder that holds labelmaps_*")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--modality", choices=MODALITIES, required=True)
    parser.add_argument("--first", type=int, default=1000, help="first seed")
    parser.add_argument("--count", type=int, default=200)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    seeds = range(arguments.first, arguments.first + arguments.count)
    write_synthetic(arguments.out, arguments.label_maps, arguments.modality, seeds)


if __name__ == "__main__":
    main()
