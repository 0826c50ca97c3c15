"""Rehearsal: synthetic lesions beside submitted labels, so that a model does not forget what it could do before."""

import logging
from dataclasses import dataclass
from pathlib import Path

from lib.phantoms.config import MASSES, PhantomConfig
from lib.phantoms.data_set import write_phantoms
from lib.presets import Preset
from lib.segmenters.intensity_settings import WindowIntensity
from lib.training.data_sets import DataSet

logger = logging.getLogger(__name__)

REMAP_SHARE = 0.5
"""Of the rehearsal samples whose intensities are redrawn where a preset's own are no Hounsfield units."""
FIRST_SEED = 500_000
"""Of phantoms that neither the shipped weights were trained nor anything was measured on."""
SOFT_TISSUE = WindowIntensity(clip_hu=(-160.0, 240.0), mean=40.0, std=60.0)
"""Of the phantoms' Hounsfield units, as the shipped weights saw them."""


@dataclass(frozen=True)
class Kind:
    """Phantoms of one kind.

    Attributes:
        folder: below that of all; takes those that are trained on, and in ``held_out/`` the others.
        config: what they are like.
        share: of the samples of a training.
        trained: how many are trained on; 1 to 4 s each to make, once for a server.
        held_out: how many it is measured on what was kept.
    """

    folder: str
    config: PhantomConfig
    share: float
    trained: int
    held_out: int


KINDS = (
    Kind(".", PhantomConfig(), share=0.15, trained=12, held_out=4),
    # Without these, labels of small structures alone teach a network that whatever surrounds a click is small.
    Kind("masses", MASSES, share=0.25, trained=16, held_out=4),
)


@dataclass(frozen=True)
class Rehearsal:
    """The phantoms of a server, made when first asked for, as one preset takes them.

    The shipped weights learned from such phantoms, whose intensities were sometimes redrawn at random.

    Attributes:
        folder: takes the phantoms; shared by all presets.
        preset: that is trained; its spacings count.
        kinds: of phantoms.
    """

    folder: Path
    preset: Preset
    kinds: tuple[Kind, ...] = KINDS

    @property
    def share(self) -> float:
        """Of the samples of a training; the rest are submitted labels."""
        return sum(kind.share for kind in self.kinds)

    def data_sets(self) -> list[DataSet]:
        """What is trained on."""
        remap_share = None if isinstance(self.preset.intensity, WindowIntensity) else REMAP_SHARE
        return [
            self._made(kind, "", range(FIRST_SEED, FIRST_SEED + kind.trained), kind.share, remap_share)
            for kind in self.kinds
        ]

    def held_out(self) -> list[DataSet]:
        """What no round trains on, equal shares of each kind."""
        first = FIRST_SEED + max(kind.trained for kind in self.kinds)
        return [self._made(kind, "held_out", range(first, first + kind.held_out), 1.0, None) for kind in self.kinds]

    def _made(self, kind: Kind, part: str, seeds: range, share: float, remap_share: float | None) -> DataSet:
        folder = self.folder / kind.folder / part
        if len(list(folder.glob("*.npz"))) < len(seeds):
            logger.info("Making %d phantoms beside the labels, once for this server.", len(seeds))
            write_phantoms(folder, seeds, kind.config)
        return DataSet(folder, self.preset.with_settings(intensity=SOFT_TISSUE), share, remap_share=remap_share)
