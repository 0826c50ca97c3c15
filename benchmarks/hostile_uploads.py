"""Time and memory that ten small hostile uploads take of the running server.

python -m benchmarks.hostile_uploads [--side 1024] [--app DIR ...] [--most-gib 10] [--result FILE]

Each app (this one's by default; give an older checkout's beside it to compare) is asked for a mask at the middle of
each upload, first by `ct`, then by `mr`. A server that takes more memory than ``--most-gib`` is killed, and a new one
started for what follows.
"""

import argparse
import contextlib
import functools
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import requests

from benchmarks.results import Row, add_option, report
from tests.support.bombs import BOMBS, Upload
from tests.support.noise_site import write_studies
from tests.support.server import APP_DIR, AppServer, copy_app, start_server

PRESETS = ("ct", "mr")
WAIT_S = 600.0


class Watch:
    """The memory of a server while it answers; kills it above a limit.

    Args:
        pid: of the server.
        most: bytes.

    Attributes:
        peak: bytes that were held at one time.
        was_killed: whether it was.
    """

    def __init__(self, pid: int, most: int) -> None:
        self._process, self._most = psutil.Process(pid), most
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.before = self.peak = self._process.memory_info().rss
        self.was_killed = False

    def _watch(self) -> None:
        while not self._end.wait(0.02):
            with contextlib.suppress(psutil.NoSuchProcess):
                self.peak = max(self.peak, self._process.memory_info().rss)
                if self.peak > self._most and not self.was_killed:
                    self.was_killed = True
                    self._process.kill()

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()


@functools.lru_cache(maxsize=1)
def made(what: str, side: int) -> Upload:
    """One of `BOMBS`; packing gigabytes of zeros takes longer than the requests."""
    return BOMBS[what](side)


def ask(server: AppServer, preset: str, upload: Upload, most: int) -> Row:
    """One request with an upload."""
    began = time.monotonic()
    with Watch(server.running.process.pid, most) as watch:
        try:
            answer = requests.post(
                f"{server.url}/infer/{preset}",
                params={"output": "image"},
                files={"params": (None, '{"foreground": [[8, 8, 8]]}'), "file": upload},
                timeout=WAIT_S,
            )
            said = str(answer.status_code)
        except requests.RequestException:
            said = "killed" if watch.was_killed else "no answer"
    taken = (watch.peak - watch.before) / 2**30
    return {"preset": preset, "answer": said, "s": round(time.monotonic() - began, 1), "GiB more": round(taken, 1)}


def measure(app: Path, name: str, side: int, most: int, folder: Path) -> Iterator[Row]:
    """All uploads to one app."""
    studies = folder / "studies"
    if not studies.exists():
        write_studies(studies)
    copy = copy_app(folder / name, source=app)
    waiting = [(what, preset) for what in BOMBS for preset in PRESETS]
    while waiting:
        with start_server(copy, studies, folder / f"run_{name}") as server:
            warm = {"params": (None, '{"foreground": [[24, 20, 12]]}')}
            for preset in PRESETS:
                requests.post(f"{server.url}/infer/{preset}", params={"image": "case_1"}, files=warm, timeout=WAIT_S)
            while waiting:
                what, preset = waiting.pop(0)
                upload = made(what, side)
                size = round(len(upload[1]) / 2**20, 1)
                yield {"version": name, "upload": what, "MiB sent": size, **ask(server, preset, upload, most)}
                if server.running.process.poll() is not None:
                    break


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=1024, help="voxels along each axis")
    parser.add_argument("--app", type=Path, nargs="+", default=[APP_DIR], help="app folders, the newest last")
    parser.add_argument("--most-gib", type=float, default=10.0, help="memory above which a server is killed")
    add_option(parser)
    options = parser.parse_args()
    names = [*(f"before {number}" for number in range(len(options.app) - 1, 0, -1)), "now"]
    with tempfile.TemporaryDirectory() as folder:
        rows = (
            row
            for app, name in zip(options.app, names, strict=True)
            for row in measure(app.resolve(), name, options.side, int(options.most_gib * 2**30), Path(folder))
        )
        report(rows, f"{len(BOMBS)} uploads to {len(PRESETS)} presets", options.result)


if __name__ == "__main__":
    main()
