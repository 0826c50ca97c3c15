"""Who asks is known while the request is answered."""

import asyncio
import json
from collections.abc import Iterator

import pytest
from fastapi import Depends, FastAPI
from monailabel.config import settings
from monailabel.endpoints.user import auth
from monailabel.endpoints.user.auth import RBAC, User, get_current_user

from lib.host.requester import current_user, remember_users


@pytest.fixture(autouse=True)
def unpatched() -> Iterator[None]:
    before = RBAC.__call__
    yield
    RBAC.__call__ = before


def answer(monkeypatch: pytest.MonkeyPatch, *, authenticated: bool) -> str | None:
    """What an endpoint with MONAI Label's check of roles finds."""
    monkeypatch.setattr(settings, "MONAI_LABEL_AUTH_ENABLE", authenticated)
    app = FastAPI()

    @app.get("/")
    async def endpoint(user: User = Depends(RBAC("reader"))):  # noqa: B008 (as MONAI Label does it)
        await asyncio.sleep(0)
        return {"user": current_user()}

    app.dependency_overrides[get_current_user] = lambda: User(username="dr_house", roles=["reader"])
    return asyncio.run(get(app))["user"]


async def get(app: FastAPI) -> dict:
    """The JSON at the app's root, asked for as a server does it."""
    sent: list[dict] = []
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
        "path": "/", "raw_path": b"/", "query_string": b"", "headers": [], "server": ("x", 80), "client": ("x", 1),
    }  # fmt: skip

    async def receive() -> dict:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return json.loads(b"".join(message.get("body", b"") for message in sent))


def test_the_name_is_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    assert answer(monkeypatch, authenticated=True) is None  # the host does not
    remember_users()
    remember_users()
    assert answer(monkeypatch, authenticated=True) == "dr_house"
    assert current_user() is None  # of no request


def test_without_authentication_nobody_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    remember_users()
    assert answer(monkeypatch, authenticated=False) is None
    assert auth.DEFAULT_USER.username == "admin"
