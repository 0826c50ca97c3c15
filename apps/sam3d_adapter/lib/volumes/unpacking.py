"""Compressed content, unpacked no further than its header promises: one byte of a file can unpack to a thousand."""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from isal import igzip_lib, isal_zlib
from isal.igzip import IGzipFile

from lib.volumes.volume import ImageError

SLACK = 2**20
"""Bytes that may follow the voxels: some programs fill up the last block of a file."""
WITH_HEADER, BARE = 47, -15
"""Kinds of streams, by zlib's numbers: with the header of gzip or zlib; DEFLATE alone."""
_CHUNK = 2**20
_GZIP = b"\x1f\x8b"


class BoundedGzip(IGzipFile):
    """A gzip file to read, of which no more is unpacked than was promised.

    Args:
        path: of the file.
        promised: bytes; `SLACK` more are let through.
    """

    # Of a first click on a large CT most of the time went into unpacking; ISA-L takes little more than half of zlib's.
    def __init__(self, path: Path, promised: int) -> None:
        super().__init__(str(path), "rb")
        self._path, self._promised = path, promised

    def read(self, size: int | None = -1) -> bytes:
        """As of any file.

        Raises:
            ImageError: it goes on where it should have ended.
        """
        left = self._promised + SLACK + 1 - self.tell()
        data: bytes = super().read(left if size is None or size < 0 else min(size, left))
        if len(data) == left:
            raise _more_than(self._path, self._promised)
        return data

    # As of any file, but without a second copy of all that is read.
    def readinto(self, buffer: bytearray) -> int:
        """As of any file."""
        view, taken = memoryview(buffer), 0
        while part := self.read(min(_CHUNK, len(view) - taken)):
            view[taken : taken + len(part)] = part
            taken += len(part)
        return taken

    def require_end(self) -> None:
        """Passes if the file ends here, but for `SLACK`, and holds what was packed.

        Raises:
            ImageError: it goes on.
            EOFError: it is cut off; another OSError: it is damaged.
        """
        while self.read(_CHUNK):
            pass


def require_unpacked(path: Path, offset: int, promised: int) -> None:
    """Passes if what is compressed in a file is as long as was promised, or up to `SLACK` longer.

    Args:
        path: of the file.
        offset: bytes before the compressed ones.
        promised: bytes.

    Raises:
        ImageError: it is not, or it is damaged.
    """
    taken = 0
    with path.open("rb") as file:
        file.seek(offset)
        try:
            for part in unpacked(file, WITH_HEADER):
                taken += len(part)
                if taken > promised + SLACK:
                    raise _more_than(path, promised)
        except (EOFError, igzip_lib.IsalError):  # type: ignore[misc]  # its stub says no class
            taken = 0
    if taken < promised:
        raise ImageError(
            f"Image {path.name} cannot be read (its header speaks of {promised} bytes of voxels; the file does not "
            "hold them). It was cut off or damaged; send it again."
        )


def unpacked(file: BinaryIO, kind: int) -> Iterator[bytes]:
    """What a compressed stream holds, in parts of a MiB at most.

    Args:
        file: at the first byte of the stream.
        kind: `WITH_HEADER` or `BARE`.

    Raises:
        EOFError: it is cut off.
        isal.igzip_lib.IsalError: it is damaged.
    """
    stream = isal_zlib.decompressobj(wbits=kind)
    while data := file.read(_CHUNK):
        while part := stream.decompress(data, _CHUNK):
            yield part
            data = stream.unconsumed_tail
            if stream.eof:
                break
        if stream.eof:
            # A file of gzip may hold several streams, one behind the other.
            rest = stream.unused_data + file.read(len(_GZIP))
            if kind != WITH_HEADER or not rest.startswith(_GZIP):
                return
            file.seek(-len(rest), 1)
            stream = isal_zlib.decompressobj(wbits=kind)
    raise EOFError("The compressed stream has no end.")


def _more_than(path: Path, promised: int) -> ImageError:
    return ImageError(
        f"Image {path.name} unpacks to more than the {promised} bytes that its header speaks of; it was not unpacked "
        "further. Export it again."
    )
