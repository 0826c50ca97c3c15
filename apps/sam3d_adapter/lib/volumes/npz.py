"""Arrays of an ``.npz`` file, mapped from the disk where they are not compressed."""

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

_HEAD_BYTES = 30
"""Of a file in a zip archive, before its name."""


class NpzArrays(Mapping[str, np.ndarray]):
    """The arrays of a file that `numpy.savez` or `numpy.savez_compressed` wrote; each is read when it is asked for.

    What is not compressed is mapped: processes share its pages, and the system drops them when memory is short.

    Args:
        path: Of the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with zipfile.ZipFile(path) as archive:
            self._members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}

    def __getitem__(self, name: str) -> np.ndarray:
        member = self._members[name]
        if member.compress_type != zipfile.ZIP_STORED:
            with np.load(self._path) as arrays:
                return np.asarray(arrays[name])
        with self._path.open("rb") as file:
            file.seek(member.header_offset)
            head = file.read(_HEAD_BYTES)
            # Its lengths may differ from those in the archive's directory.
            file.seek(int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little"), 1)
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, is_fortran, dtype = read(file)
            offset = file.tell()
        # Copied where it is written to, which nobody does; torch warns of arrays that cannot be written to.
        return np.memmap(self._path, dtype, "c", offset, shape, "F" if is_fortran else "C")

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)
