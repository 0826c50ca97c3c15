"""Clicks through MONAI Label's own Python client, as a viewer would."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from monailabel.client import MONAILabelClient
from monailabel.client.client import MONAILabelClientException

from demo.study import DemoError, Study, Voxel


@dataclass(frozen=True)
class Answer:
    """What one request brought.

    Attributes:
        mask: (i, j, k) bool, on the grid of the image.
        seconds: from sending the request to having the mask.
        stages_ms: milliseconds by stage, as measured by the server.
        warnings: what the server wants the user to know.
        version: of the model that answered.
        encodes: image encoder passes that it took.
    """

    mask: np.ndarray
    seconds: float
    stages_ms: dict[str, float]
    warnings: tuple[str, ...]
    version: str = "shipped"
    encodes: int = 0


def send_clicks(
    url: str,
    study: Study,
    preset: str,
    clicks: Sequence[Voxel],
    folder: Path,
    background: Sequence[Voxel] = (),
    client_id: str | None = None,
) -> Answer:
    """Ask the server for the mask of some clicks.

    Args:
        url: the server's.
        study: the image clicked on.
        preset: name of the infer task.
        clicks: voxel indices (i, j, k), all on the structure.
        folder: takes the answered file.
        background: voxel indices beside the structure.
        client_id: of the viewer that asks, as 3D Slicer's plug-in sends it.

    Raises:
        DemoError: the server refuses, or answers a mask on another grid.
    """
    params = {
        "foreground": [list(click) for click in clicks],
        "background": [list(click) for click in background],
        "result_extension": ".nii.gz",
        "result_dtype": "uint8",
    }
    began = time.monotonic()
    try:
        file, body = MONAILabelClient(url, tmpdir=str(folder), client_id=client_id).infer(
            preset, study.image_id, params
        )
    except MONAILabelClientException as error:
        raise DemoError(f"The server refused the click: {_detail(error)}") from error
    if file is None:
        raise DemoError(f"The server answered without a mask: {body}")
    answered = nib.load(file)
    mask = np.asarray(answered.dataobj) > 0
    seconds = time.monotonic() - began
    if mask.shape != study.image.shape or not np.allclose(answered.affine, study.affine, atol=1e-3):
        raise DemoError(
            f"The mask of shape {mask.shape} does not lie on the image's grid {study.image.shape}:\n"
            f"{answered.affine}\ninstead of\n{study.affine}"
        )
    warnings, version = tuple(body.get("warnings", ())), str(body.get("version", ""))
    return Answer(mask, seconds, _stages(body), warnings, version, int(body.get("encodes", 0)))


def _stages(body: dict[str, Any]) -> dict[str, float]:
    return {str(stage): float(value) for stage, value in body.get("latency_ms", {}).items()}


def _detail(error: MONAILabelClientException) -> str:
    """The ``detail`` inside the client's 'Status: 400; Response: {...}', or all of it."""
    _, _, response = str(error.msg).partition("Response: ")
    try:
        return str(json.loads(response)["detail"])
    except (ValueError, KeyError, TypeError):
        return str(error.msg)
