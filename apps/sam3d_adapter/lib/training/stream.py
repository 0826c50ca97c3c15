"""The endless stream of training samples: each a function of the seed and its own number, whoever draws it."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from lib.segmenters.roi.intensity import apply_window
from lib.segmenters.roi.settings import WindowIntensity
from lib.training.sampling import SamplingConfig, Volume, draw_sample, remap_tissue

NO_CLICKS = np.zeros((0, 4))


class Drawn(NamedTuple):
    """What a source gives for one sample.

    Attributes:
        volume: Image and labels.
        label: Value of the object that is clicked on.
        window: Of the image's intensities.
        recorded: (M, 4), what a user clicked on this object, in his order: voxel i, j, k and 1 on it or 0 beside it.
    """

    volume: Volume
    label: int
    window: WindowIntensity
    recorded: np.ndarray = NO_CLICKS


class Source(Protocol):
    """Labelled volumes of one kind.

    Attributes:
        share: Of the samples that come from here, relative to other sources.
        remap_share: Of the samples whose intensities are redrawn; None for what the stream's config says.
    """

    share: float
    remap_share: float | None

    @property
    def spacings_mm(self) -> tuple[float, ...]:
        """At which serving looks, ascending."""

    def draw(self, rng: np.random.Generator, number: int = 0) -> Drawn:
        """An object, at random.

        Args:
            rng: Source of the draws.
            number: Of the sample; what is drawn is a function of the two.
        """


class Batch(NamedTuple):
    """Samples to train on at once.

    Attributes:
        rois: (B, 1, D, H, W) normalised intensities, zero outside the image.
        truths: The same shape, bool.
        clicks_dhw: (B, N, 3), the first clicks, all on the object.
        recorded: (B, M, 4), further clicks of a user: D, H, W and 1 on the object or 0 beside it; NaN where a sample
            has fewer.
        numbers: (B,), each sample's own.
    """

    rois: Tensor
    truths: Tensor
    clicks_dhw: Tensor
    recorded: Tensor
    numbers: Tensor

    def rows(self, where: slice) -> "Batch":
        """Some of the samples."""
        return Batch(*(part[where] for part in self))


class SampleStream(IterableDataset[Batch]):
    """Endless batches.

    Sample n is the same whether one process draws batches of four or two processes draw batches of two, and whether the
    stream began at the first step or goes on at a later one.

    Args:
        sources: Where from.
        config: How ROIs are drawn; the spacings are each source's own.
        seed: Of all draws.
        batch: Samples at a time, in each process.
        part: Number of this process among those that train together.
        parts: How many these are.
        first_step: Batches that are passed over.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        config: SamplingConfig,
        seed: int,
        *,
        batch: int = 2,
        part: int = 0,
        parts: int = 1,
        first_step: int = 0,
    ) -> None:
        self.sources, self.config, self.seed = sources, config, seed
        self.batch, self.part, self.parts, self.first_step = batch, part, parts, first_step
        shares = np.array([source.share for source in sources])
        self._shares = shares / shares.sum()

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        offset, stride = (worker.id, worker.num_workers) if worker else (0, 1)
        # The loader takes from its workers in turn, so that the batches come in the order of steps.
        for step in itertools.count(self.first_step + offset, stride):
            first = (step * self.parts + self.part) * self.batch
            yield self._stacked([self._draw(number) for number in range(first, first + self.batch)], first)

    def _draw(self, number: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        rng = np.random.default_rng([self.seed, number])
        source = self.sources[rng.choice(len(self.sources), p=self._shares)]
        drawn = source.draw(rng, number)
        config = dataclasses.replace(self.config, spacings_mm=source.spacings_mm)
        recorded = drawn.recorded if rng.random() < config.recorded_share else NO_CLICKS
        sample = draw_sample(drawn.volume, drawn.label, config, rng, recorded)
        roi = apply_window(sample.roi, sample.inside, drawn.window)
        remap_share = config.remap_share if source.remap_share is None else source.remap_share
        if rng.random() < remap_share:
            roi = remap_tissue(roi, rng)
        gain, shift = rng.normal(1, config.gain), rng.normal(0, config.gain)
        roi = torch.where(sample.inside, gain * roi + shift, 0.0)
        return roi, sample.truth, sample.clicks_dhw, sample.recorded

    @staticmethod
    def _stacked(samples: Sequence[tuple[Tensor, Tensor, Tensor, Tensor]], first: int) -> Batch:
        rois, truths, clicks, recorded = zip(*samples, strict=True)
        most = max(map(len, recorded))
        padded = [torch.cat([r, r.new_full((most - len(r), 4), torch.nan)]) for r in recorded]
        numbers = torch.arange(first, first + len(samples))
        return Batch(torch.stack(rois), torch.stack(truths), _equally_many(clicks), torch.stack(padded), numbers)


def _equally_many(clicks: Sequence[Tensor]) -> Tensor:
    """Clicks of several samples, padded by repeating the first, which changes nothing of their set."""
    count = max(map(len, clicks))
    return torch.stack([torch.cat([c, c[:1].expand(count - len(c), 3)]) for c in clicks])
