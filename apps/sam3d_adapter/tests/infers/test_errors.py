"""Which error becomes which HTTP answer."""

from pathlib import Path

import pytest
import torch
from fastapi import HTTPException

from lib.infers.errors import STATUS, http_errors


@pytest.mark.parametrize(("kind", "status"), STATUS.items())
def test_errors_of_lower_layers_keep_their_text(kind: type[Exception], status: int) -> None:
    with pytest.raises(HTTPException) as caught, http_errors():
        raise kind("what to do")
    assert (caught.value.status_code, caught.value.detail) == (status, "what to do")


def test_subclasses_count_as_their_base() -> None:
    kind = next(iter(STATUS))
    with pytest.raises(HTTPException) as caught, http_errors():
        raise type("Narrower", (kind,), {})("text")
    assert caught.value.status_code == STATUS[kind]


def test_lack_of_gpu_memory() -> None:
    with pytest.raises(HTTPException) as caught, http_errors():
        raise torch.OutOfMemoryError("x")
    assert caught.value.status_code == 503 and "memory" in caught.value.detail


def test_lack_of_memory() -> None:
    with pytest.raises(HTTPException) as caught, http_errors():
        raise MemoryError
    assert caught.value.status_code == 503 and "memory" in caught.value.detail


def test_no_folder_of_the_server_is_revealed() -> None:
    kind = next(iter(STATUS))
    with pytest.raises(HTTPException) as caught, http_errors(Path("/srv/app")):
        raise kind("/srv/app/weights/a.safetensors: torn")
    assert caught.value.detail == "weights/a.safetensors: torn"


@pytest.mark.parametrize("error", [ValueError("a fault of ours"), KeyError("x"), HTTPException(404, "as it is")])
def test_all_else_passes(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, http_errors():
        raise error
    assert caught.value is error
