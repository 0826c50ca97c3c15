"""Files that claim to be images, for uploads: as bytes, by what is wrong with them."""

import gzip
import io
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import ArrayLike

from tests.support.noise_site import AFFINE, SHAPE


def voxels(shape: tuple[int, ...] = SHAPE, dtype: Any = np.int16) -> np.ndarray:
    """Noise, the same each time."""
    return np.random.default_rng(7).normal(40, 60, shape).astype(dtype)


def nifti(array: np.ndarray, affine: ArrayLike = AFFINE, **header: Any) -> bytes:
    """A NIfTI file with fields of its header set afterwards, whatever nibabel thinks of them.

    Args:
        array: voxels.
        affine: (4, 4), voxel index to RAS mm.
        header: fields of NIfTI-1, e.g. ``dim``; an array may be shorter than the field.
    """
    image = nib.Nifti1Image(array, None, dtype=array.dtype)
    image.set_sform(np.asarray(affine, float), 1)
    image.header["qform_code"] = 0
    return patched(image.to_bytes(), **header)


def patched(file: bytes, **header: Any) -> bytes:
    """A NIfTI-1 file with other header fields."""
    kind = nib.Nifti1Header.template_dtype
    fields = np.frombuffer(bytearray(file[: kind.itemsize]), kind)[0].copy()
    for name, value in header.items():
        if fields[name].shape:
            fields[name][: len(value)] = value
        else:
            fields[name] = value
    return fields.tobytes() + file[kind.itemsize :]


def packed(file: bytes) -> bytes:
    """The file as gzip writes it."""
    return gzip.compress(file, mtime=0)


def zeros_packed(head: bytes, count: int) -> bytes:
    """``head`` and ``count`` zero bytes behind it as gzip writes them; takes a thousandth of the memory."""
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as file:
        file.write(head)
        for _ in range(count // 2**20):
            file.write(bytes(2**20))
        file.write(bytes(count % 2**20))
    return buffer.getvalue()


def nrrd(array: np.ndarray, *, fields: str = "", drop: tuple[str, ...] = (), data: bytes | None = None) -> bytes:
    """An NRRD file of little-endian int16.

    Args:
        array: (i, j, k).
        fields: further lines of the header; they come first, so they win where a reader takes the first of two.
        drop: names of fields to leave out.
        data: in place of the voxels.
    """
    lines = {
        "type": "short", "dimension": "3", "sizes": " ".join(map(str, array.shape)), "encoding": "raw",
        "endian": "little", "space": "left-posterior-superior", "space origin": "(0,0,0)",
        "space directions": "(1,0,0) (0,1,0) (0,0,1)",
    }  # fmt: skip
    header = "".join(f"{name}: {value}\n" for name, value in lines.items() if name not in drop)
    body = array.astype("<i2").tobytes(order="F") if data is None else data
    return f"NRRD0004\n{fields}{header}\n".encode() + body


def mha(array: np.ndarray, *, data_file: str = "LOCAL", **fields: str) -> bytes:
    """A MetaImage file of little-endian int16; ``fields`` replace those of the header."""
    lines = {
        "ObjectType": "Image", "NDims": "3", "BinaryData": "True", "BinaryDataByteOrderMSB": "False",
        "CompressedData": "False", "DimSize": " ".join(map(str, array.shape)), "ElementSpacing": "1 1 1",
        "ElementType": "MET_SHORT",
    }  # fmt: skip
    header = "".join(f"{name} = {value}\n" for name, value in (lines | fields).items())
    return f"{header}ElementDataFile = {data_file}\n".encode() + array.astype("<i2").tobytes(order="F")
