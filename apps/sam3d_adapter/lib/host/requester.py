"""Patches: MONAI Label does not tell an app which user sends a request, and from which address.

In MONAI Label 0.8.5 each endpoint gets the user from its check of roles (``monailabel/endpoints/user/auth.py:135``);
``/infer`` does not hand him on. We wrap the check, so that it leaves the name where the app finds it while it answers
that request. We know of no upstream issue.
"""

import contextvars
import functools
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from monailabel.config import settings
from monailabel.endpoints.user.auth import RBAC

from lib.host.patches.version_guard import check_host_version

# Endpoint and check run one after the other in the same asyncio task, and so in the same context.
_user: contextvars.ContextVar[str | None] = contextvars.ContextVar("sam3d_adapter_user", default=None)
_address: contextvars.ContextVar[str] = contextvars.ContextVar("sam3d_adapter_address", default="")
_MARK = "_sam3d_adapter_user"


def remember_users() -> None:
    """From now on ``current_user`` knows who sent the request that is being answered."""
    check_host_version(__name__)
    # The host loads lib again at each reload of the app: the variable of the check that is in force is the one to read.
    if hasattr(RBAC.__call__, _MARK):
        return
    check = RBAC.__call__

    @functools.wraps(check)
    async def remembering(self: RBAC, *args: Any, **kwargs: Any) -> Any:
        user = await check(self, *args, **kwargs)
        # Without authentication everybody is MONAI Label's "admin": nobody is known.
        _user.set(getattr(user, "username", None) if settings.MONAI_LABEL_AUTH_ENABLE else None)
        return user

    setattr(remembering, _MARK, _user)
    RBAC.__call__ = remembering


def current_user() -> str | None:
    """Name of the user whose request is being answered; None where MONAI Label knows none."""
    remembered: contextvars.ContextVar[str | None] = getattr(RBAC.__call__, _MARK, _user)
    return remembered.get()


class RememberAddress:
    """ASGI middleware that leaves the client's address where `current_address` finds it.

    Args:
        app: what is asked.
    """

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self._app = app

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        host, _ = scope.get("client") or ("", 0)
        token = _address.set(host)
        try:
            await self._app(scope, receive, send)
        finally:
            _address.reset(token)


def current_address() -> str:
    """Address of the client whose request is being answered; empty where there is none.

    Behind a reverse proxy that the server trusts (uvicorn: one on this machine, and ``FORWARDED_ALLOW_IPS``), it is
    that of ``X-Forwarded-For``.
    """
    return _address.get()
