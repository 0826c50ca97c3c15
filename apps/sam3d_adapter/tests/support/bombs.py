"""Small files that unpack to much, or say so: uploads that no server may fall for."""

import zlib
from collections.abc import Callable, Iterable, Iterator

import nibabel as nib
import numpy as np
from pydicom.dataset import FileDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian

from tests.support.dicom_study import centred_geometry, make_study
from tests.support.odd_series import as_file, multi_frame

Upload = tuple[str, bytes]
"""Name and content of a file."""
_MIB = 2**20
_GZIP, _ZLIB, _BARE = 31, 15, -15
_META = 128 + 4 + 12  # bytes before the meta header's elements, which its length counts


def compressed(kind: int, parts: Iterable[bytes]) -> bytes:
    """Parts as one compressed stream; takes the memory of one part.

    Args:
        kind: by zlib's numbers: 31 gzip, 15 zlib, -15 DEFLATE alone.
        parts: what is compressed.
    """
    stream = zlib.compressobj(9, wbits=kind)
    return b"".join([*(stream.compress(part) for part in parts), stream.flush()])


def repeated(value: bytes, nbytes: int) -> Iterator[bytes]:
    """A value again and again, in parts of a MiB at most."""
    part = value * (_MIB // len(value))
    for _ in range(nbytes // _MIB):
        yield part
    yield part[: nbytes % _MIB]


def nifti_head(side: int, dtype: type, *, slope: float = 1.0) -> bytes:
    """The first 352 bytes of a cube of 1 mm voxels."""
    header = nib.Nifti1Header()
    header.set_data_dtype(dtype)
    header.set_data_shape((side,) * 3)
    header.set_sform(np.eye(4), 1)
    header["vox_offset"], header["magic"], header["scl_slope"] = 352, b"n+1", slope
    return bytes(header.binaryblock) + bytes(4)


def packed_nifti(side: int, dtype: type = np.uint8, *, value: int = 0, more: int = 0, slope: float = 1.0) -> bytes:
    """A cube of one value, and so many zero bytes behind its voxels."""
    voxel = np.array(value, dtype).tobytes()
    voxels = repeated(voxel, side**3 * len(voxel))
    return compressed(_GZIP, [nifti_head(side, dtype, slope=slope), *voxels, *repeated(b"\0", more)])


def endless_extension(nbytes: int) -> bytes:
    """A NIfTI file with an extension whose length is 0, on which readers take the rest of the file for it."""
    head = bytearray(nifti_head(16, np.uint8))
    head[108:112] = np.float32(4096).tobytes()  # vox_offset
    head[348] = 1
    return compressed(_GZIP, [bytes(head), *repeated(b"\0", 4096 - 352 + 16**3 + nbytes)])


def packed_nrrd(side: int, *, more: int = 0) -> bytes:
    """As `packed_nifti`, of one byte a voxel."""
    head = (
        f"NRRD0004\ntype: uchar\ndimension: 3\nsizes: {side} {side} {side}\nencoding: gzip\n"
        "space: left-posterior-superior\nspace origin: (0,0,0)\nspace directions: (1,0,0) (0,1,0) (0,0,1)\n\n"
    )
    return head.encode() + compressed(_GZIP, repeated(b"\0", side**3 + more))


def packed_mha(side: int, *, more: int = 0) -> bytes:
    """As `packed_nifti`, of one byte a voxel."""
    voxels = compressed(_ZLIB, repeated(b"\0", side**3 + more))
    head = (
        "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nCompressedData = True\n"
        f"CompressedDataSize = {len(voxels)}\n"
        f"DimSize = {side} {side} {side}\nElementSpacing = 1 1 1\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n"
    )
    return head.encode() + voxels


def deflated(dataset: FileDataset, *, zeros: int = 0) -> bytes:
    """A DICOM file with the deflated transfer syntax, and a private element of so many zeros before all others."""
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    whole = as_file(dataset)
    start = _META + dataset.file_meta.FileMetaInformationGroupLength
    rest = zlib.decompress(whole[start:], -zlib.MAX_WBITS)
    element = b"\x09\x00\x10\x10OB\0\0" + zeros.to_bytes(4, "little")
    before = [element, *repeated(b"\0", zeros)] if zeros else []
    return whole[:start] + compressed(_BARE, [*before, rest])


def small_frames() -> FileDataset:
    """A series of 16 slices in one file."""
    geometry = centred_geometry((40, 32, 16), (2.0, 2.0, 3.0))
    image = np.random.default_rng(3).normal(40, 60, geometry.shape).astype(np.int16)
    return multi_frame(make_study(image, geometry, patient_name="Frames"))


def large_frames(side: int) -> bytes:
    """A deflated DICOM file whose pixels are zeros, side x side x 16 of them."""
    dataset = small_frames()
    dataset.Rows = dataset.Columns = side
    dataset.PixelData = bytes(side * side * int(dataset.NumberOfFrames) * 2)
    return deflated(dataset)


BOMBS: dict[str, Callable[[int], Upload]] = {
    "zeros, uint8": lambda side: ("a.nii.gz", packed_nifti(side)),
    "one value, int16": lambda side: ("a.nii.gz", packed_nifti(side, np.int16, value=40)),
    "zeros, float64": lambda side: ("a.nii.gz", packed_nifti(side, np.float64)),
    "zeros, int16 scaled": lambda side: ("a.nii.gz", packed_nifti(side, np.int16, slope=0.5)),
    "small image, zeros behind it": lambda side: ("a.nii.gz", packed_nifti(16, more=4 * side**3)),
    "extension without end": lambda side: ("a.nii.gz", endless_extension(3 * side**3)),
    "NRRD of zeros": lambda side: ("a.nrrd", packed_nrrd(side)),
    "small NRRD, zeros behind it": lambda side: ("a.nrrd", packed_nrrd(16, more=4 * side**3)),
    "MetaImage of zeros": lambda side: ("a.mha", packed_mha(side)),
    "deflated DICOM, private zeros": lambda side: ("a.dcm", deflated(small_frames(), zeros=3 * side**3)),
}
"""By what is wrong with them; ``side`` is that of a cube of voxels, 1024 for the largest that is let through."""
