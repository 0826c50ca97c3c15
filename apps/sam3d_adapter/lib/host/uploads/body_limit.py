"""Patches: a request of any size is taken in and written to the temporary folder before anybody looks at it.

MONAI Label 0.8.5 and the frameworks below it set no limit. We know of no upstream issue.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from fastapi import HTTPException
from fastapi.responses import JSONResponse

from lib.host.patches.version_guard import check_host_version

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Asgi = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]


class BodyLimit:
    """ASGI middleware that refuses bodies of more than a number of bytes with status 413.

    Args:
        app: what it protects.
        max_bytes: most bytes of a body.
    """

    def __init__(self, app: Asgi, max_bytes: int) -> None:
        check_host_version(__name__)
        self._app, self._max_bytes = app, max_bytes

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"")
        if declared.isdigit() and int(declared) > self._max_bytes:
            # Nothing was read yet, and nothing will be.
            await JSONResponse({"detail": self._text()}, status_code=413)(scope, receive, send)
            return
        taken = 0

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._max_bytes:
                raise HTTPException(413, self._text())
            return message

        await self._app(scope, counted, send)

    def _text(self) -> str:
        return (
            f"The request is larger than {self._max_bytes / 2**20:g} MiB. Crop, resample or compress the image, or let "
            "the server start with a larger --conf max_upload_mb."
        )
