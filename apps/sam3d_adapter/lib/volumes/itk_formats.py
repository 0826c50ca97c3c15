"""An NRRD or MetaImage file -> its voxels and affine, read with care: it may come from anybody.

The header is read here first, because ITK takes memory for whatever a header claims, and follows a header that names
another file of the server as the place of its voxels.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from lib.volumes.dicom_image import voxels_and_affine
from lib.volumes.header_validation import reading_bytes, require_plausible
from lib.volumes.memory import reserved
from lib.volumes.unpacking import require_unpacked
from lib.volumes.volume import ImageError

_MAX_HEADER = 2**20
"""Bytes; headers of diffusion series have thousands of lines, but not more."""


@dataclass(frozen=True)
class Header:
    """What is read of a header.

    Attributes:
        shape: voxels along each axis.
        itemsize: bytes per voxel.
        packed: whether the voxels are compressed.
        offset: byte at which the voxels begin.
        list_axis: of ``shape``, the one that is no axis of space, such as the layers of overlapping segments; None
            where all are.
    """

    shape: tuple[int, ...]
    itemsize: int
    packed: bool
    offset: int
    list_axis: int | None = None

    @property
    def layers(self) -> int:
        """Length of the list axis; 1 where there is none."""
        return 1 if self.list_axis is None else self.shape[self.list_axis]


def read_itk(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The array (i, j, k), and the (4, 4) affine from voxel index to RAS mm; further axes are of one voxel.

    Raises:
        ImageError: a header that cannot be true, voxels that are not in the file itself, or more than one volume.
        MemoryShortage: too large for this server at the moment.
        Exception: whatever else a damaged file leads to.
    """
    header = READERS[path.suffix.lower()](path)
    if header.layers != 1:
        raise ImageError(
            f"Image {path.name} has {len(header.shape)} axes of {' x '.join(map(str, header.shape))} voxels: "
            f"{header.layers} numbers for each voxel; one is expected. Choose one volume of a series, not a time "
            "series, colours or a segmentation."
        )
    return _read(path, header)


def read_layers(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The array (i, j, k, layer) of an NRRD file, and the (4, 4) affine from voxel index to RAS mm.

    Raises:
        ImageError: a header that cannot be true, or voxels that are not in the file itself.
        MemoryShortage: too large for this server at the moment.
        Exception: whatever else a damaged file leads to.
    """
    return _read(path, read_nrrd_header(path))


def _read(path: Path, header: Header) -> tuple[np.ndarray, np.ndarray]:
    require_plausible(path, header.shape, header.itemsize, offset=header.offset, packed=header.packed)
    reader = sitk.ImageFileReader()
    # By name: another format would be tried for content that looks like it.
    reader.SetImageIO(_IMAGE_IO[path.suffix.lower()])
    reader.SetFileName(str(path))
    with reserved(path.name, reading_bytes(header.shape, header.itemsize)):
        if header.packed:
            require_unpacked(path, header.offset, math.prod(header.shape) * header.itemsize)
        return voxels_and_affine(reader.Execute())


# Names of types in the format's definition: https://teem.sourceforge.net/nrrd/format.html#type
_NRRD_BYTES = {
    **dict.fromkeys(("signed char", "int8", "int8_t", "uchar", "unsigned char", "uint8", "uint8_t"), 1),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), 2),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), 2),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t", "uint", "unsigned int", "uint32", "uint32_t"), 4),
    **dict.fromkeys(("longlong", "long long", "long long int", "signed long long", "int64", "int64_t"), 8),
    **dict.fromkeys(("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"), 8),
    **{"signed long long int": 8, "float": 4, "double": 8},
}
_NRRD_PACKED = {"raw": False, "gzip": True, "gz": True}


def read_nrrd_header(path: Path) -> Header:
    """The header of an NRRD file.

    Raises:
        ImageError: no such header, or one of a file whose voxels are elsewhere or in an encoding nobody needs.
    """
    lines, offset = _header_lines(path, lambda line: not line.strip())
    if not lines or not lines[0].startswith("NRRD"):
        raise ImageError(f"Image {path.name} cannot be read (it does not begin like an NRRD file). Export it again.")
    fields = _fields(path, (line for line in lines[1:] if not line.startswith("#") and ":=" not in line))
    if "data file" in fields or "datafile" in fields:
        raise _detached(path)
    # ITK would unpack the rest of the file, however long, to leave out what lies before the voxels.
    if any(fields.get(skip, "0") != "0" for skip in ("byte skip", "byteskip", "line skip", "lineskip")):
        raise ImageError(f"Image {path.name} says that something lies before its voxels (byte skip). Save it anew.")
    encoding, kind = fields.get("encoding", "").lower(), fields.get("type", "")
    if encoding not in _NRRD_PACKED or kind not in _NRRD_BYTES:
        raise ImageError(
            f"Image {path.name} has encoding {encoding[:20]!r} and type {kind[:20]!r}; one number per voxel, raw or "
            "gzip, is expected. Save it anew."
        )
    packed, shape = _NRRD_PACKED[encoding], _numbers(path, fields.get("sizes", ""))
    return Header(shape, _NRRD_BYTES[kind], packed, offset, _list_axis(path, fields, len(shape)))


def _list_axis(path: Path, fields: Mapping[str, str], axes: int) -> int | None:
    """The one axis that has no direction in space.

    Raises:
        ImageError: there are several.
    """
    directions = re.findall(r"none|\([^)]*\)", fields.get("space directions", ""))
    kinds = fields.get("kinds", "").lower().split()
    found = [axis for axis, direction in enumerate(directions) if direction == "none"]
    if not directions:
        found = [axis for axis, kind in enumerate(kinds) if kind not in ("domain", "space", "time", "???", "none")]
    if len(found) > 1 or (found and axes != 4):
        raise ImageError(
            f"Image {path.name} has {axes} axes, {len(found)} of them not in space; one volume of 3 axes is expected. "
            "Save it anew."
        )
    return found[0] if found else None


def read_nrrd_texts(path: Path) -> dict[str, str]:
    """The ``key:=value`` lines of an NRRD file's header, in which programs keep words of their own.

    Raises:
        ImageError: no such header.
        OSError: the file cannot be read.
    """
    lines, _ = _header_lines(path, lambda line: not line.strip())
    pairs = (line.partition(":=") for line in lines if ":=" in line and not line.startswith("#"))
    # Of the header only these words may be beyond ASCII: https://teem.sourceforge.net/nrrd/format.html#keyvalue
    return {key: value.encode("latin-1").decode("utf-8", errors="replace") for key, _, value in pairs}


# https://github.com/Kitware/MetaIO, metaTypes.h
_META_BYTES = {
    **dict.fromkeys(("MET_CHAR", "MET_UCHAR"), 1),
    **dict.fromkeys(("MET_SHORT", "MET_USHORT"), 2),
    **dict.fromkeys(("MET_INT", "MET_UINT", "MET_LONG", "MET_ULONG", "MET_FLOAT"), 4),
    **dict.fromkeys(("MET_LONG_LONG", "MET_ULONG_LONG", "MET_DOUBLE"), 8),
}


def read_meta_header(path: Path) -> Header:
    """The header of a MetaImage file.

    Raises:
        ImageError: no such header, or one of a file whose voxels are elsewhere.
    """
    lines, offset = _header_lines(path, lambda line: line.replace(" ", "").startswith("ElementDataFile="))
    fields = _fields(path, lines, separator="=")
    if fields.get("elementdatafile") != "LOCAL":
        raise _detached(path)
    kind, packed = fields.get("elementtype", ""), fields.get("compresseddata", "").lower() == "true"
    if kind not in _META_BYTES or fields.get("elementnumberofchannels", "1") != "1":
        raise ImageError(f"Image {path.name} has voxels of type {kind[:20]!r}; one number per voxel is expected.")
    # ITK would take as much as that number says, and leave the rest of the voxels as they come.
    if packed and fields.get("compresseddatasize") != str(path.stat().st_size - offset):
        raise ImageError(
            f"Image {path.name} does not say how long its compressed voxels are (CompressedDataSize), or holds another "
            "number of bytes. It was cut off, or a program wrote it that does not keep to the format; save it anew."
        )
    return Header(_numbers(path, fields.get("dimsize", "")), _META_BYTES[kind], packed, offset)


_IMAGE_IO = {".nrrd": "NrrdImageIO", ".mha": "MetaImageIO"}
READERS: Mapping[str, Callable[[Path], Header]] = {".nrrd": read_nrrd_header, ".mha": read_meta_header}


def _header_lines(path: Path, is_last: Callable[[str], bool]) -> tuple[list[str], int]:
    """Lines up to the one that ends the header, and the byte behind it."""
    lines = []
    with path.open("rb") as file:
        while file.tell() < _MAX_HEADER and (line := file.readline(_MAX_HEADER)):
            lines.append(line.decode("latin-1").strip("\r\n"))
            if is_last(lines[-1]):
                return lines, file.tell()
    raise ImageError(f"Image {path.name} cannot be read (its header has no end). It was cut off; send it again.")


def _fields(path: Path, lines: Iterable[str], separator: str = ":") -> dict[str, str]:
    fields: dict[str, str] = {}
    for line in lines:
        key, _, value = line.partition(separator)
        # Of two, ITK may take the other one.
        if fields.setdefault(key.strip().lower(), value.strip()) != value.strip():
            raise ImageError(
                f"Image {path.name} has two values of {key.strip()[:40]!r} in its header. Export it again."
            )
    return fields


def _numbers(path: Path, text: str) -> tuple[int, ...]:
    parts = text.split()
    if not all(part.isdecimal() and len(part) < 10 for part in parts):
        raise ImageError(f"Image {path.name} says that it has {text[:40]!r} voxels. Export it again.")
    return tuple(int(part) for part in parts)


def _detached(path: Path) -> ImageError:
    return ImageError(
        f"Image {path.name} says that its voxels are in another file; only files that hold them are read. Save it as "
        "one file (.nrrd, .mha or .nii.gz)."
    )
