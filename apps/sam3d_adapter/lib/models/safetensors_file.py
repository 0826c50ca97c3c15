"""Safetensors files of any model: read with clear errors, checked to the last value, written whole."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lib.files.atomic_write import replacing
from lib.models.checkpoint_error import CheckpointError, require_file

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
"""Number types that a file may hold; the model in memory is float32."""


def read_tensors(path: Path, what: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a file.

    Args:
        path: The file.
        what: It should be, for messages: "the base safetensors file of model size 'tiny'".

    Raises:
        CheckpointError: The file is absent or damaged.
    """
    require_file(path, what)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError, RuntimeError, ValueError, TypeError) as error:
        raise CheckpointError(
            f"{path}: not a readable safetensors file ({error}). Expected {what}, whole; copy it again, or convert it "
            "again."
        ) from error
    return tensors, metadata


def check_tensors(
    tensors: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]], path: Path, *, size: str
) -> None:
    """Compare tensors with the names and shapes they must have, and look at every value.

    Raises:
        CheckpointError: A name is missing or unknown, a shape or number type is another, a value NaN or infinite.
    """
    missing, unexpected = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
    if missing or unexpected:
        raise CheckpointError(
            f"{path}: {len(missing)} keys missing {missing[:5]}, {len(unexpected)} unexpected {unexpected[:5]}. "
            f"Expected the {len(expected)} tensors of model size '{size}'; use a file made for it."
        )
    for name, value in tensors.items():
        if tuple(value.shape) != expected[name]:
            raise CheckpointError(
                f"{path}: '{name}' has shape {tuple(value.shape)}, expected {expected[name]} of model size '{size}'. "
                "Use a file made for this size."
            )
        if value.dtype not in DTYPES or value.layout != torch.strided or value.device.type != "cpu":
            raise CheckpointError(
                f"{path}: '{name}' is a {str(value.layout).removeprefix('torch.')} tensor of {value.dtype} on "
                f"{value.device}, expected plain numbers of {', '.join(map(str, DTYPES))}. Convert the file again."
            )
        wrong = value.numel() - int(torch.isfinite(value).sum())
        if wrong:
            raise CheckpointError(
                f"{path}: {wrong} of the {value.numel()} values of '{name}' are not finite (NaN or infinite). Expected "
                "finite numbers: the file is damaged or its training failed. Use another one."
            )


def write_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    """Write a file that replaces the old one once it is whole; equal content gives equal bytes."""
    with replacing(path) as partial:
        save_file(dict(tensors), partial, metadata=dict(metadata))
        _sort_metadata(partial)


def _sort_metadata(path: Path) -> None:
    """Put the metadata of a safetensors file in the order of its keys.

    The library writes them in an order that changes from run to run, and with them the file's checksum.
    """
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        assert len(text) <= length, "the same values in another order are no longer"
        file.seek(8)
        file.write(text.ljust(length))
