"""The versions of the weights over HTTP, which MONAI Label 0.8.5 does not know.

``GET /versions/``, ``GET /versions/{preset}``, ``GET /versions/{preset}/page``, ``GET /versions/{preset}/{id}``,
``GET /versions/{preset}/{id}/export``, ``POST /versions/{preset}/{id}/publish``, ``POST /versions/{preset}/roll_back``.
Those that write take a JSON object ``{"by": "...", "reason": "..."}`` and, like the export, the rights of an
administrator.

Bringing in a version from elsewhere is left to the command on the server: weights decide what everybody is shown, and
MONAI Label lets everybody be an administrator as long as it is not told otherwise.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from fastapi import APIRouter, Depends, HTTPException
from fastapi import Path as InPath
from fastapi.responses import FileResponse, HTMLResponse
from monailabel.config import RBAC_ADMIN, RBAC_USER, settings
from monailabel.endpoints.user.auth import RBAC
from pydantic import BaseModel
from starlette.background import BackgroundTask

from lib.host.own_endpoints import add_endpoints
from lib.host.requester import current_user
from lib.infers.click_segmentation import ClickSegmentation
from lib.learning.versions_page import versions_page
from lib.models.checkpoint_error import CheckpointError
from lib.prompts.reading import short
from lib.registry.archive import export_version
from lib.registry.errors import NewerFormat, RegistryBusy, RegistryError, UnknownVersion
from lib.registry.version import SHIPPED, require_name, shipped_base
from lib.registry.versions import Versions

_NAME = r"^[A-Za-z0-9._-]+$"
_MOST_EVENTS = 100


class Decision(BaseModel, extra="forbid"):
    """Who decides, and why."""

    by: str
    reason: str = ""


def add_version_endpoints(tasks: Mapping[str, Any], app_dir: Path) -> None:
    """Adds the endpoints; does nothing in a process that serves no HTTP. May be called again, with the tasks of a new
    app.

    Args:
        tasks: infer tasks by name; those without versions are passed over.
        app_dir: the app folder, which no answer reveals.
    """
    add_endpoints("versions", _router(tasks, app_dir))


def _router(tasks: Mapping[str, Any], app_dir: Path) -> APIRouter:
    known = {name: task for name, task in tasks.items() if isinstance(task, ClickSegmentation)}
    user, admin = (
        [Depends(RBAC(role))] for role in (settings.MONAI_LABEL_AUTH_ROLE_USER, settings.MONAI_LABEL_AUTH_ROLE_ADMIN)
    )
    router = APIRouter(prefix="/versions", tags=["Versions"])

    # Functions without async: they run aside of the event loop, which goes on answering clicks.
    @router.get("/", summary=f"{RBAC_USER}What is served of every preset", dependencies=user)
    def api_presets() -> dict[str, Any]:
        return {"presets": {name: _standing(task) for name, task in known.items() if task.served.versions}}

    @router.get("/{preset}", summary=f"{RBAC_USER}The versions of a preset", dependencies=user)
    def api_versions(preset: str = InPath(pattern=_NAME)) -> dict[str, Any]:
        with _errors(app_dir):
            return _all_of(*_task(known, preset))

    # Before the address of a version, which would take the word for an id.
    @router.get("/{preset}/page", summary=f"{RBAC_USER}The versions of a preset, for people", dependencies=user)
    def api_page(preset: str = InPath(pattern=_NAME)) -> HTMLResponse:
        with _errors(app_dir):
            return HTMLResponse(versions_page(_task(known, preset)[1]))

    @router.get("/{preset}/{version_id}", summary=f"{RBAC_USER}One version", dependencies=user)
    def api_version(preset: str = InPath(pattern=_NAME), version_id: str = InPath(pattern=_NAME)) -> dict[str, Any]:
        with _errors(app_dir):
            return _one_of(_task(known, preset)[1], version_id)

    @router.get("/{preset}/{version_id}/export", summary=f"{RBAC_ADMIN}One version as a file", dependencies=admin)
    def api_export(preset: str = InPath(pattern=_NAME), version_id: str = InPath(pattern=_NAME)) -> FileResponse:
        with _errors(app_dir):
            return _exported(_task(known, preset)[1], version_id)

    @router.post("/{preset}/{version_id}/publish", summary=f"{RBAC_ADMIN}Serve a version", dependencies=admin)
    def api_publish(
        decision: Decision, preset: str = InPath(pattern=_NAME), version_id: str = InPath(pattern=_NAME)
    ) -> dict[str, Any]:
        by = _name(decision)
        with _errors(app_dir):
            task, versions = _task(known, preset)
            # First, so that no click waits for it, and what cannot be served is not published.
            task.served.prepare(version_id)
            base = shipped_base(task.served.shipped_weights)
            versions.publish(version_id, by, decision.reason, base=base)
            return _standing(task)

    @router.post("/{preset}/roll_back", summary=f"{RBAC_ADMIN}Serve what was served before", dependencies=admin)
    def api_roll_back(decision: Decision, preset: str = InPath(pattern=_NAME)) -> dict[str, Any]:
        by = _name(decision)
        with _errors(app_dir):
            task, versions = _task(known, preset)
            versions.roll_back(by, decision.reason)
            return _standing(task)

    return router


def _task(known: Mapping[str, ClickSegmentation], preset: str) -> tuple[ClickSegmentation, Versions]:
    task = known.get(preset)
    if task is None or task.served.versions is None:
        raise HTTPException(404, f"There is no preset {short(preset)} here; choose from: {', '.join(sorted(known))}.")
    return task, task.served.versions


def _name(decision: Decision) -> str:
    try:
        by = require_name(decision.by)
    except RegistryError as error:
        raise HTTPException(422, str(error)) from error
    user = current_user()
    return by if user in (None, by) else f"{by} ({user})"


def _standing(task: ClickSegmentation) -> dict[str, Any]:
    versions, status = task.served.versions, task.served.status()
    assert versions is not None  # asked for such tasks alone
    try:
        best = versions.known_state().best
    except (RegistryError, OSError):
        best = None
    return {
        "size": versions.size,
        "served": status.version,
        "best": best,
        "versions": len(versions.ids()),
        "problem": task.without_paths(status.problem) if status.problem else None,
    }


def _all_of(task: ClickSegmentation, versions: Versions) -> dict[str, Any]:
    stages = versions.stages()
    facts = [{**version.to_dict(), "state": stages.get(version.id, "trained")} for version in versions.versions()]
    events = [state.to_dict()["event"] for state in versions.history()[-_MOST_EVENTS:]]
    return {
        "preset": versions.preset,
        **_standing(task),
        "versions": facts,
        "previous": list(reversed(versions.known_state().rollback_stack)),
        "history": events,
        "problems": versions.problems(),
    }


def _one_of(versions: Versions, version_id: str) -> dict[str, Any]:
    if version_id == SHIPPED:
        facts: dict[str, Any] = {"id": SHIPPED, "preset": versions.preset, "size": versions.size}
        stage = "served" if versions.known_state().served == SHIPPED else "shipped"
    else:
        pruned = versions.pruned()
        found = pruned[version_id] if version_id in pruned else versions.get(version_id)
        facts, stage = found.to_dict(), versions.stages()[version_id]
    return {**facts, "state": stage, "history": [s.to_dict()["event"] for s in versions.events_of(version_id)]}


def _exported(versions: Versions, version_id: str) -> FileResponse:
    folder = tempfile.mkdtemp(prefix="export-")
    remove: Callable[..., None] = shutil.rmtree
    try:
        name = f"{versions.preset}-{versions.size}-{version_id}.zip"
        export_version(versions, version_id, Path(folder) / name)
    except BaseException:
        remove(folder, ignore_errors=True)
        raise
    after = BackgroundTask(remove, folder, ignore_errors=True)
    return FileResponse(Path(folder) / name, media_type="application/zip", filename=name, background=after)


@contextmanager
def _errors(app_dir: Path) -> Iterator[None]:
    """Turns what the registry raises into answers; those of the disk are answered as everywhere."""
    try:
        yield
    except UnknownVersion as error:
        raise HTTPException(404, str(error)) from error
    except (NewerFormat, RegistryBusy) as error:
        raise HTTPException(503, str(error)) from error
    except (RegistryError, CheckpointError) as error:
        raise HTTPException(409, str(error).replace(f"{app_dir}{os.sep}", "")) from error
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise HTTPException(
            503, "The server has too little memory for this version beside the one it serves."
        ) from error
