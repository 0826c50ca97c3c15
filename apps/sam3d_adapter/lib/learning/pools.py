"""Labelled volumes to train on, and the endless stream of regions drawn from them."""

import dataclasses
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from lib.learning.sampling import SamplingConfig, Volume, draw_sample, remap_tissue
from lib.presets import Preset, WindowIntensity
from lib.transforms.load_volume import read_volume
from lib.transforms.normalise import apply_window, percentile_window

IMAGE_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha")


class PoolError(ValueError):
    """A folder that cannot be trained on."""


class Pool:
    """Volumes of one kind, kept in memory once read.

    Args:
        folder: Holds ``*.npz`` (image, labels, affine) as `lib.phantoms.pool` writes them, or ``images/`` and
            ``labels/`` with files of equal names, in which every value above 0 is the one object.
        preset: Whose intensities and spacings.
        share: Of the samples that come from here, relative to other pools.

    Raises:
        PoolError: There is nothing to train on.
    """

    def __init__(self, folder: Path, preset: Preset, share: float = 1.0) -> None:
        self.folder, self.preset, self.share = folder, preset, share
        self.files = _files(folder)
        if not self.files:
            raise PoolError(f"{folder}: no *.npz, and no images/ with labels/ of the same names, for this pool.")
        # In memory, a few MB each: reading them again costs more than a training step.
        self._volumes: dict[Path, tuple[Volume, WindowIntensity]] = {}

    def keep(self, names: Collection[str], *, inverted: bool = False) -> None:
        """Go on with the cases of these names alone, or with all others.

        Raises:
            PoolError: None is left.
        """
        self.files = [file for file in self.files if (case_name(file) in names) != inverted]
        if not self.files:
            raise PoolError(f"{self.folder}: no case is left of those that were asked for.")

    @property
    def spacings_mm(self) -> tuple[float, ...]:
        """At which serving looks, ascending."""
        return (self.preset.roi.spacing_mm, *self.preset.roi.wider_spacings_mm)

    def draw(self, rng: np.random.Generator) -> tuple[Volume, int, WindowIntensity]:
        """A volume, one of its objects, and its intensities' window."""
        volume, window = self._read(self.files[rng.integers(len(self.files))])
        return volume, int(rng.choice(volume.objects())), window

    def _read(self, file: Path) -> tuple[Volume, WindowIntensity]:
        if file not in self._volumes:
            volume = _read_npz(file) if file.suffix == ".npz" else _read_pair(file)
            if not volume.objects():
                raise PoolError(f"{file}: no object is labelled.")
            intensity = self.preset.intensity
            if isinstance(intensity, WindowIntensity):
                window = intensity
            else:
                window = percentile_window(torch.from_numpy(volume.image), intensity)
            self._volumes[file] = volume, window
        return self._volumes[file]


def case_name(file: Path) -> str:
    """Of a volume's file, without the ending."""
    ending = next((e for e in (*IMAGE_ENDINGS, ".npz") if file.name.lower().endswith(e)), file.suffix)
    return file.name[: len(file.name) - len(ending)]


def _files(folder: Path) -> list[Path]:
    if (folder / "images").is_dir():
        labels = {case_name(file) for file in (folder / "labels").iterdir()}
        return sorted(f for f in (folder / "images").iterdir() if case_name(f) in labels)
    return sorted(folder.glob("*.npz"))


def _read_npz(file: Path) -> Volume:
    with np.load(file) as arrays:
        return Volume(arrays["image"], arrays["labels"], arrays["affine"])


def _read_pair(file: Path) -> Volume:
    labels = next(f for f in (file.parents[1] / "labels").iterdir() if case_name(f) == case_name(file))
    image, truth = read_volume(file), read_volume(labels)
    if image.voxels.shape != truth.voxels.shape:
        raise PoolError(f"{labels}: {tuple(truth.voxels.shape)} voxels; its image has {tuple(image.voxels.shape)}.")
    return Volume(image.voxels.numpy(), (truth.voxels > 0).numpy().astype(np.uint8), image.affine)


class RoiStream(IterableDataset[tuple[Tensor, Tensor, Tensor]]):
    """Endless batches of normalised ROIs (B, 1, D, H, W), truths (the same) and first clicks (B, N, 3).

    Args:
        pools: Where from.
        config: How ROIs are drawn; the spacings are each pool's own.
        seed: Of all draws; each process and worker gets its own stream.
        batch: ROIs at a time.
        stream: Number of this process among those that train together.
    """

    def __init__(
        self, pools: Sequence[Pool], config: SamplingConfig, seed: int, *, batch: int = 2, stream: int = 0
    ) -> None:
        self.pools, self.config, self.seed, self.batch, self.stream = pools, config, seed, batch, stream
        shares = np.array([pool.share for pool in pools])
        self._shares = shares / shares.sum()

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        worker = get_worker_info()
        rng = np.random.default_rng([self.seed, self.stream, worker.id if worker else 0])
        while True:
            drawn = [self._draw(rng) for _ in range(self.batch)]
            yield (
                torch.stack([d[0] for d in drawn]),
                torch.stack([d[1] for d in drawn]),
                _stacked([d[2] for d in drawn]),
            )

    def _draw(self, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        pool = self.pools[rng.choice(len(self.pools), p=self._shares)]
        volume, label, window = pool.draw(rng)
        config = dataclasses.replace(self.config, spacings_mm=pool.spacings_mm)
        sample = draw_sample(volume, label, config, rng)
        roi = apply_window(sample.roi, sample.inside, window)
        if rng.random() < config.remap_share:
            roi = remap_tissue(roi, rng)
        gain, shift = rng.normal(1, config.gain), rng.normal(0, config.gain)
        return torch.where(sample.inside, gain * roi + shift, 0.0), sample.truth, sample.clicks_dhw


def _stacked(clicks: Sequence[Tensor]) -> Tensor:
    """Clicks of several samples, padded by repeating the first, which changes nothing of their set."""
    count = max(map(len, clicks))
    return torch.stack([torch.cat([c, c[:1].expand(count - len(c), 3)]) for c in clicks])
