"""The networks of SAM 2 as the `sam2` package builds them, and their files."""

import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor

from lib.families.sam2.sizes import SIZES
from lib.files.checksums import file_sha256
from lib.models.checkpoint import read_provenance
from lib.models.checkpoint_error import CheckpointError
from lib.models.loading import LoadReport
from lib.models.safetensors_file import check_tensors, read_tensors, write_tensors

FORMAT = "sam2/1"


def build_network(size: str) -> SAM2Base:
    """A network with random weights, in training mode.

    Args:
        size: one of `SIZES`.
    """
    chosen = SIZES[size]
    # Not by the package's own builder: it needs Hydra's global state, which threads share.
    config = OmegaConf.load(str(files("sam2") / "configs" / chosen.config)).model
    for key, value in chosen.changes.items():
        OmegaConf.update(config, key, value, force_add=True)
    network: SAM2Base = instantiate(config, _recursive_=True)
    return network


def save_network(model: SAM2Base, path: Path, size: str, provenance: Mapping[str, object]) -> None:
    """Writes all parameters; the file is replaced atomically.

    Args:
        model: whose parameters.
        path: target.
        size: of the model.
        provenance: where the weights come from: plain JSON values.
    """
    metadata = {"format": FORMAT, "size": size, "provenance": json.dumps(dict(provenance))}
    write_tensors(_tensors(model), path, metadata)


def load_network(size: str, path: Path) -> tuple[SAM2Base, LoadReport]:
    """Reads a file of `save_network`.

    Raises:
        CheckpointError: the file is absent, damaged, of another kind or size, or holds values that are not finite.
    """
    what = f"the weights of sam2 size '{size}'"
    tensors, metadata = read_tensors(path, what)
    wanted, found = {"format": FORMAT, "size": size}, {key: metadata.get(key) for key in ("format", "size")}
    if found != wanted:
        raise CheckpointError(f"{path}: expected {wanted}, found {found}. Use {what}.")
    model = build_network(size)
    check_tensors(tensors, {name: tuple(value.shape) for name, value in _tensors(model).items()}, path, size=size)
    with torch.no_grad():
        model.load_state_dict({name: value.float() for name, value in tensors.items()}, strict=True)
    report = LoadReport(tuple(sorted(tensors)), version=file_sha256(path), provenance=read_provenance(metadata, path))
    return model, report


def _tensors(model: SAM2Base) -> dict[str, Tensor]:
    return {name: value.detach().to("cpu").contiguous() for name, value in model.state_dict().items()}
