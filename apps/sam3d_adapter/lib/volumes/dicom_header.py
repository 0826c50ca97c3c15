"""The header of a DICOM file; nothing is unpacked beyond what it promises.

pydicom unpacks a deflated file as a whole, whatever it unpacks to; decoders of compressed images do likewise.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filereader import _read_file_meta_info, read_dataset, read_preamble
from pydicom.tag import Tag
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian

from lib.volumes.codestreams import require_promised_size
from lib.volumes.unpacking import BARE, unpacked
from lib.volumes.volume import ImageError

_MAX_HEADER = 2**24
"""Bytes; those of thousands of frames take a few MiB."""
_LENGTH_ELEMENT = 12
_PIXELS = 0x7FE00008
"""Tag from which on the pixels may come."""


def read_header(path: Path, tags: Sequence[str]) -> Dataset:
    """Some elements of a file, without its pixels.

    Args:
        path: of the file.
        tags: keywords; of a deflated file those of its size as well.

    Raises:
        InvalidDicomError: not a DICOM file.
        ImageError: a compressed file that unpacks to more than its header speaks of.
        Exception: whatever else a damaged file leads to.
    """
    with path.open("rb") as file:
        read_preamble(file, False)
        meta = _read_file_meta_info(file)
        if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
            return _read_deflated(path, file, meta, tags)
        file.seek(0)
        if not meta.get("TransferSyntaxUID", ImplicitVRLittleEndian).is_compressed:
            return pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(tags))
        header = pydicom.dcmread(file, specific_tags=[*tags, "Rows", "Columns", "PixelData"])
        require_promised_size(header, path.name)
        return header


def _read_deflated(path: Path, file: Any, meta: FileMetaDataset, tags: Sequence[str]) -> Dataset:
    start = 128 + len(b"DICM") + _LENGTH_ELEMENT + int(meta.FileMetaInformationGroupLength)
    if file.tell() != start:
        raise ValueError("the file does not say where its deflated part begins")
    head, taken, most = io.BytesIO(), 0, _MAX_HEADER
    header: Dataset | None = None
    for part in unpacked(file, BARE):
        taken += len(part)
        if head.tell() < _MAX_HEADER:
            head.write(part)
        elif header is None:
            header = _parsed(head, tags)
            most = _MAX_HEADER + _promised(header)
        if taken > most:
            raise ImageError(
                f"Image {path.name} unpacks to more than the {most} bytes that its header speaks of; it was not "
                "unpacked further. Export it again."
            )
    return _parsed(head, tags) if header is None else header


def _parsed(head: io.BytesIO, tags: Sequence[str]) -> Dataset:
    head.seek(0)
    wanted = [Tag(keyword) for keyword in (*tags, "BitsAllocated")]
    return read_dataset(head, False, True, stop_when=lambda tag, *_: tag >= _PIXELS, specific_tags=wanted)


def _promised(header: Dataset) -> int:
    """Bytes of the pixels."""
    factors = ("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "BitsAllocated")
    bits = 1
    for factor in factors:
        bits *= int(header.get(factor) or 1)
    return bits // 8
