"""Path of an image -> the image as it is stored."""

import zlib
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from monai.config import KeysCollection
from monai.data import ITKReader, MetaTensor
from monai.transforms import MapTransform
from monai.utils import MetaKeys
from nibabel.filebasedimages import ImageFileError
from nibabel.wrapstruct import WrapStructError

from lib.transforms.volume import ImageError, Volume, VolumeCache, make_volume

__all__ = ["ImageError", "LoadVolumed", "VolumeCache"]

NIFTI = (".nii", ".nii.gz")
MAX_VOXELS = 2**30
"""1024 cubed, 2 GiB as int16: more than any clinical series; a small compressed file can claim to be larger."""


class LoadVolumed(MapTransform):
    """Replaces the path of an image by a MetaTensor (i, j, k) with its affine, and adds the ``Volume`` it shares.

    Integers stay in their type: a volume as a whole is never converted to float, only what a click needs of it. Adds
    ``volume`` to the data.

    Args:
        keys: of the path.
        cache: shared by the tasks of a process; None to read the file every time.
    """

    def __init__(self, keys: KeysCollection = "image", *, cache: VolumeCache | None = None) -> None:
        super().__init__(keys)
        self._cache = cache

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Raises ImageError where there is no image that can be segmented."""
        d = dict(data)
        for key in self.key_iterator(d):
            path = Path(d[key])
            try:
                volume = self._cache.get(path, read_volume) if self._cache is not None else read_volume(path)
            except FileNotFoundError as error:
                raise ImageError(f"Image {path.name} does not exist on this server. Load the study again.") from error
            d["volume"] = volume
            d[key] = MetaTensor(volume.voxels, affine=volume.affine.copy())
        return d


def read_volume(path: Path) -> Volume:
    """Reads an image file, or a folder with one DICOM series.

    Raises:
        ImageError: a file that cannot be read, or no volume.
        FileNotFoundError: no such file.
    """
    if not path.exists():
        raise FileNotFoundError(path)
    array, affine = _read_nifti(path) if path.name.lower().endswith(NIFTI) else _read_other(path)
    return make_volume(array, affine, path.name)


def _read_nifti(path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        # Not mapped: uploads are deleted, and files replaced, while the image is held.
        image = nib.load(path, mmap=False)
        if np.prod(image.shape, dtype=float) > MAX_VOXELS:
            raise ImageError(
                f"Image {path.name} has {' x '.join(map(str, image.shape))} voxels; at most {MAX_VOXELS} are accepted. "
                "Crop or resample it first."
            )
        proxy = image.dataobj
        # Unscaled values come in their stored type; scaled ones would come as float64.
        scaled = (proxy.slope, proxy.inter) != (1, 0) and proxy.dtype.kind in "iuf"
        return np.asanyarray(proxy, dtype=np.float32 if scaled else None), image.affine
    except (OSError, EOFError, zlib.error, ImageFileError, WrapStructError) as error:
        raise _unreadable(path, error) from error


def _read_other(path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        # ITK by name: LoadImage's choice depends on which readers are installed, and builds all of them for each image.
        reader = ITKReader()
        array, meta = reader.get_data(reader.read(str(path)))
    # Broad: the reader passes on whatever ITK, GDCM or NumPy met, and each means that the image cannot be read.
    except Exception as error:
        raise _unreadable(path, error) from error
    return array, np.asarray(meta[MetaKeys.AFFINE])


def _unreadable(path: Path, error: Exception) -> ImageError:
    reason = str(error).splitlines()[-1] if str(error) else type(error).__name__
    return ImageError(
        f"Image {path.name} cannot be read ({reason.replace(str(path), path.name)}). "
        "A complete NIfTI, NRRD or MetaImage file is expected; send it again."
    )
