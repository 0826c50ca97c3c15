"""Puts the mends of what happens before and after MONAI Label's endpoints into its web application.

The application of MONAI Label 0.8.5 is made before the app of this folder is loaded, and closed for additions when it
starts; so what stands around the endpoints is built anew for the requests to come.
"""

import sys
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from lib.host.body_limit import BodyLimit
from lib.host.request_errors import on_http_error, on_storage_error, on_validation_error


def mend_web_app(max_body_bytes: int) -> None:
    """Limits bodies and words errors; does nothing in a process that serves no HTTP. May be called again.

    Args:
        max_body_bytes: most bytes of a request's body.
    """
    module = sys.modules.get("monailabel.app")
    if module is None:
        return
    web: Any = module.app
    web.user_middleware = [entry for entry in web.user_middleware if entry.cls.__name__ != BodyLimit.__name__]
    # Last, so that the headers that browsers ask for (CORS) are on its answers as well.
    web.user_middleware.append(Middleware(BodyLimit, max_bytes=max_body_bytes))
    web.add_exception_handler(HTTPException, on_http_error)
    web.add_exception_handler(RequestValidationError, on_validation_error)
    web.add_exception_handler(OSError, on_storage_error)
    web.middleware_stack = web.build_middleware_stack()
