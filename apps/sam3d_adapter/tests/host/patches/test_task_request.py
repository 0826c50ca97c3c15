"""Tasks that wait, begin and are stopped, at the moments between which a person presses a button."""

import threading
import time
from typing import Any

import pytest

from lib.host.patches import task_request


@pytest.fixture
def task(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The only one there is."""
    one = {"id": "a", "status": "SUBMITTED", "request": {"model": "test"}, "start_ts": "2026-01-01 10:00:00"}
    monkeypatch.setattr(task_request, "tasks", lambda method: [one])
    monkeypatch.setattr(task_request, "processes", lambda method: {})
    return one


def test_what_was_stopped_while_it_waited_never_begins(task: dict[str, Any]) -> None:
    assert task_request._active("train") == [task]
    # The host knows processes alone, and has none.
    stopped = task_request._stop("train", lambda: None)
    assert stopped["status"] == "STOPPED" and stopped["details"] == ["Stopped."]
    begun: list[Any] = []
    task_request._run_task(begun.append, task)
    assert begun == [] and task_request._active("train") == []


def test_what_is_just_beginning_is_ended_too(task: dict[str, Any]) -> None:
    """Its thread has read that it is to begin, and its process is not there yet."""
    entered = threading.Event()

    def host(one: dict[str, Any]) -> None:
        entered.set()
        while one["status"] != "STOPPED":
            time.sleep(0.001)
        one["status"] = "RUNNING"
        while one["status"] == "RUNNING":
            time.sleep(0.001)

    def kill() -> dict[str, Any]:
        assert task["status"] == "RUNNING"
        task["status"] = "STOPPED"
        return task

    thread = threading.Thread(target=task_request._run_task, args=(host, task))
    thread.start()
    assert entered.wait(60)
    assert task_request._stop("train", kill)["status"] == "STOPPED"
    thread.join(60)
    assert not thread.is_alive() and not task_request._begun


def test_a_process_that_cannot_be_started_is_over(task: dict[str, Any]) -> None:
    def host(one: dict[str, Any]) -> None:
        raise OSError(12, "Cannot allocate memory")

    with pytest.raises(OSError, match="Cannot allocate memory"):
        task_request._run_task(host, task)
    assert task["status"] == "ERROR" and "Cannot allocate memory" in task["details"][-1]
    assert task_request._active("train") == [] and not task_request._begun
