"""Patches: who asks is known to MONAI Label's endpoints, but an app is not told.

In MONAI Label 0.8.5 each endpoint gets the user from its check of roles (``monailabel/endpoints/user/auth.py:135``);
``/infer`` does not hand him on. The check is wrapped, and leaves the name where the app finds it while it answers that
request. We know of no upstream issue.
"""

import contextvars
import functools
from typing import Any

from monailabel.config import settings
from monailabel.endpoints.user.auth import RBAC

from lib.host.patches.version_guard import check_host_version

# Endpoint and check run one after the other in the same asyncio task, and so in the same context.
_user: contextvars.ContextVar[str | None] = contextvars.ContextVar("sam3d_adapter_user", default=None)
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
