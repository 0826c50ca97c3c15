"""Compressed images in DICOM files: read where they are as large as the header says, never unpacked where not."""

import io
import resource
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import FileDataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit

from lib.volumes.dicom_series import check_series
from lib.volumes.read import read_volume
from lib.volumes.volume import ImageError
from tests.support.odd_series import as_file, copied, make_series

SIDE = 32


def jpeg_2000(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG2000", irreversible=False, no_jp2=True)
    return file.getvalue()


def jpeg(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray((pixels >> 4).astype(np.uint8)).save(file, "JPEG", quality=95)
    return file.getvalue()


def claiming(stream: bytes, side: int) -> bytes:
    """The same image, which says that it is a square of this side."""
    at = stream.index(b"\xff\x4f\xff\x51") + 8
    return stream[:at] + struct.pack(">2I", side, side) + stream[at + 8 :]


def compressed(folder: Path, syntax: str, encode: object, bits: int = 16) -> tuple[Path, list[np.ndarray]]:
    """A series whose pixels are compressed, and the stored numbers of each slice."""
    folder.mkdir()
    stored = []
    for number, one in enumerate(make_series().instances):
        instance: FileDataset = copied(one)
        pixels = (instance.pixel_array.astype(int) - int(instance.pixel_array.min())).astype(np.uint16)
        stored.append(pixels)
        instance.PixelRepresentation, instance.BitsAllocated = 0, bits
        instance.BitsStored, instance.HighBit = bits, bits - 1
        instance.file_meta.TransferSyntaxUID = syntax
        instance.PixelData = encapsulate([encode(pixels)])  # type: ignore[operator]
        instance["PixelData"].VR = "OB"
        instance["PixelData"].is_undefined_length = True
        (folder / f"{number:02}.dcm").write_bytes(as_file(instance))
    return folder, stored


def test_lossless_jpeg_2000_is_read_as_it_is(tmp_path: Path) -> None:
    folder, stored = compressed(tmp_path / "series", JPEG2000Lossless, jpeg_2000)
    voxels = read_volume(folder).voxels.numpy()
    assert voxels.shape == (SIDE, SIDE, len(stored))
    header = make_series().instances[0]
    expected = {(pixels.T * float(header.RescaleSlope) + float(header.RescaleIntercept)).tobytes() for pixels in stored}
    assert {voxels[:, :, k].astype(float).tobytes() for k in range(len(stored))} == expected


def test_jpeg_passes_where_its_size_is_the_headers(tmp_path: Path) -> None:
    folder, stored = compressed(tmp_path / "series", JPEGBaseline8Bit, jpeg, bits=8)
    assert check_series(folder).shape == (SIDE, SIDE, len(stored))


@pytest.mark.parametrize(
    ("syntax", "encode", "size"),
    [
        (JPEG2000Lossless, lambda pixels: claiming(jpeg_2000(pixels), 60_000), "60000 x 60000"),
        (JPEG2000Lossless, lambda pixels: jpeg_2000(np.tile(pixels, (2, 3))), "96 x 64"),
        (JPEGBaseline8Bit, lambda pixels: jpeg(np.tile(pixels, (2, 3))), "96 x 64"),
    ],
)
def test_an_image_that_claims_another_size_is_refused_and_not_unpacked(
    tmp_path: Path, syntax: str, encode: object, size: str
) -> None:
    folder, _ = compressed(tmp_path / "series", syntax, encode, bits=16 if syntax == JPEG2000Lossless else 8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ImageError, match=f"compressed image of {size} pixels, and its header says 32 x 32"):
        read_volume(folder)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024  # KiB; it claims 7 GiB


def test_a_file_format_around_jpeg_2000_is_looked_into(tmp_path: Path) -> None:
    def wrapped(pixels: np.ndarray) -> bytes:
        return b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(80) + claiming(jpeg_2000(pixels), 50_000)

    folder, _ = compressed(tmp_path / "series", JPEG2000Lossless, wrapped)
    with pytest.raises(ImageError, match="50000 x 50000"):
        read_volume(folder)
