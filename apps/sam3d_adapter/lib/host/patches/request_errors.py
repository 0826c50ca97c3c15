"""Patches: what is wrong with the form of a request is told in the words of the frameworks, or wrongly.

MONAI Label 0.8.5 leaves these answers to FastAPI: a list of records where Slicer shows ``detail`` as a text, "There was
an error parsing the body" where the disk of the server is full, and status 500 where a file cannot be written or the
PACS does not answer. We know of no upstream issue.
"""

import errno
import logging

import requests
from fastapi import HTTPException, Request
from fastapi.exception_handlers import http_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException as StarletteHTTPException

from lib.host.patches.version_guard import check_host_version
from lib.prompts.reading import short
from lib.studies.presence import StudiesError

logger = logging.getLogger(__name__)

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_RIGHT = {errno.EROFS, errno.EACCES, errno.EPERM}
_IN_THE_WAY = {errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENOTEMPTY}
_FAULTY = {errno.EIO, errno.ESTALE, errno.ENODEV, errno.ENXIO}
_FORM = (
    "A form (multipart/form-data) with 'params', a JSON object of at most 256 KiB, and at most one 'file' is expected."
)


def storage_problem(error: BaseException | None) -> HTTPException | None:
    """The answer to an error that says the server cannot write or reach its images, or None for all others.

    Args:
        error: as raised, or as the cause of what was raised.
    """
    check_host_version(__name__)
    if isinstance(error, requests.RequestException):
        return HTTPException(503, "The DICOMweb server does not answer as it should. Try again later.")
    if isinstance(error, TimeoutError):
        return HTTPException(503, "The answer took longer than the server waits for one. Try again later.")
    if isinstance(error, StudiesError):
        return HTTPException(503, str(error))
    if not isinstance(error, OSError):
        return None
    if error.errno in _NO_SPACE:
        return HTTPException(503, "The disk of the server is full. Ask its administrator to make room, then try again.")
    if error.errno in _NO_RIGHT:
        return HTTPException(503, "The server may not write where it has to. Ask its administrator for the rights.")
    if error.errno in _IN_THE_WAY:
        return HTTPException(
            503,
            "A file lies where the server needs a folder, or a folder where it needs a file. Ask its administrator to "
            "move it away; the server's log names it.",
        )
    if error.errno in _FAULTY:
        return HTTPException(503, "The disk of the server fails. Ask its administrator to look at it.")
    return None


async def on_storage_error(request: Request, error: Exception) -> Response:
    """Answers an OSError; raises it again where it says nothing about storage."""
    answer = storage_problem(error)
    if answer is None:
        raise error
    logger.error("A request could not be answered.", exc_info=error)
    return await http_exception_handler(request, answer)


async def on_http_error(request: Request, error: Exception) -> Response:
    """Answers an HTTPException, with a better text where a form could not be read."""
    assert isinstance(error, StarletteHTTPException)  # registered for it alone
    answer: StarletteHTTPException = storage_problem(error.__cause__) or error
    if answer is error and error.status_code == 400 and _is_click(request):
        answer = HTTPException(400, f"The request cannot be read ({error.detail}). {_FORM}")
    return await http_exception_handler(request, answer)


async def on_validation_error(request: Request, error: Exception) -> Response:
    """Answers a form, a body or an address whose parts have the wrong types in one sentence."""
    assert isinstance(error, RequestValidationError)  # registered for it alone
    # Where in the request, save what kind of part it is; of a body as a whole, that.
    places = [".".join(map(str, problem["loc"][1:] or problem["loc"])) for problem in error.errors()]
    problems = "; ".join(
        f"{place} is {short(problem.get('input'))}: {problem['msg']}"
        for place, problem in zip(places, error.errors(), strict=True)
    )
    advice = f" {_FORM}" if _is_click(request) else ""
    return await http_exception_handler(request, HTTPException(422, f"{problems}.{advice}"))


def _is_click(request: Request) -> bool:
    return request.url.path.split("/")[-2:-1] == ["infer"]
