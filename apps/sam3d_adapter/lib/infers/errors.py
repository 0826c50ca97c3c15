"""Errors of the lower layers as HTTP answers, the only kind whose text reaches the viewers."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from fastapi import HTTPException

from lib.infers.write_mask import WriteError
from lib.models.checkpoint_error import CheckpointError
from lib.prompts.reading import PromptError
from lib.segmenters.roi.predictor import PredictorError
from lib.serving.devices import DeviceError
from lib.volumes.label_map import LabelMapError
from lib.volumes.memory import MemoryShortage
from lib.volumes.read import ImageError

logger = logging.getLogger(__name__)

# 422: the request is understood but cannot be carried out as it stands; 503: the server lacks something.
STATUS: dict[type[Exception], int] = {
    DeviceError: 422,
    ImageError: 422,
    LabelMapError: 422,
    PredictorError: 422,
    PromptError: 422,
    CheckpointError: 503,
    MemoryShortage: 503,
    WriteError: 503,
}


@contextmanager
def http_errors(app_dir: Path | None = None) -> Iterator[None]:
    """Turns the errors of ``STATUS`` and lack of memory into ``HTTPException`` with their text.

    All others pass: an unforeseen error is a fault of the server, whose trace belongs into the log.

    Args:
        app_dir: the app folder, which no text reveals.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        logger.exception("The GPU is out of memory.")
        raise HTTPException(503, "The GPU is out of memory. Try again later, or with device 'cpu'.") from error
    except MemoryError as error:
        logger.exception("The server is out of memory.")
        raise HTTPException(503, "The server is out of memory. Try again later, or with a smaller image.") from error
    except tuple(STATUS) as error:
        status = next(code for kind, code in STATUS.items() if isinstance(error, kind))
        text = str(error).replace(f"{app_dir}{os.sep}", "") if app_dir is not None else str(error)
        raise HTTPException(status, text) from error
