"""Downloads one large file over HTTP: resumes after an interruption; checks the sha256 before the final rename."""

import http.client
import logging
import os
import re
import shutil
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from filelock import lock_descriptor

from lib.files.checksums import file_sha256

logger = logging.getLogger(__name__)

Progress = Callable[[int, int | None], None]
"""Called with the bytes received and the total (None where the server does not say)."""

_CHUNK = 1 << 20
_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)")
# A retry does not help: no such host, connection refused, wrong certificate.
_FINAL = (socket.gaierror, ConnectionRefusedError, ssl.SSLCertVerificationError)


class DownloadError(ValueError):
    """A download failed, with the reason; a useful partial file is kept."""


class _BrokeOff(Exception):
    """This attempt ended; the next one may resume."""


@dataclass(frozen=True)
class Patience:
    """How long to try.

    Attributes:
        attempts: Connections made before giving up.
        wait_s: Pause after the first that failed, seconds; doubled after each.
        timeout_s: Longest silence of the server, seconds.
    """

    attempts: int = 6
    wait_s: float = 1.0
    timeout_s: float = 30.0


def download(
    url: str,
    target: Path,
    *,
    sha256: str,
    size: int | None = None,
    patience: Patience | None = None,
    progress: Progress | None = None,
) -> None:
    """Downloads ``url`` to ``target``.

    It grows as ``target`` + ``.partial``, which a later call resumes, and is renamed to ``target`` when its sha256 is
    right. Proxies are taken from the environment (``https_proxy``).

    Args:
        url: http or https.
        target: Its folder is made where needed.
        sha256: Of the whole file, hexadecimal.
        size: Of the whole file in bytes, where known.
        patience: When to give up.
        progress: Called after every megabyte.

    Raises:
        DownloadError: No connection, refused, another file than expected, no space, or another process downloads it.
        OSError: The folder cannot be written.
    """
    if not url.startswith(("http://", "https://")):
        raise DownloadError(f"{url} is no http or https address.")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".partial")
    with partial.open("ab") as file:
        _lock(file, partial)
        patience, resumed = patience or Patience(), _length(file) > 0
        _complete(url, file, size, patience, progress)
        got = file_sha256(partial)
        if got != sha256 and resumed:
            # The partial file may have been the beginning of another file.
            logger.warning("%s: the continued file has a wrong checksum; fetching it from the start.", target.name)
            file.truncate(0)
            _complete(url, file, size, patience, progress)
            got = file_sha256(partial)
        if got != sha256:
            partial.unlink()
            raise DownloadError(f"{url} gave another file than expected: sha256 {got} instead of {sha256}. Removed.")
        os.fsync(file.fileno())
        partial.replace(target)


def _lock(file: BinaryIO, partial: Path) -> None:
    try:
        current = lock_descriptor(file.fileno(), blocking=False)
        # Another process may have finished, and moved the file away, between opening and locking.
        current &= partial.stat().st_ino == os.fstat(file.fileno()).st_ino
    except OSError:
        current = False
    if not current:
        raise DownloadError(f"Another process is fetching {partial}. Wait for it, then run this again.")


def _length(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size


def _complete(url: str, file: BinaryIO, size: int | None, patience: Patience, progress: Progress | None) -> None:
    wait = patience.wait_s
    for attempt in range(1, patience.attempts + 1):
        try:
            return _transfer(url, file, size, patience.timeout_s, progress)
        except _BrokeOff as error:
            logger.warning("%s: %s (attempt %d of %d).", url, error, attempt, patience.attempts)
            reason = str(error)
        if attempt < patience.attempts:
            time.sleep(wait)
            wait *= 2
    raise DownloadError(
        f"{url}: gave up after {patience.attempts} attempts; the last: {reason}. "
        f"{_length(file)} bytes are kept, and the next run goes on from there."
    )


def _transfer(url: str, file: BinaryIO, size: int | None, timeout_s: float, progress: Progress | None) -> None:
    """One connection, from where the file ends to its end."""
    have = _length(file)
    headers = {"User-Agent": "sam3d_adapter", "Accept-Encoding": "identity"} | (
        {"Range": f"bytes={have}-"} if have else {}
    )
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout_s)
    except urllib.error.HTTPError as error:
        with error:
            return _refused(url, file, error)
    except (OSError, http.client.HTTPException) as error:
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(cause, _FINAL):
            raise DownloadError(f"{url}: no connection ({cause}).") from error
        raise _BrokeOff(f"no connection ({cause or type(error).__name__})") from error
    with response:
        total = _whole_length(response, file, have)
        if None not in (size, total) and size != total:
            raise DownloadError(
                f"{url} offers {total} bytes where {size} are expected: not the file, or not its server."
            )
        _receive(response, file, size or total, progress)
    if total is not None and _length(file) < total:
        raise _BrokeOff(f"the transfer broke off at {_length(file)} of {total} bytes")


def _refused(url: str, file: BinaryIO, error: urllib.error.HTTPError) -> None:
    if error.code == 416:
        match = _CONTENT_RANGE.fullmatch(error.headers.get("Content-Range", ""))
        if match and match[2] == str(_length(file)):
            return  # nothing is left to fetch
        file.truncate(0)
        raise _BrokeOff("what is there is longer than the file; starting over")
    message = f"the server answers {error.code} {error.reason}"
    if error.code >= 500 or error.code in (408, 429):
        raise _BrokeOff(message)
    raise DownloadError(f"{url}: {message}.")


def _whole_length(response: http.client.HTTPResponse, file: BinaryIO, have: int) -> int | None:
    """Bytes of the whole file, where the server says; makes the file end where the answer begins."""
    if response.status == 206:
        match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if not match or match[1] != str(have):
            file.truncate(0)
            raise _BrokeOff("the server sent another range than asked for; starting over")
        return int(match[2]) if match[2] != "*" else None
    if have:
        logger.info("The server cannot resume; starting over.")
        file.truncate(0)
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() else None


def _receive(response: http.client.HTTPResponse, file: BinaryIO, total: int | None, progress: Progress | None) -> None:
    have = _length(file)
    free = shutil.disk_usage(Path(file.name).parent).free
    if total is not None and total - have > free:
        raise DownloadError(f"{file.name}: {total - have} bytes are to come, but only {free} are free on that disk.")
    while True:
        try:
            chunk = response.read(_CHUNK)
        except (OSError, http.client.HTTPException) as error:
            raise _BrokeOff(f"the connection was lost at {have} bytes ({type(error).__name__})") from error
        if not chunk:
            return
        have += len(chunk)
        if total is not None and have > total:
            raise DownloadError(f"{file.name}: the server sends more than the {total} bytes expected.")
        try:
            file.write(chunk)
            file.flush()
        except OSError as error:
            raise DownloadError(f"{file.name}: cannot be written at {have} bytes: {error.strerror}.") from error
        if progress:
            progress(have, total)
