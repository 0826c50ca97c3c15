"""From which address the request comes that is being answered; MONAI Label does not tell an app."""

import contextvars
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

_address: contextvars.ContextVar[str] = contextvars.ContextVar("sam3d_adapter_address", default="")


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
