"""The files that take the records: append-only, private, bounded, safe with several threads and processes."""

import contextlib
import hashlib
import hmac
import json
import logging
import os
import re
import secrets
import stat
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lib.files.lock import file_lock, locked

logger = logging.getLogger(__name__)

_FILE = re.compile(r"audit-(\d{8})-(\d{4})\.jsonl")
_ID = re.compile(r"(\d{8})T\d{6}-[0-9a-f]{12}")
# Files the budget is cut into: rotation drops the oldest of them, so about that part of the records at once.
_PARTS = 16
_LOCK_TIMEOUT_S = 5.0


class AuditError(RuntimeError):
    """A record that could not be written or found; the text names no path."""


def new_id(now: datetime) -> str:
    """A record's id, such as ``20260131T235959-0123456789ab``: UTC, then chance, so that processes need not agree."""
    return f"{now.astimezone(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(6)}"


class AuditLog:
    """One JSON object a line in ``audit-YYYYMMDD-NNNN.jsonl`` (UTC), the files 0600 in a folder of 0700.

    A line is one write with O_APPEND, under a lock that all processes of the folder share, because starting the next
    file and dropping the oldest must be decided by one at a time. A line that does not fit on the disk is taken back,
    so that no half record stands in the way of the next. Nothing is touched until the first record.

    Args:
        folder: made if it does not exist; its parents too.
        max_bytes: budget for all files; the oldest are removed when it is used up.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder, self.max_bytes = folder, max_bytes
        self._key: bytes | None = None

    def append(self, record: Mapping[str, Any]) -> None:
        """Writes one record.

        Raises:
            AuditError: the folder is open to others or cannot be locked, or not all of the record could be written.
            OSError: no folder can be made there, the disk is full.
            TypeError: the record cannot be expressed in JSON; so does ValueError.
        """
        line = json.dumps(record, separators=(",", ":"), allow_nan=False).encode() + b"\n"
        with self._locked():
            self._make_room(len(line))
            self._write(self._current_file(len(line)), line)

    def find(self, record_id: str) -> dict[str, Any]:
        """The record of an id.

        Raises:
            AuditError: no id, or no record of it here.
        """
        matched = _ID.fullmatch(record_id)
        if not matched:
            raise AuditError(f"{record_id!r} is no id of a record; one looks like 20260131T235959-0123456789ab.")
        # The record may have been written just after midnight, so that its own day is only the first guess.
        for path in sorted(self.files(), key=lambda path: (matched[1] not in path.name, path.name)):
            for record in _records(path, containing=record_id):
                if record.get("id") == record_id:
                    return record
        raise AuditError(f"There is no record {record_id} among {len(self.files())} files; older ones may be removed.")

    def records(self, *, containing: str = "") -> Iterator[dict[str, Any]]:
        """All records, oldest first; torn lines are passed over.

        Args:
            containing: text that a record's line must hold, which saves reading the others.
        """
        for path in self.files():
            yield from (record for record in _records(path, containing=containing) if isinstance(record, dict))

    def files(self) -> list[Path]:
        """The files there are, oldest first."""
        with contextlib.suppress(FileNotFoundError):
            return sorted(path for path in self.folder.iterdir() if _FILE.fullmatch(path.name))
        return []

    def name_hash(self, name: str) -> str:
        """A name that nobody can guess back: HMAC-SHA256 with a key that lies in the folder and nowhere else.

        Plain sha256 would not do. Image ids are often patient names, of which there are few enough to try them all.
        Equal names have equal hashes as long as the key is kept; records that are handed on without the key tell
        nothing of the name.

        Raises:
            AuditError: as for ``append``; so does OSError.
        """
        if self._key is None:
            with self._locked():
                self._key = self._read_or_make_key()
        return hmac.new(self._key, name.encode(), hashlib.sha256).hexdigest()

    def has_key(self) -> bool:
        """Whether names can be compared with the hashes of earlier records."""
        return (self.folder / "key").is_file()

    def _read_or_make_key(self) -> bytes:
        path, new = self.folder / "key", self.folder / "key.new"
        if not path.exists():
            new.unlink(missing_ok=True)
            with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(secrets.token_hex(32).encode())
            new.replace(path)
        return path.read_bytes()

    def _locked(self) -> contextlib.AbstractContextManager[None]:
        self._require_private_folder()
        busy = AuditError("Another process keeps the audit folder locked.")
        return locked(file_lock(self.folder / "lock", _LOCK_TIMEOUT_S), busy)

    def _require_private_folder(self) -> None:
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            self.folder.mkdir(mode=0o700)
        found = self.folder.stat()
        if not stat.S_ISDIR(found.st_mode):
            raise AuditError("Where the audit folder should be is something else.")
        # Not corrected silently: whoever names a folder that exists may have others in mind who read it.
        if found.st_mode & 0o077:
            raise AuditError(f"The audit folder is open to others (mode {stat.S_IMODE(found.st_mode):o}); make it 700.")

    def _make_room(self, length: int) -> None:
        sizes = {path: path.stat().st_size for path in self.files()}
        while len(sizes) > 1 and sum(sizes.values()) + length > self.max_bytes:
            oldest = min(sizes)
            oldest.unlink()
            del sizes[oldest]
            logger.warning("The oldest audit file was removed to stay within %d bytes.", self.max_bytes)

    def _current_file(self, length: int) -> Path:
        day = f"{datetime.now(UTC):%Y%m%d}"
        numbers = [int(found[2]) for path in self.files() if (found := _FILE.fullmatch(path.name)) and found[1] == day]
        path = self.folder / f"audit-{day}-{max(numbers, default=0):04d}.jsonl"
        if path.exists() and path.stat().st_size + length > self.max_bytes // _PARTS:
            path = self.folder / f"audit-{day}-{max(numbers) + 1:04d}.jsonl"
        return path

    def _write(self, path: Path, line: bytes) -> None:
        fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(fd).st_size
            # The end of a record whose writer was killed stays what it is; this one starts on a line of its own.
            if size and os.pread(fd, 1, size - 1) != b"\n":
                line = b"\n" + line
            try:
                written = os.write(fd, line)
            except OSError:
                os.ftruncate(fd, size)
                raise
            if written != len(line):
                os.ftruncate(fd, size)
                raise AuditError(f"Only {written} of {len(line)} bytes could be written; is the disk full?")
        finally:
            os.close(fd)


def _records(path: Path, *, containing: str) -> Iterator[dict[str, Any]]:
    """The records of a file whose line holds a text; torn lines are passed over."""
    with contextlib.suppress(FileNotFoundError), path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            if containing in line:
                with contextlib.suppress(json.JSONDecodeError):
                    yield json.loads(line)
