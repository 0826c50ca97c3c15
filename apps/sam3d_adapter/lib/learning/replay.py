"""Synthetic lesions beside submitted labels, so that a model that learns a new structure keeps what it could before."""

import logging
from dataclasses import replace
from pathlib import Path

from lib.learning.pools import Pool
from lib.phantoms.pool import write_pool
from lib.presets import Preset, WindowIntensity

logger = logging.getLogger(__name__)

SHARE = 0.3
"""Of the samples of a training; the rest are submitted labels."""
REMAP_SHARE = 0.5
"""Of them whose intensities are redrawn where a preset's own are no Hounsfield units."""
COUNT = 12
"""Phantoms: 1 to 2 s each to make, once for a server, and some four lesions in each."""
FIRST_SEED = 500_000
"""Of phantoms that neither the shipped weights were trained nor anything was measured on."""
SOFT_TISSUE = WindowIntensity(clip_hu=(-160.0, 240.0), mean=40.0, std=60.0)
"""Of the phantoms' Hounsfield units, as the shipped weights saw them."""


def replay_pool(folder: Path, preset: Preset, share: float = SHARE) -> Pool:
    """The phantoms of a server, made when first asked for.

    The shipped weights learned from such phantoms, whose intensities were sometimes redrawn at random.

    Args:
        folder: takes the phantoms; shared by all presets.
        preset: that is trained; its spacings count.
        share: of the samples.
    """
    if len(list(folder.glob("*.npz"))) < COUNT:
        logger.info("Making %d phantoms to train on beside the labels, once for this server.", COUNT)
        write_pool(folder, range(FIRST_SEED, FIRST_SEED + COUNT))
    remap_share = None if isinstance(preset.intensity, WindowIntensity) else REMAP_SHARE
    return Pool(folder, replace(preset, intensity=SOFT_TISSUE), share, remap_share=remap_share)
