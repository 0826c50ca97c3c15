"""Synthetic lesions beside submitted labels, so that a model that learns a new structure keeps what it could before."""

import logging
from dataclasses import dataclass, replace
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


HELD_OUT_COUNT = 4
"""Phantoms on which it is measured what was kept."""


@dataclass(frozen=True)
class Replay:
    """The phantoms of a server, made when first asked for, as one preset takes them.

    The shipped weights learned from such phantoms, whose intensities were sometimes redrawn at random.

    Attributes:
        folder: takes the phantoms; shared by all presets.
        preset: that is trained; its spacings count.
        share: of the samples.
        counts: phantoms to train on, and others to measure on.
    """

    folder: Path
    preset: Preset
    share: float = SHARE
    counts: tuple[int, int] = (COUNT, HELD_OUT_COUNT)

    def pool(self) -> Pool:
        """What is trained on."""
        remap_share = None if isinstance(self.preset.intensity, WindowIntensity) else REMAP_SHARE
        return self._made(self.folder, FIRST_SEED, self.counts[0], remap_share)

    def held_out(self) -> Pool:
        """What no round trains on."""
        return self._made(self.folder / "held_out", FIRST_SEED + COUNT, self.counts[1], None)

    def _made(self, folder: Path, first_seed: int, count: int, remap_share: float | None) -> Pool:
        if len(list(folder.glob("*.npz"))) < count:
            logger.info("Making %d phantoms beside the labels, once for this server.", count)
            write_pool(folder, range(first_seed, first_seed + count))
        return Pool(folder, replace(self.preset, intensity=SOFT_TISSUE), self.share, remap_share=remap_share)
