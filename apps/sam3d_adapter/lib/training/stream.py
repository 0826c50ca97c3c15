"""The endless stream of training samples: each is a function of the seed and its number, in whatever process."""

import dataclasses
import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from lib.segmenters.intensity import apply_window
from lib.segmenters.intensity_settings import WindowIntensity
from lib.training.sampling import SamplingConfig, Volume, draw_sample, remap_tissue

NO_CLICKS = np.zeros((0, 4))
Given = TypeVar("Given")


class Drawn(NamedTuple):
    """One draw from a source.

    Attributes:
        volume: Image and labels.
        label: Number of the object to click on, see `Volume`.
        window: Intensity window of the image.
        recorded: (M, 4), clicks of a user on this object, in order: voxel i, j, k and 1 (foreground) or 0 (background).
    """

    volume: Volume
    label: int
    window: WindowIntensity
    recorded: np.ndarray = NO_CLICKS


class Source(Protocol):
    """Labelled volumes of one kind.

    Attributes:
        share: Of the samples, relative to other sources.
        remap_share: Share of samples whose intensities are remapped; None for the stream's own.
    """

    share: float
    remap_share: float | None

    @property
    def spacings_mm(self) -> tuple[float, ...]:
        """Voxel sides of the ROIs in serving, ascending."""

    def draw(self, rng: np.random.Generator, number: int = 0) -> Drawn:
        """A random object.

        Args:
            rng: Source of the draws.
            number: Of the sample; the draw is a function of both.
        """


class Batch(NamedTuple):
    """Samples to train on at once.

    Attributes:
        rois: (B, 1, D, H, W) normalised intensities, zero outside the image.
        truths: The same shape, bool.
        clicks_dhw: (B, N, 3), first clicks, all on the object.
        recorded: (B, M, 4), further clicks of a user: D, H, W and 1 (foreground) or 0 (background); NaN where a sample
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

    def to(self, device: torch.device) -> "Batch":
        """The samples on a device."""
        return Batch(*(part.to(device) for part in self))


class Stream(IterableDataset[Given], ABC):
    """Endless batches.

    Sample n does not depend on the number of processes, the batch size, or the step at which the stream starts.

    Args:
        sources: Of the samples.
        seed: Of all draws.
        batch: Samples at a time, in each process.
        part: Number of this process among those that train together.
        parts: Number of those processes.
        first_step: Batches to skip.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        seed: int,
        *,
        batch: int = 2,
        part: int = 0,
        parts: int = 1,
        first_step: int = 0,
    ) -> None:
        self.sources, self.seed = sources, seed
        self.batch, self.part, self.parts, self.first_step = batch, part, parts, first_step
        shares = np.array([source.share for source in sources])
        self._shares = shares / shares.sum()

    def __iter__(self) -> Iterator[Given]:
        worker = get_worker_info()
        offset, stride = (worker.id, worker.num_workers) if worker else (0, 1)
        # The loader takes from its workers in turn, so batches come in the order of steps.
        for step in itertools.count(self.first_step + offset, stride):
            first = (step * self.parts + self.part) * self.batch
            yield self.stacked([self._draw(number) for number in range(first, first + self.batch)], first)

    def _draw(self, number: int) -> Any:
        rng = np.random.default_rng([self.seed, number])
        source = self.sources[rng.choice(len(self.sources), p=self._shares)]
        return self.sample(source, source.draw(rng, number), rng)

    @abstractmethod
    def sample(self, source: Source, drawn: Drawn, rng: np.random.Generator) -> Any:
        """A sample of an object.

        Args:
            source: Of the object.
            drawn: The object.
            rng: Source of the draws.
        """

    @abstractmethod
    def stacked(self, samples: Sequence[Any], first: int) -> Given:
        """A batch.

        Args:
            samples: Of `sample`.
            first: Number of the first; the others follow it.
        """


class SampleStream(Stream[Batch]):
    """Endless batches of ROIs.

    Args:
        sources: Of the samples.
        config: How ROIs are drawn; each source has its own spacings.
        seed: Of all draws.
        how: See `Stream`.
    """

    def __init__(self, sources: Sequence[Source], config: SamplingConfig, seed: int, **how: int) -> None:
        super().__init__(sources, seed, **how)
        self.config = config

    def sample(self, source: Source, drawn: Drawn, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """As `Stream.sample`."""
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

    def stacked(self, samples: Sequence[tuple[Tensor, Tensor, Tensor, Tensor]], first: int) -> Batch:
        """As `Stream.stacked`."""
        rois, truths, clicks, recorded = zip(*samples, strict=True)
        most = max(map(len, recorded))
        padded = [torch.cat([r, r.new_full((most - len(r), 4), torch.nan)]) for r in recorded]
        numbers = torch.arange(first, first + len(samples))
        return Batch(torch.stack(rois), torch.stack(truths), _equally_many(clicks), torch.stack(padded), numbers)


def _equally_many(clicks: Sequence[Tensor]) -> Tensor:
    """Clicks of several samples, padded with copies of the first, which do not change the set."""
    count = max(map(len, clicks))
    return torch.stack([torch.cat([c, c[:1].expand(count - len(c), 3)]) for c in clicks])
