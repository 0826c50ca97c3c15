"""Write a pool of phantoms to train on: one compressed file a seed.

python -m lib.phantoms.pool --out DIR --first 1000 --count 200
"""

import argparse
import logging
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lib.phantoms.config import PhantomConfig
from lib.phantoms.phantom import make_phantom

PARTIAL = ".partial"
"""Ending of a file that is being written, or that a killed process left."""

logger = logging.getLogger(__name__)


def phantom_file(out: Path, seed: int) -> Path:
    """Where the phantom of a seed lies."""
    return out / f"{seed:06d}.npz"


def write_pool(out: Path, seeds: Sequence[int], config: PhantomConfig | None = None) -> None:
    """Make the phantoms of these seeds; those that are there already are kept.

    Several processes may write into one folder: a file is there once it is whole.

    Args:
        out: Folder, made if it is absent.
        seeds: A phantom each.
        config: See `lib.phantoms.phantom.make_phantom`.
    """
    out.mkdir(parents=True, exist_ok=True)
    for done, seed in enumerate(seeds, start=1):
        path = phantom_file(out, seed)
        if path.exists():
            continue
        phantom = make_phantom(seed, config=config)
        partial = path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}{PARTIAL}")
        with partial.open("wb") as file:
            np.savez_compressed(file, image=phantom.image, labels=phantom.labels, affine=phantom.affine)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        if done % 20 == 0:
            logger.info("%d of %d phantoms", done, len(seeds))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--first", type=int, default=1000, help="first seed")
    parser.add_argument("--count", type=int, default=200)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    write_pool(arguments.out, range(arguments.first, arguments.first + arguments.count))


if __name__ == "__main__":
    main()
