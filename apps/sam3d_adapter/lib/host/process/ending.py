"""Patches: a server that is told to end waits for ever for an open upload, and its tasks go on without it.

MONAI Label 0.8.5 starts uvicorn without a time limit for requests that are still open (``monailabel/main.py:194``).
Trainings, scorings and batches are processes of their own, of which a server that ends, is killed or is started anew
knows nothing (``monailabel/utils/async_tasks/utils.py:66``): they keep the preset's lock, and nobody can stop them. We
know of no upstream issue.

Here the server ends `GRACE_S` after the first signal at the latest, and each task watches its server.
"""

import logging
import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any

from lib.host.patches.version_guard import check_host_version

logger = logging.getLogger(__name__)

GRACE_S = 5.0
"""For the requests that are open when the server is told to end."""
_SERVER = "SAM3D_ADAPTER_SERVER_PID"
"""In the environment of a task: the process that started it."""
_POLL_S = 0.5


def end_in_time() -> None:
    """Lets this server end soon after SIGTERM or SIGINT, and the tasks that it starts know whose they are."""
    check_host_version(__name__)
    os.environ[_SERVER] = str(os.getpid())
    # Only there can signals be handled; elsewhere whoever runs the application ends it.
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _ending(signal.getsignal(number)))


def end_with_server() -> None:
    """In a task that a server started: from now on it ends when the server does, however that ends.

    Watching, for the kernel's own signal (PR_SET_PDEATHSIG) comes when the thread ends that started the process, and
    not at all if the server ended before it was asked for.
    """
    server = os.environ.get(_SERVER, "")
    if "monailabel.app" in sys.modules or not server:
        return
    # A group of its own, to end all at once: what measures versions in processes of its own would leave those behind.
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)
    threading.Thread(target=_watch, args=(int(server),), name="server-watch", daemon=True).start()


def _watch(server: int) -> None:
    while os.getppid() == server:
        time.sleep(_POLL_S)
    os.killpg(os.getpgrp(), signal.SIGKILL)


def _ending(before: Any) -> Any:
    def handle(number: int, frame: FrameType | None) -> None:
        timer = threading.Timer(GRACE_S, _end, (number,))
        timer.daemon = True
        timer.start()
        if callable(before):
            before(number, frame)

    return handle


def _end(number: int) -> None:
    logger.warning("The server ends, though requests or tasks are still open.")
    logging.shutdown()
    os._exit(128 + number)
