"""Patches: ``POST /train`` (and scoring, batch inference) puts a caller's ``bundle_path`` on the task's PYTHONPATH.

MONAI Label 0.8.5 starts these tasks as processes and appends ``request["bundle_path"]`` to their PYTHONPATH
(``monailabel/utils/async_tasks/utils.py:50``); a ``sitecustomize.py`` in that folder is then executed. The caller's
value is only replaced if the app names a path itself (``monailabel/utils/async_tasks/task.py:37``), so the app names
its own folder, which is on that path anyway. We know of no upstream issue.
"""

from lib.host.patches.version_guard import check_host_version


def own_bundle_path(app_dir: str) -> str:
    """The path that replaces whatever the caller of a background task asked for."""
    check_host_version(__name__)
    return app_dir
