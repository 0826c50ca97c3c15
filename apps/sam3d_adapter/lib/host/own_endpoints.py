"""Adds this app's own endpoints to MONAI Label's web application, and takes them away again."""

import sys
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter
from monailabel.config import settings

from lib.host.patches.version_guard import check_host_version

ROUTES = "sam3d_routes"
"""Attribute of the web application."""


def add_endpoints(name: str, router: APIRouter) -> None:
    """Adds a router; does nothing in a process that serves no HTTP.

    Args:
        name: of the router; one of the same name, which an earlier app had added, is replaced.
        router: with its prefix below the server's own.
    """
    check_host_version(__name__)
    web = _web_app()
    if web is None:
        return
    added = _added(web)
    _remove(web, added.pop(name, []))
    before = list(web.router.routes)
    web.include_router(router, prefix=settings.MONAI_LABEL_API_STR)
    added[name] = [route for route in web.router.routes if route not in before]
    web.openapi_schema = None


def remove_endpoints() -> None:
    """Removes all routers that were added."""
    web = _web_app()
    if web is None:
        return
    added = _added(web)
    while added:
        _remove(web, added.popitem()[1])


def _remove(web: Any, routes: Sequence[Any]) -> None:
    for route in routes:
        web.router.routes.remove(route)
    web.openapi_schema = None


def _added(web: Any) -> dict[str, list[Any]]:
    """Routes by the name of their router; kept with the web application, which outlives apps."""
    if not hasattr(web, ROUTES):
        setattr(web, ROUTES, {})
    added: dict[str, list[Any]] = getattr(web, ROUTES)
    return added


def _web_app() -> Any:
    module = sys.modules.get("monailabel.app")
    return None if module is None else module.app
