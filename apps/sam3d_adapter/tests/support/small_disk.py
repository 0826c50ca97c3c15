"""A disk of a few hundred kilobytes, to be filled or made read-only in tests; needs the rights of root, and Linux."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class SmallDisk:
    """A mounted folder.

    Attributes:
        folder: where it is mounted.
    """

    folder: Path

    @contextlib.contextmanager
    def full(self, *, left: int = 0) -> Iterator[None]:
        """Filled up to about ``left`` bytes for the time of the ``with`` block."""
        state = os.statvfs(self.folder)
        ballast = self.folder / "ballast"
        ballast.write_bytes(bytes(max(0, state.f_bavail * state.f_frsize - left)))
        try:
            yield
        finally:
            ballast.unlink()

    @contextlib.contextmanager
    def read_only(self) -> Iterator[None]:
        """Not writable for the time of the ``with`` block, even for root."""
        _run("mount", "-o", "remount,ro", str(self.folder))
        try:
            yield
        finally:
            _run("mount", "-o", "remount,rw", str(self.folder))


@contextlib.contextmanager
def small_disk(folder: Path, size: int) -> Iterator[SmallDisk]:
    """A disk for the time of the ``with`` block.

    Args:
        folder: where to mount it; made if missing.
        size: bytes.

    Raises:
        OSError: this machine does not let us.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _run("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder))
    try:
        yield SmallDisk(folder)
    finally:
        # Lazily: somebody may still have it open.
        _run("umount", "-l", str(folder))


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
