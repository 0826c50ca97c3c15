"""Patches what happens before and after MONAI Label's endpoints, in its web application.

The application of MONAI Label 0.8.5 is made before the app of this folder is loaded, and closed for additions when it
starts. So its middleware stack is rebuilt for the requests to come.
"""

import sys
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from lib.host.patches.request_errors import on_http_error, on_storage_error, on_validation_error
from lib.host.requester import RememberAddress
from lib.host.uploads.body_limit import BodyLimit


def patch_web_app(max_body_bytes: int) -> None:
    """Limits bodies, remembers addresses, words errors; does nothing in a process without HTTP. May be called again.

    Args:
        max_body_bytes: most bytes of a request's body.
    """
    web = _web_app()
    if web is None:
        return
    restore_web_app()
    web.host_state = (list(web.user_middleware), dict(web.exception_handlers))
    # Last, so that the headers that browsers ask for (CORS) are on its answers as well.
    web.user_middleware.append(Middleware(BodyLimit, max_bytes=max_body_bytes))
    web.user_middleware.append(Middleware(RememberAddress))
    web.add_exception_handler(HTTPException, on_http_error)
    web.add_exception_handler(RequestValidationError, on_validation_error)
    web.add_exception_handler(OSError, on_storage_error)
    web.middleware_stack = web.build_middleware_stack()


def restore_web_app() -> None:
    """Removes the patches, as if the app had not been loaded."""
    web = _web_app()
    if web is None or not hasattr(web, "host_state"):
        return
    web.user_middleware, web.exception_handlers = web.host_state
    del web.host_state
    web.middleware_stack = web.build_middleware_stack()


def _web_app() -> Any:
    module = sys.modules.get("monailabel.app")
    return None if module is None else module.app
