"""How large the images inside a compressed DICOM file are, before anybody unpacks them.

A decoder makes room for what the compressed image itself claims, whatever Rows and Columns of the DICOM header say; the
image of a few bytes may claim gigabytes.
"""

import struct
from collections.abc import Iterator

from pydicom.dataset import Dataset
from pydicom.encaps import generate_pixel_data_fragment, get_frame_offsets
from pydicom.filebase import DicomBytesIO

from lib.volumes.volume import ImageError

_JPEG, _JPEG_2000 = b"\xff\xd8", b"\xff\x4f\xff\x51"
_FRAMES = (*range(0xC0, 0xD0), 0xF7)
"""Markers of JPEG that tell the size, `_NO_FRAME` excepted; the last is that of JPEG-LS."""
_NO_FRAME = (0xC4, 0xC8, 0xCC)
_STANDALONE = (*range(0xD0, 0xD9), 0x01)
_WITHIN = 4096
"""Bytes within which JPEG 2000 begins where a file format is wrapped around it."""


def require_promised_size(dataset: Dataset, name: str) -> None:
    """Passes if no compressed image of a file is larger than its header says.

    Args:
        dataset: with Rows, Columns and encapsulated pixels.
        name: of the image, for the message.

    Raises:
        ImageError: one is.
        Exception: whatever else a damaged file leads to.
    """
    expected = int(dataset.Columns), int(dataset.Rows)
    for columns, rows in _sizes(dataset.PixelData):
        if (columns, rows) != expected:
            raise ImageError(
                f"Image {name} holds a compressed image of {columns} x {rows} pixels, and its header says "
                f"{expected[0]} x {expected[1]}. It was not unpacked. Export it again."
            )


def _sizes(pixels: bytes) -> Iterator[tuple[int, int]]:
    """(columns, rows) of each image that begins in a fragment."""
    encapsulated = DicomBytesIO(pixels)
    encapsulated.is_little_endian = True
    get_frame_offsets(encapsulated)  # goes on to the first fragment
    for fragment in generate_pixel_data_fragment(encapsulated):
        if fragment.startswith(_JPEG):
            yield _jpeg_size(fragment)
        elif (start := fragment.find(_JPEG_2000, 0, _WITHIN)) >= 0:
            # Lengths and capabilities first; then the far corner of the reference grid, and the image's offset on it.
            right, bottom, left, top = struct.unpack_from(">4I", fragment, start + 8)
            yield right - left, bottom - top


def _jpeg_size(fragment: bytes) -> tuple[int, int]:
    at = len(_JPEG)
    while True:
        while fragment[at] == 0xFF:
            at += 1
        marker = fragment[at]
        at += 1
        if marker in _STANDALONE:
            continue
        (length,) = struct.unpack_from(">H", fragment, at)
        if marker in _FRAMES and marker not in _NO_FRAME:
            rows, columns = struct.unpack_from(">2H", fragment, at + 3)
            return columns, rows
        at += length
