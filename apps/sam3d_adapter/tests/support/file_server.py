"""A real HTTP server on this machine that serves one file, with ranges, and with the faults that networks have."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Fault:
    """How one request is answered otherwise than it should be.

    Attributes:
        cut: Hang up after so many bytes of the body.
        status: Answer with this status and nothing else.
        ranges: Whether ranges are known.
        shift: Send a range that begins so many bytes later than asked for.
        content: Serve this instead.
        says_length: Whether the length is told.
    """

    cut: int | None = None
    status: int | None = None
    ranges: bool = True
    shift: int = 0
    content: bytes | None = None
    says_length: bool = True


@dataclass
class FileServer:
    """What is served at every path, and what was asked.

    Attributes:
        content: The file.
        faults: For the next requests, one each; afterwards all is well.
        asked: Path and ``Range`` header of each request.
    """

    content: bytes
    faults: list[Fault] = field(default_factory=list)
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    url: str = ""


@contextmanager
def serving(content: bytes, *faults: Fault) -> Iterator[FileServer]:
    """Runs it on a free port of the loopback device."""
    state = FileServer(content, list(faults))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            state.asked.append((self.path, wanted))
            fault = state.faults.pop(0) if state.faults else Fault()
            if fault.status:
                self.send_error(fault.status)
                return
            whole = state.content if fault.content is None else fault.content
            start = 0
            if wanted and fault.ranges:
                match = re.fullmatch(r"bytes=(\d+)-", wanted)
                assert match
                start = int(match[1]) + fault.shift
                if start >= len(whole):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(whole)}")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{len(whole) - 1}/{len(whole)}")
            else:
                self.send_response(200)
            body = whole[start:]
            if fault.says_length:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: fault.cut])

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}/sam/"
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
