"""Processes that one command starts for its work, and that never outlive it."""

import os
import socket
import sys
import threading
from collections.abc import Callable
from multiprocessing import parent_process
from multiprocessing.queues import SimpleQueue
from typing import Any

import torch.multiprocessing as mp

_POLL_S = 1.0


class ProcessFailedError(RuntimeError):
    """A process could not do its part; its words, or what ended it."""


def run_together(
    work: Callable[..., None],
    arguments: tuple[Any, ...],
    count: int,
    *,
    refused: tuple[type[Exception], ...],
    on_wait: Callable[[], None] = lambda: None,
) -> None:
    """Call ``work(number, *arguments)`` in new processes and wait for all; when one fails, the others are ended.

    Not by torchrun, whose processes go on when it is killed, and would then train beside those of the next command:
    these end with the process that started them, however that ends.

    Args:
        work: Of a module, as the arguments are to be pickled.
        arguments: Of each.
        count: Of processes.
        refused: Exceptions whose text says to a user what is wrong.
        on_wait: Called about once a second.

    Raises:
        ProcessFailedError: Of one that was refused, or ended from outside.
    """
    failures = mp.get_context("spawn").SimpleQueue()
    context = mp.spawn(_worker, (work, arguments, refused, failures), nprocs=count, join=False)
    try:
        while not context.join(timeout=_POLL_S):
            on_wait()
    except (mp.ProcessExitedException, mp.ProcessRaisedException) as error:
        if not failures.empty():
            raise ProcessFailedError(failures.get()) from error
        signal_name = getattr(error, "signal_name", None)
        if signal_name is None:
            raise
        reason = " Most likely memory ran out." if signal_name == "SIGKILL" else ""
        raise ProcessFailedError(f"A process of {count} was ended by {signal_name}.{reason}") from error
    finally:
        # An interruption may have reached this process alone.
        for process in context.processes:
            process.terminate()
        for process in context.processes:
            process.join()


def _worker(
    number: int,
    work: Callable[..., None],
    arguments: tuple[Any, ...],
    refused: tuple[type[Exception], ...],
    failures: "SimpleQueue[str]",
) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        work(number, *arguments)
    except refused as error:
        failures.put(" ".join(str(error).split()) or type(error).__name__)
        sys.exit(1)


def _end_with_parent() -> None:
    """End as the parent does. PyTorch asks for it by SIGINT, which is ignored by what a script started with ``&``."""
    parent = parent_process()
    assert parent is not None  # of a process that was spawned
    parent.join()
    os._exit(1)


def join_as(number: int, count: int, port: int) -> None:
    """Tell `lib.training.distributed.joined_processes` which of how many this process is.

    Args:
        number: From 0.
        count: One alone joins nobody.
        port: Free, of this machine, the same for all.
    """
    if count == 1:
        os.environ.pop("WORLD_SIZE", None)
        return
    os.environ |= {
        "RANK": str(number),
        "LOCAL_RANK": str(number),
        "WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
