"""Copying tensors of a file into the parameters of a model, and a report of every key."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from lib.models.safetensors_file import check_tensors
from lib.models.sam3d import Sam3dAdapter
from lib.models.trainable import interaction_names


@dataclass(frozen=True)
class LoadReport:
    """What became of every key.

    Attributes:
        loaded: Names of the model's parameters that a file gave.
        created: Names made by a rule -> the rule.
        ignored: Keys of the file that were not used -> the reason.
        version: sha256 of the weights file; empty while only a base is loaded.
        base_sha256: `base_digest` of the base that the weights are bound to; empty likewise.
        provenance: What the weights file says of its origin.
    """

    loaded: tuple[str, ...]
    created: Mapping[str, str] = field(default_factory=dict)
    ignored: Mapping[str, str] = field(default_factory=dict)
    version: str = ""
    base_sha256: str = ""
    provenance: Mapping[str, object] = field(default_factory=dict)


def assign(model: Sam3dAdapter, tensors: Mapping[str, Tensor], expected: set[str], path: Path) -> None:
    """Copy tensors into the parameters `expected`, all of them and no others.

    Raises:
        CheckpointError: As `check_tensors`; the model is then unchanged.
    """
    shapes = {name: tuple(model.get_parameter(name).shape) for name in expected}
    check_tensors(tensors, shapes, path, size=model.config.size)
    with torch.no_grad():
        for name, value in tensors.items():
            model.get_parameter(name).copy_(value)


def create_interaction(model: Sam3dAdapter) -> dict[str, str]:
    """Give the parts that the published model lacks values that change nothing; returns the rule for each."""
    names = interaction_names(model)
    with torch.no_grad():
        for name in names:
            model.get_parameter(name).zero_()
    return {name: "zero: without effect until it is trained" for name in sorted(names)}
