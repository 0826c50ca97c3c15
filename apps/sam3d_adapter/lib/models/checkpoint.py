"""Own checkpoints: safetensors that hold only what is trained, bound to their frozen base.

A served model is two files: the *base* (for the ViTs SAM's own checkpoint, for `tiny` a safetensors file) and the
*weights* (the trained set). The weights name the base they were trained on by a digest of the frozen tensors, so that
they can never run on another one. Loading is total: every key is loaded, created by a stated rule, or ignored for a
stated reason; nothing is unpickled.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lib.models.build import build_empty, build_model
from lib.models.config import MODEL_SIZES
from lib.models.sam3d import Sam3dAdapter
from lib.models.trainable import frozen_names, trained_names

FORMAT = "sam3d_adapter/1"
"""Value of the metadata key `format`; the number grows when the meaning of a file changes."""


class CheckpointError(ValueError):
    """A file that cannot be loaded, with what was expected and found."""


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


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def base_digest(model: Sam3dAdapter) -> str:
    """sha256 over name, shape and fp32 values of every frozen parameter, in the order of names.

    It depends on the values alone, not on the file they came from.
    """
    digest = hashlib.sha256()
    for name in sorted(frozen_names(model)):
        value = model.get_parameter(name).detach().to("cpu", torch.float32).contiguous()
        digest.update(f"{name}{tuple(value.shape)}".encode())
        digest.update(value.numpy().data)
    return digest.hexdigest()


def assign(model: Sam3dAdapter, tensors: Mapping[str, Tensor], expected: set[str], path: Path) -> None:
    """Copy tensors into the parameters `expected`, all of them and no others.

    Raises:
        CheckpointError: Names, shapes or values (NaN, infinite) are wrong; the model is then unchanged.
    """
    missing, unexpected = sorted(expected - tensors.keys()), sorted(tensors.keys() - expected)
    if missing or unexpected:
        raise CheckpointError(
            f"{path}: {len(missing)} keys missing {missing[:5]}, {len(unexpected)} unexpected {unexpected[:5]}. "
            f"Expected the {len(expected)} tensors of model size '{model.config.size}'."
        )
    for name, value in tensors.items():
        want = model.get_parameter(name).shape
        if value.shape != want:
            raise CheckpointError(f"{path}: '{name}' has shape {tuple(value.shape)}, expected {tuple(want)}.")
        if not value.is_floating_point() or not torch.isfinite(value).all():
            raise CheckpointError(f"{path}: '{name}' holds values that are not finite numbers ({value.dtype}).")
    with torch.no_grad():
        for name, value in tensors.items():
            model.get_parameter(name).copy_(value)


def read_safetensors(path: Path, *, kind: str, size: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of one of our files.

    Raises:
        CheckpointError: The file is absent, damaged, of another kind, format or size.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file. Expected the {kind} of model size '{size}'.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file ({error}).") from error
    found = {key: metadata.get(key) for key in ("format", "kind", "size")}
    wanted = {"format": FORMAT, "kind": kind, "size": size}
    if found != wanted:
        raise CheckpointError(f"{path}: expected {wanted}, found {found}.")
    if size in MODEL_SIZES and metadata.get("config") != _config_json(MODEL_SIZES[size].to_dict()):
        raise CheckpointError(f"{path}: made for other numbers of size '{size}': {metadata.get('config')}.")
    return tensors, metadata


def _config_json(config: Mapping[str, object]) -> str:
    return json.dumps(config, sort_keys=True)


def _save(model: Sam3dAdapter, path: Path, names: set[str], dtype: torch.dtype, metadata: dict[str, str]) -> None:
    tensors = {n: model.get_parameter(n).detach().to("cpu", dtype).contiguous() for n in sorted(names)}
    common = {"format": FORMAT, "size": model.config.size, "config": _config_json(model.config.to_dict())}
    # Written beside the target and moved over it: a reader sees the old file or the new one, never half of one.
    partial = path.with_name(path.name + ".partial")
    save_file(tensors, partial, metadata=common | metadata)
    partial.replace(path)


def save_base(model: Sam3dAdapter, path: Path, *, dtype: torch.dtype = torch.float32) -> None:
    """Write the frozen parameters of a size that has no SAM checkpoint.

    With half precision the model in memory is rounded as well, so that it equals the file.
    """
    with torch.no_grad():
        for name in frozen_names(model):
            parameter = model.get_parameter(name)
            parameter.copy_(parameter.to(dtype))
    _save(model, path, frozen_names(model), dtype, {"kind": "base"})


def save_trained(
    model: Sam3dAdapter, path: Path, *, provenance: Mapping[str, object], dtype: torch.dtype = torch.float32
) -> None:
    """Write the trained parameters, bound to the base that the model holds now.

    Args:
        model: Whose parameters.
        path: Target; replaced atomically.
        provenance: Where the weights come from (data, command, metrics, licence): plain JSON values.
        dtype: Stored type.
    """
    metadata = {"kind": "trained", "base_sha256": base_digest(model), "provenance": json.dumps(dict(provenance))}
    _save(model, path, trained_names(model), dtype, metadata)


def load_trained(model: Sam3dAdapter, path: Path) -> LoadReport:
    """Load a weights file into a model that holds its base.

    Raises:
        CheckpointError: The file is damaged, of another size, or bound to another base.
    """
    tensors, metadata = read_safetensors(path, kind="trained", size=model.config.size)
    have = base_digest(model)
    if metadata.get("base_sha256") != have:
        raise CheckpointError(
            f"{path}: trained on the base {metadata.get('base_sha256')}, but the loaded base is {have}. "
            "Use the base file that came with these weights."
        )
    assign(model, tensors, trained_names(model), path)
    provenance = json.loads(metadata.get("provenance", "{}"))
    return LoadReport(tuple(sorted(tensors)), version=file_sha256(path), base_sha256=have, provenance=provenance)


def load_base(model: Sam3dAdapter, path: Path) -> LoadReport:
    """Load the frozen base: one of our safetensors, or SAM's ``.pth`` for the ViTs.

    Raises:
        CheckpointError: The file does not hold the base of this size.
    """
    if path.suffix == ".pth":
        # Imported here: most processes never read a SAM file.
        from lib.models.sam_checkpoint import load_sam_checkpoint

        return load_sam_checkpoint(model, path)
    tensors, _ = read_safetensors(path, kind="base", size=model.config.size)
    assign(model, tensors, frozen_names(model), path)
    return LoadReport(tuple(sorted(tensors)))


def load_model(*, size: str, base: Path, weights: Path) -> tuple[Sam3dAdapter, LoadReport]:
    """A model ready to serve, in eval mode on the CPU, and what was loaded.

    Raises:
        CheckpointError: A file is absent or wrong; says which and why.
    """
    # Checked before the base is read: the weights are the likelier to be absent, and far smaller.
    read_safetensors(weights, kind="trained", size=size)
    model = build_model(size)
    model.requires_grad_(False)
    base_report = load_base(model, base)
    report = load_trained(model, weights)
    loaded = tuple(sorted({*base_report.loaded, *report.loaded}))
    left = {n for n, _ in model.named_parameters()} - set(loaded)
    if left:
        raise CheckpointError(f"{base} and {weights} together leave {len(left)} parameters unset: {sorted(left)[:5]}.")
    return model, LoadReport(loaded, {}, base_report.ignored, report.version, report.base_sha256, report.provenance)


def parameter_shapes(size: str) -> dict[str, tuple[int, ...]]:
    """Shape of every parameter of a size, without allocating one."""
    return {name: tuple(p.shape) for name, p in build_empty(size).named_parameters()}
