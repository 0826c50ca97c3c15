"""Folders of labelled volumes to train on."""

import math
import zipfile
from collections import OrderedDict
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import torch

from lib.presets import Preset
from lib.segmenters.intensity import percentile_window
from lib.segmenters.intensity_settings import WindowIntensity
from lib.training.sampling import Volume
from lib.training.stream import Drawn
from lib.volumes.npz import NpzArrays
from lib.volumes.read import read_volume

IMAGE_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha")
MAX_BYTES = 3 * 2**30


class DataSetError(ValueError):
    """A data set that cannot be trained on."""


class DataSet:
    """Volumes of a folder: mapped from the disk where they are not compressed, else kept in memory within a limit.

    A folder holds either ``images/`` and ``labels/`` with files of equal names; or ``*.npz``, each with

    - ``image`` (i, j, k), ``labels`` (i, j, k) uint8 or uint16, 0 in no object, and ``affine`` (4, 4), voxel to RAS mm;
    - ``objects`` (N, P) integers, optional: each row lists the label values of one object, padded with 0. Absent: each
      value is an object;
    - ``weights`` (N,), optional: how often each object is drawn, relative to the others of its volume.

    Args:
        folder: Of the volumes.
        preset: Whose intensities and spacings.
        share: Of the samples, relative to other data sets.
        remap_share: See `lib.training.stream.Source`.
        labels_are_objects: Whether each value in a file of ``labels/`` is an object; otherwise all above 0 are the one.
        max_bytes: Limit of the volumes kept in memory, unless one is larger; for each process that draws.

    Raises:
        DataSetError: There is nothing to train on.
    """

    def __init__(
        self,
        folder: Path,
        preset: Preset,
        share: float = 1.0,
        *,
        remap_share: float | None = None,
        labels_are_objects: bool = False,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self.folder, self.preset, self.share, self.remap_share = folder, preset, share, remap_share
        self.files = volume_files(folder)
        self._volumes: OrderedDict[Path, tuple[Volume, WindowIntensity]] = OrderedDict()
        self._labels_are_objects, self._max_bytes = labels_are_objects, max_bytes

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
        return Drawn(volume, volume.draw_object(rng), window)

    def _read(self, file: Path) -> tuple[Volume, WindowIntensity]:
        if file in self._volumes:
            self._volumes.move_to_end(file)
            return self._volumes[file]
        volume = _read_npz(file) if file.suffix == ".npz" else _read_pair(file, self._labels_are_objects)
        if not volume.objects():
            raise DataSetError(f"{file}: no object is labelled.")
        self._volumes[file] = volume, window_of(volume, self.preset)
        # Reading one again costs as much as a training step.
        while len(self._volumes) > 1 and sum(_kept_bytes(kept) for kept, _ in self._volumes.values()) > self._max_bytes:
            self._volumes.popitem(last=False)
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


def _kept_bytes(volume: Volume) -> int:
    """Bytes of a volume's arrays that are no mapped files."""
    return sum(array.nbytes for array in (volume.image, volume.labels) if not isinstance(array, np.memmap))


def _read_npz(file: Path) -> Volume:
    try:
        arrays = NpzArrays(file)
        if missing := {"image", "labels", "affine"} - set(arrays):
            raise ValueError(f"{', '.join(sorted(missing))} missing; expected image, labels and affine")
        image, labels, affine = (arrays[name] for name in ("image", "labels", "affine"))
        unions, weights = _table(arrays)
    except (ValueError, zipfile.BadZipFile) as error:
        raise DataSetError(f"{file}: {error}.") from error
    if labels.dtype not in (np.uint8, np.uint16) or labels.shape != image.shape or labels.ndim != 3:
        raise DataSetError(
            f"{file}: labels are {labels.dtype} of shape {labels.shape}, the image has {image.shape}; expected uint8 "
            "or uint16 of the image's three-dimensional shape."
        )
    volume = Volume(image, labels, np.asarray(affine), unions, weights)
    if unions is not None and len(volume.objects()) < len(unions):
        empty = next(union for number, union in enumerate(unions, 1) if number not in volume.objects())
        raise DataSetError(f"{file}: no voxel has a label of the object {list(empty)}; leave it out of `objects`.")
    return volume


def _table(arrays: Mapping[str, np.ndarray]) -> tuple[tuple[tuple[int, ...], ...] | None, tuple[float, ...] | None]:
    """Label values and weights of each object, as `Volume` takes them.

    Raises:
        ValueError: They do not fit together.
    """
    if "objects" not in arrays:
        if "weights" in arrays:
            raise ValueError("`weights` without `objects`; give both, or neither")
        return None, None
    table = arrays["objects"]
    if table.ndim != 2 or table.dtype.kind not in "ui" or (table < 0).any() or not table.any(axis=1).all():
        raise ValueError(
            f"`objects` is {table.dtype} of shape {table.shape}; expected (N, P) label values, padded with 0, at least "
            "one above 0 in each row"
        )
    unions = tuple(tuple(sorted({int(value) for value in row if value})) for row in table)
    if "weights" not in arrays:
        return unions, None
    weights = tuple(np.asarray(arrays["weights"], dtype=float).ravel().tolist())
    is_fitting = len(weights) == len(unions) and all(math.isfinite(w) and w >= 0 for w in weights) and any(weights)
    if not is_fitting:
        raise ValueError(f"`weights` are {list(weights)}; expected {len(unions)}, none negative and one above 0")
    return unions, weights


def _read_pair(file: Path, labels_are_objects: bool) -> Volume:
    labels = labels_of(file)
    image, truth = read_volume(file), read_volume(labels)
    if image.voxels.shape != truth.voxels.shape:
        raise DataSetError(f"{labels}: {tuple(truth.voxels.shape)} voxels; its image has {tuple(image.voxels.shape)}.")
    values = truth.voxels.numpy()
    parts = values.astype(np.uint16) if labels_are_objects else (values > 0).astype(np.uint8)
    return Volume(image.voxels.numpy(), parts, image.affine)
