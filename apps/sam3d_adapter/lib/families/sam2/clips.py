"""Training samples from labelled volumes: consecutive slices around a click, with truth and clicks."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lib.families.sam2.settings import SliceSettings
from lib.families.sam2.slices import Slices
from lib.training.sampling import draw_click, first_on, remap_tissue
from lib.training.stream import NO_CLICKS, Drawn, Source, Stream
from lib.volumes.volume import Volume

LENGTHS = (3, 6, 12)
"""Slices of a clip; a volume that has fewer gives what it has."""
CENTRE_SHARE, GAIN, REMAP_SHARE = 0.5, 0.1, 0.1
"""As `lib.training.sampling.SamplingConfig` has them."""


class Clip(NamedTuple):
    """One sample; a click is its slice in the clip and x, y in pixels of the square.

    Attributes:
        images: (D, 3, P, P), as `Slices.image` gives them.
        truths: (D, P, P) bool.
        positions: (D,), slices from the first of the volume, counted in one direction of the patient.
        first: (3,), the first click, on the object.
        recorded: (M, 4), further clicks of a user, in order; the last number is 1 (foreground) or 0 (background).
    """

    images: Tensor
    truths: Tensor
    positions: Tensor
    first: Tensor
    recorded: Tensor


class Clips(NamedTuple):
    """Samples to train on at once: those of `Clip`, where one has fewer slices or clicks padded with NaN.

    Attributes:
        images: (B, D, 3, P, P).
        truths: (B, D, P, P).
        positions: (B, D).
        first: (B, 3).
        recorded: (B, M, 4).
        numbers: (B,), each sample's own.
    """

    images: Tensor
    truths: Tensor
    positions: Tensor
    first: Tensor
    recorded: Tensor
    numbers: Tensor

    def rows(self, where: slice) -> "Clips":
        """Some of the samples."""
        return Clips(*(part[where] for part in self))

    def to(self, device: torch.device) -> "Clips":
        """The samples on a device."""
        return Clips(*(part.to(device) for part in self))

    def clip(self, row: int) -> Clip:
        """One sample, without what it is padded with."""
        is_slice, is_click = ~self.positions[row].isnan(), ~self.recorded[row].isnan().any(-1)
        return Clip(
            self.images[row][is_slice],
            self.truths[row][is_slice],
            self.positions[row][is_slice],
            self.first[row],
            self.recorded[row][is_click],
        )


class ClipStream(Stream[Clips]):
    """Endless batches of clips.

    Args:
        sources: of the samples.
        settings: of the preset; the intensities are those of each source.
        pixels: side of the square that a slice is resized to.
        seed: of all draws.
        lengths: slices of a clip, drawn from these.
        recorded_share: share of samples that start with the first click of a user, where one is recorded.
        is_varied: whether clips are mirrored and their intensities changed at random.
        how: see `Stream`.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        settings: SliceSettings,
        pixels: int,
        seed: int,
        *,
        lengths: tuple[int, ...] = LENGTHS,
        recorded_share: float = 0.0,
        is_varied: bool = True,
        **how: int,
    ) -> None:
        super().__init__(sources, seed, **how)
        self._settings, self._pixels, self._lengths = settings, pixels, lengths
        self._recorded_share, self._is_varied = recorded_share, is_varied

    def sample(self, source: Source, drawn: Drawn, rng: np.random.Generator) -> Clip:
        """As `Stream.sample`."""
        recorded = drawn.recorded if rng.random() < self._recorded_share else NO_CLICKS
        clip = self._cut(drawn, recorded, rng)
        if not self._is_varied:
            return clip
        for axis in ("slices", "y", "x"):
            if rng.random() < 0.5:
                clip = mirrored(clip, axis)
        images = clip.images
        remap_share = REMAP_SHARE if source.remap_share is None else source.remap_share
        if rng.random() < remap_share:
            images = remap_tissue(images, rng)
        return clip._replace(images=images * rng.normal(1, GAIN) + rng.normal(0, GAIN))

    def _cut(self, drawn: Drawn, recorded: np.ndarray, rng: np.random.Generator) -> Clip:
        volume, number = drawn.volume, drawn.label
        began = first_on(volume, number, recorded)
        first = draw_click(volume, number, CENTRE_SHARE, rng) if began is None else recorded[began, :3].astype(int)
        axis = Slices.axis_of(volume.affine)
        count = volume.image.shape[axis]
        length = min(int(rng.choice(self._lengths)), count)
        start = int(np.clip(first[axis] - rng.integers(length), 0, count - length))
        # One more on both sides, for a preset whose channels show the neighbours.
        low, high = max(start - 1, 0), min(start + length + 1, count)
        i, j, k = (slice(low, high) if n == axis else slice(None) for n in range(3))
        box = i, j, k
        voxels = torch.from_numpy(np.array(volume.image[box], dtype=np.float32))
        settings = replace(self._settings, intensity=drawn.window)
        slices = Slices(Volume(voxels, volume.affine, ""), settings, self._pixels)
        truth = torch.from_numpy(np.moveaxis(volume.mask(number, box), axis, 0)).transpose(1, 2).float()[:, None]
        square = F.interpolate(truth, (self._pixels,) * 2, mode="bilinear", antialias=True)[:, 0] > 0.5
        shown = range(start - low, start - low + length)
        direction = np.sign(volume.affine[np.abs(volume.affine[:3, axis]).argmax(), axis])
        further = recorded[began + 1 :] if began is not None else NO_CLICKS
        clicks = [(*self._place(slices, ijk, axis, start), sign) for *ijk, sign in further.tolist()]
        return Clip(
            torch.cat([slices.image(one) for one in shown]),
            square[shown.start : shown.stop],
            direction * torch.arange(start, start + length, dtype=torch.float32),
            torch.tensor(self._place(slices, first.tolist(), axis, start)),
            torch.tensor([click for click in clicks if 0 <= click[0] < length]).reshape(-1, 4),
        )

    @staticmethod
    def _place(slices: Slices, ijk: Sequence[float], axis: int, start: int) -> tuple[float, float, float]:
        i, j, k = (round(index) for index in ijk)
        number, (x, y) = slices.place((i, j, k))
        return float(number - start), x, y

    def stacked(self, samples: Sequence[Clip], first: int) -> Clips:
        """As `Stream.stacked`."""
        parts = [torch.nn.utils.rnn.pad_sequence(list(parts), batch_first=True) for parts in zip(*samples, strict=True)]
        positions, recorded = (
            torch.nn.utils.rnn.pad_sequence([one[place] for one in samples], batch_first=True, padding_value=torch.nan)
            for place in (2, 4)
        )
        numbers = torch.arange(first, first + len(samples))
        return Clips(parts[0], parts[1], positions, parts[3], recorded, numbers)


def mirrored(clip: Clip, axis: str) -> Clip:
    """The clip of the mirrored volume: read backwards (``slices``), or flipped in its slices (``x``, ``y``)."""
    images, truths, positions, first, recorded = clip
    pixels = images.shape[-1]
    if axis == "slices":
        # The channels too: where they show the neighbours, the slice before becomes the one after.
        images, truths, positions, far, place = images.flip(0, 1), truths.flip(0), positions.flip(0), len(images) - 1, 0
    elif axis == "x":
        images, truths, far, place = images.flip(-1), truths.flip(-1), pixels, 1
    else:
        images, truths, far, place = images.flip(-2), truths.flip(-2), pixels, 2
    first, recorded = first.clone(), recorded.clone()
    for clicks in (first, recorded):
        clicks[..., place] = far - clicks[..., place]
    return Clip(images, truths, positions, first, recorded)
