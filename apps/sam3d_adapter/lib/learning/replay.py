"""Synthetic lesions beside submitted labels, so that a model that learns a new structure keeps what it could before."""

import logging
from pathlib import Path

from lib.learning.pools import Pool
from lib.phantoms.pool import write_pool
from lib.presets import Preset

logger = logging.getLogger(__name__)

SHARE = 0.2
"""Of the samples of a training; the rest are submitted labels."""
COUNT = 12
"""Phantoms: 1 to 2 s each to make, once for a server, and some four lesions in each."""
FIRST_SEED = 500_000
"""Of phantoms that neither the shipped weights were trained nor anything was measured on."""


def replay_pool(folder: Path, phantom_preset: Preset, share: float = SHARE) -> Pool:
    """The phantoms of a server, made when first asked for.

    The shipped weights learned all modalities from such phantoms, whose intensities were redrawn at random.

    Args:
        folder: takes the phantoms; shared by all presets.
        phantom_preset: of CT, whose Hounsfield units the phantoms have, with the spacings that are trained.
        share: of the samples.
    """
    if len(list(folder.glob("*.npz"))) < COUNT:
        logger.info("Making %d phantoms to train on beside the labels, once for this server.", COUNT)
        write_pool(folder, range(FIRST_SEED, FIRST_SEED + COUNT))
    return Pool(folder, phantom_preset, share)
