"""Patches: values of any kind go into the request of a training, a scoring, a batch or a choice of the next sample.

MONAI Label 0.8.5 lets the body of a request override what its address names, keeps what cannot be written as JSON in
the index of its images (``monailabel/endpoints/activelearning.py:51``), and hands the rest to a process that ends by
it, or cannot be started at all when it is long (``monailabel/utils/async_tasks/utils.py:62``). Now and then the answer
is status 500 though the task runs, for its thread changes it meanwhile (``:115``). That another one is running it says
in a name of its own (``monailabel/utils/async_tasks/task.py:25``).

``POST /train/``, which "Update Model" of its panel in OHIF asks for, puts a training of every preset into a queue, each
a process of its own, and once more with each request (``monailabel/endpoints/train.py:36``). Stopping ends the one that
runs; the next one begins (``utils.py:119``). A process that cannot be started stays "submitted" for ever (``:115``).
Here one process trains what has new labels, there is one such request at a time, and stopping ends all of it. We know
of no upstream issue.
"""

import contextlib
import functools
import logging
import os
import subprocess
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from fastapi import HTTPException
from monailabel.datastore.dicom import DICOMWebDatastore
from monailabel.interfaces.tasks.batch_infer import BatchInferImageType
from monailabel.interfaces.utils.app import app_instance
from monailabel.utils.async_tasks.task import AsyncTask
from monailabel.utils.async_tasks.utils import processes, tasks
from monailabel.utils.others.generic import file_checksum

from lib.host.batch_inference import require_batch
from lib.host.json_object import require_storable
from lib.host.pacs.same_slices import SERIES_HASH_KEY, current_hash
from lib.host.patches.save_label import read_save_label, require_safe_tag
from lib.host.patches.unknown_names import require_model, require_task
from lib.host.patches.version_guard import check_host_version
from lib.host.patches.wrapping import wrap
from lib.infers.proposal import PROPOSAL
from lib.prompts.reading import short

logger = logging.getLogger(__name__)

MAX_BODY_CHARACTERS = 2**16
"""It becomes one argument of a command, and Linux takes at most 128 KiB of one."""
_KINDS: Mapping[str, tuple[tuple[type, ...], str]] = {
    "device": ((str, list), "a text such as 'cpu' or 'cuda'"),
    "gpus": ((str,), "a text such as 'all' or '0,1'"),
    "multi_gpu": ((bool,), "true or false"),
    "max_workers": ((int,), "a whole number"),
    "max_batch_size": ((int,), "a whole number"),
    "logging": ((str,), "a text such as 'INFO'"),
    # MONAI Label's own client sends null unless it was given one.
    "client_id": ((str, type(None)), "a text"),
}
"""What MONAI Label itself reads; a task reads the rest."""
_GONE_S = 10.0
_WAIT = "Wait for it (GET {path} says how far it is), or stop it (DELETE {path}), then ask again."


def patch_task_endpoints() -> None:
    """Wraps the endpoints' functions; does nothing in a process that serves no HTTP."""
    wrap("monailabel.endpoints.activelearning", "sample", _sample)
    wrap("monailabel.endpoints.batch_infer", "run", _run_batch)
    wrap("monailabel.endpoints.batch_infer", "status", _batch_status)
    wrap("monailabel.utils.async_tasks.utils", "_task_func", _run_task)
    for task in ("train", "scoring", "batch_infer"):
        wrap(f"monailabel.endpoints.{task}", "stop", functools.partial(_stop, task))
    for name, one, every in (("train", "run_model", _run_trainer), ("scoring", "run_method", _run_scoring)):
        wrap(f"monailabel.endpoints.{name}", one, every)
    wrap("monailabel.endpoints.train", "run", _run_trainers)
    wrap("monailabel.endpoints.scoring", "run", _run_all)


def require_usable(params: Mapping[str, Any] | None, **address: str) -> None:
    """Passes if the body of a request can be handed on.

    Args:
        params: the body, as read from JSON.
        address: what the address names; the body may name nothing else.

    Raises:
        HTTPException: 413 for too much, 422 for all else.
    """
    check_host_version(__name__)
    if not params:
        return
    length = len(require_storable(params, "body"))
    if length > MAX_BODY_CHARACTERS:
        raise HTTPException(
            413, f"The body has {length} characters; at most {MAX_BODY_CHARACTERS} are read. Send less."
        )
    for key, value in params.items():
        if value != address.get(key, value):
            raise HTTPException(422, f"The body names another {key} than the address; name it in the address alone.")
        kinds, expected = _KINDS.get(key, ((object,), ""))
        is_count = isinstance(value, int) and not isinstance(value, bool) and value >= 0
        if not isinstance(value, kinds) or (kinds == (int,) and not is_count):
            raise HTTPException(422, f"'{key}' is {short(value)}; {expected} is expected. Correct it, or leave it out.")
    _require_images(params.get("images", "all"))
    require_safe_tag(params.get("label_tag"))
    read_save_label(params.get("save_label"))


def _require_images(images: Any) -> None:
    if isinstance(images, list) and all(isinstance(image, str) for image in images):
        return
    choice = [kind.value for kind in BatchInferImageType]
    if images not in choice:
        raise HTTPException(
            422, f"'images' is {short(images)}; a list of ids, or one of {', '.join(choice)}, is expected."
        )


def _sample(host: Any, strategy: str, params: dict | None = None, user: str | None = None) -> Any:
    require_task("strategy", strategy, app_instance()._strategies)
    require_usable(params, strategy=strategy)
    chosen = host(strategy, params, user)
    datastore = app_instance().datastore()
    if not chosen or not isinstance(datastore, DICOMWebDatastore):
        return chosen
    found = current_hash(chosen["id"], datastore)
    # By its checksum 3D Slicer notices that the file in its own cache is another by now; a folder of slices has none.
    checksum = {"checksum": file_checksum(chosen["path"])} if found and os.path.isfile(chosen["path"]) else {}
    return {**chosen, **checksum, SERIES_HASH_KEY: found}


def _run_batch(host: Any, model: str, images: Any = None, params: dict | None = None, run_sync: Any = False) -> Any:
    # What a batch saves is not what is saved already.
    require_model(model, app_instance()._infers.keys() - {PROPOSAL})
    require_usable(params, model=model)
    _require_background(run_sync, "run the batch", "batch", "/batch/infer")
    require_batch(params or {})
    if not processes("batch_infer"):
        app_instance()._batch_infer.forget()
    return _started("batch_infer", "/batch/infer", lambda: host(model, images, params, run_sync))


def _batch_status(host: Any, all: bool = False, check_if_running: bool = False) -> Any:
    found = host(all, check_if_running)
    # What is noted is of the newest one.
    newest = (found[-1:] if isinstance(found, list) else [found])[0]
    shown = _as_it_is_now(newest) | {"progress": app_instance()._batch_infer.progress()}
    return [*found[:-1], shown] if isinstance(found, list) else shown


def _run_trainer(host: Any, model: str, params: dict | None = None, run_sync: Any = False, enqueue: Any = False) -> Any:
    trainers = app_instance()._trainers
    require_task("trainer", model, trainers)
    require_usable(params, model=model)
    _require_settings(trainers[model], params)
    _require_background(run_sync)
    if missing := trainers[model].missing_weights():
        raise HTTPException(503, missing)
    _require_free(model, trainers[model])
    if not enqueue and (active := _active("train")):
        raise _running_already(active[0], "/train/")
    return _started("train", "/train/", lambda: host(model, params, run_sync, enqueue))


def _run_trainers(host: Any, params: dict | None = None, run_sync: Any = False) -> Any:
    """One process for all; for each preset what the host's would answer: the task, or why it is not trained."""
    _require_background(run_sync)
    _require_usable_of_all(params)
    body, trainers = params or {}, app_instance()._trainers
    if "model" in body:
        raise HTTPException(422, "POST /train/ is for all presets; name the one in the address: POST /train/PRESET.")
    for name, trainer in trainers.items():
        _require_settings(trainer, {**body, **body.get(name, {})})
    missing = {name: trainer.missing_weights() for name, trainer in trainers.items()}
    if not trainers:
        return {}
    if all(missing.values()):
        raise HTTPException(503, "No preset has weights to begin with. " + " ".join(filter(None, missing.values())))
    if active := _active("train"):
        if "model" in active[0]["request"]:
            raise _running_already(active[0], "/train/")
        task, detail = active[0], "All presets are being trained already; each reads its labels when its turn comes."
    else:
        # A request without a model is for all of them.
        (task, _), detail = AsyncTask.run("train", params=dict(body)), None
        if task is None:
            raise _running_already(None, "/train/")
    shown = _as_it_is_now(task)
    return {
        name: {"result": None, "detail": why} if (why := missing[name]) else {"result": shown, "detail": detail}
        for name in trainers
    }


def _require_settings(trainer: Any, params: Mapping[str, Any] | None) -> None:
    try:
        trainer.read(params or {})
    except ValueError as error:
        raise HTTPException(422, str(error)) from error


def _require_background(run_sync: Any, work: str = "train", task: str = "training", path: str = "/train/") -> None:
    if run_sync:
        raise HTTPException(
            422, f"run_sync would {work} within the server, and nobody could click meanwhile. Leave it out: the {task} "
            f"runs beside the server, and GET {path} says how far it is."
        )  # fmt: skip


def _started(method: str, path: str, start: Callable[[], Any]) -> Any:
    """What the host answers, or in words that a task of that kind is running already."""
    try:
        return _as_it_is_now(start())
    except HTTPException as error:
        if error.status_code != 429:
            raise
        raise _running_already(next(iter(_active(method)), None), path) from error


def _running_already(task: Mapping[str, Any] | None, path: str) -> HTTPException:
    of_it = ""
    if task is not None:
        name = task["request"].get("model") or task["request"].get("method")
        of_it = f" of {short(name) if name else 'all presets'}, since {task['start_ts']}"
    return HTTPException(429, f"There is one running already{of_it}. {_WAIT.format(path=path)}")


def _active(method: str) -> list[Any]:
    """Tasks that run or wait, oldest first."""
    return [task for task in list(tasks(method)) if task["status"] in ("SUBMITTED", "RUNNING")]


_begun: set[str] = set()
"""Ids of the tasks that a thread has taken up and not ended."""


def _run_task(host: Any, task: dict[str, Any], *arguments: Any) -> None:
    _begun.add(task["id"])
    try:
        # Read after it is noted as begun: who stops it writes first, then looks whether it has begun.
        if task["status"] == "SUBMITTED":
            host(task, *arguments)
    except OSError as error:
        logger.exception("A process could not be started.")
        task |= {"status": "ERROR", "details": [f"The process could not be started: {error.strerror}."]}
        raise
    finally:
        _begun.discard(task["id"])


def _require_free(name: str, trainer: Any) -> None:
    """Passes if no other server and no ``sam3d finetune`` trains a preset; of this server's own the host says it."""
    if not processes("train") and trainer.is_running():
        raise HTTPException(
            429, f"Preset '{name}' is being trained by another process on this folder: another server, or sam3d "
            "finetune. Wait for it to end, or end it there; GET /info/ says how far it is."
        )  # fmt: skip


def _stop(task: str, host: Any) -> Any:
    waiting = [one for one in _active(task) if one["status"] == "SUBMITTED"]
    for one in waiting:
        one |= {"status": "STOPPED", "end_ts": datetime.now().strftime("%Y-%m-%d %H:%M:%S")}
    until = time.monotonic() + _GONE_S
    # Its thread may have read that it is to begin; then it runs in a moment, and can be ended.
    while any(one["id"] in _begun and one["status"] == "STOPPED" for one in waiting) and time.monotonic() < until:
        time.sleep(0.01)
    running = list(processes(task).values())
    stopped = host() or next(iter(waiting), None)
    for process in running:
        # A moment: what is killed holds its lock, and its memory, until it is gone.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GONE_S)
    if not isinstance(stopped, dict):
        return stopped
    # 3D Slicer reads the last of these lines, and fails where there is none.
    return _as_it_is_now(stopped) | {"details": [*stopped.get("details", ()), "Stopped."]}


def _run_scoring(host: Any, method: str, params: dict | None = None, *how: Any) -> Any:
    require_task("scoring method", method, app_instance()._scoring_methods)
    require_usable(params, method=method)
    return _started("scoring", "/scoring/", lambda: host(method, params, *how))


def _as_it_is_now(task: Any) -> Any:
    # The thread that runs the task writes into the very dictionaries, which fails their way into the answer.
    copy = dict(task) if isinstance(task, dict) else task
    return {**copy, "request": dict(copy["request"])} if isinstance(copy, dict) and "request" in copy else copy


def _run_all(host: Any, params: dict | None = None, *how: Any) -> Any:
    _require_usable_of_all(params)
    return host(params, *how)


def _require_usable_of_all(params: Mapping[str, Any] | None) -> None:
    """Passes if a body for all trainers or scorings can be handed on: it holds an object for each, and the rest is for
    all of them."""
    require_usable(params)
    app = app_instance()
    body = params or {}
    for name in body.keys() & (app._trainers.keys() | app._scoring_methods.keys()):
        if not isinstance(body[name], dict):
            raise HTTPException(422, f"'{name}' is {short(body[name])}; an object of its values is expected.")
        require_usable(body[name])
