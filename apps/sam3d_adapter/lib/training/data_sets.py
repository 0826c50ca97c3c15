"""Folders of labelled volumes to train on."""

from collections.abc import Collection
from pathlib import Path

import numpy as np
import torch

from lib.presets import Preset
from lib.segmenters.roi.intensity import percentile_window
from lib.segmenters.roi.settings import WindowIntensity
from lib.training.sampling import Volume
from lib.training.stream import Drawn
from lib.volumes.read import read_volume

IMAGE_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha")


class DataSetError(ValueError):
    """A data set that cannot be trained on."""


class DataSet:
    """Volumes of a folder, kept in memory once read.

    Args:
        folder: Holds ``*.npz`` (image, labels, affine) as `lib.phantoms.data_set` writes them, or ``images/`` and
            ``labels/`` with files of equal names, in which every value above 0 is the one object.
        preset: Whose intensities and spacings.
        share: Of the samples, relative to other data sets.
        remap_share: See `lib.training.stream.Source`.

    Raises:
        DataSetError: There is nothing to train on.
    """

    def __init__(self, folder: Path, preset: Preset, share: float = 1.0, *, remap_share: float | None = None) -> None:
        self.folder, self.preset, self.share, self.remap_share = folder, preset, share, remap_share
        self.files = volume_files(folder)
        # In memory, a few MB each: reading them again costs more than a training step.
        self._volumes: dict[Path, tuple[Volume, WindowIntensity]] = {}

    def keep(self, names: Collection[str], *, inverted: bool = False) -> None:
        """Keeps only the cases with these names, or only the others.

        Raises:
            DataSetError: None is left.
        """
        self.files = [file for file in self.files if (case_name(file) in names) != inverted]
        if not self.files:
            raise DataSetError(f"{self.folder}: no case is left of those that were asked for.")

    @property
    def spacings_mm(self) -> tuple[float, ...]:
        """Voxel sides of the ROIs in serving, ascending."""
        return self.preset.roi.seen_spacings_mm

    def draw(self, rng: np.random.Generator, number: int = 0) -> Drawn:
        """A random volume, one of its objects, and its intensity window; the sample number makes no difference."""
        volume, window = self._read(self.files[rng.integers(len(self.files))])
        return Drawn(volume, int(rng.choice(volume.objects())), window)

    def _read(self, file: Path) -> tuple[Volume, WindowIntensity]:
        if file not in self._volumes:
            volume = _read_npz(file) if file.suffix == ".npz" else _read_pair(file)
            if not volume.objects():
                raise DataSetError(f"{file}: no object is labelled.")
            self._volumes[file] = volume, window_of(volume, self.preset)
        return self._volumes[file]


def window_of(volume: Volume, preset: Preset) -> WindowIntensity:
    """Intensity window that serving would use for a volume."""
    if isinstance(preset.intensity, WindowIntensity):
        return preset.intensity
    return percentile_window(torch.from_numpy(volume.image), preset.intensity)


def case_name(file: Path) -> str:
    """Name of a volume's file without the extension."""
    ending = next((e for e in (*IMAGE_ENDINGS, ".npz") if file.name.lower().endswith(e)), file.suffix)
    return file.name[: len(file.name) - len(ending)]


def volume_files(folder: Path) -> list[Path]:
    """The labelled images of a data set's folder, sorted by name.

    Raises:
        DataSetError: There is none.
    """
    if (folder / "images").is_dir() and (folder / "labels").is_dir():
        labels = {case_name(file) for file in (folder / "labels").iterdir()}
        files = sorted(f for f in (folder / "images").iterdir() if case_name(f) in labels)
    else:
        files = sorted(folder.glob("*.npz"))
    if not files:
        raise DataSetError(f"{folder}: no *.npz, and no images/ with labels/ of the same names, for this data set.")
    return files


def labels_of(image: Path) -> Path:
    """The label file of an image file."""
    return next(f for f in sorted((image.parents[1] / "labels").iterdir()) if case_name(f) == case_name(image))


def _read_npz(file: Path) -> Volume:
    with np.load(file) as arrays:
        return Volume(arrays["image"], arrays["labels"], arrays["affine"])


def _read_pair(file: Path) -> Volume:
    labels = labels_of(file)
    image, truth = read_volume(file), read_volume(labels)
    if image.voxels.shape != truth.voxels.shape:
        raise DataSetError(f"{labels}: {tuple(truth.voxels.shape)} voxels; its image has {tuple(image.voxels.shape)}.")
    return Volume(image.voxels.numpy(), (truth.voxels > 0).numpy().astype(np.uint8), image.affine)
