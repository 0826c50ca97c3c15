"""Own checkpoints: safetensors that hold only what is trained, bound to their frozen base.

A served model is two files: the *base* (for the ViTs SAM's own checkpoint, for `tiny` a safetensors file) and the
*weights* (the trained set). The weights name the base they were trained on by a digest of the frozen tensors, so that
they can never run on another one. Loading is total: every key is loaded, created by a stated rule, or ignored for a
stated reason; nothing is unpickled.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from lib.files.checksums import file_sha256
from lib.models.build import build_empty, build_model
from lib.models.checkpoint_error import CheckpointError
from lib.models.config import MODEL_SIZES
from lib.models.loading import LoadReport, assign, create_interaction
from lib.models.safetensors_file import read_tensors, write_tensors
from lib.models.sam3d import Sam3dAdapter
from lib.models.sam_checkpoint import load_sam_checkpoint
from lib.models.trainable import frozen_names, interaction_names, trained_names

FORMAT = "sam3d_adapter/1"
"""Value of the metadata key `format`; the number grows when the meaning of a file changes."""

LATER_NUMBERS = ("correction_sigmas",)
"""Numbers of a size that the first files do not name, because the parts they describe came later."""


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


def read_safetensors(path: Path, *, kind: str, size: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of one of our files.

    Raises:
        CheckpointError: The file is absent, damaged, of another kind, format or size.
    """
    tensors, metadata = read_tensors(path, f"the {kind} safetensors file of model size '{size}'")
    found = {key: metadata.get(key) for key in ("format", "kind", "size")}
    wanted = {"format": FORMAT, "kind": kind, "size": size}
    if found != wanted:
        raise CheckpointError(f"{path}: expected {wanted}, found {found}. {_hint(found, wanted)}")
    if size in MODEL_SIZES and not _is_config(metadata.get("config"), MODEL_SIZES[size].to_dict()):
        raise CheckpointError(
            f"{path}: made for other numbers of size '{size}': {metadata.get('config')}. Expected "
            f"{_config_json(MODEL_SIZES[size].to_dict())}. Use the file that came with this version, "
            "or convert it again."
        )
    return tensors, metadata


def _hint(found: Mapping[str, str | None], wanted: Mapping[str, str]) -> str:
    if found["format"] is None:
        return "It was not written by this project; sam3d convert makes such files from the authors' checkpoints."
    if found["format"] != wanted["format"]:
        return "It belongs to another version of this project: convert it again."
    if found["kind"] != wanted["kind"]:
        return "Base and weights seem to be swapped: check 'base' and 'weights' of the preset."
    return "Check 'size' of the preset, or use the files of that size."


def _config_json(config: Mapping[str, object]) -> str:
    return json.dumps(config, sort_keys=True)


def _is_config(text: str | None, expected: Mapping[str, object]) -> bool:
    """Whether a file's numbers are those of its size; what came later may be absent, with the parts it describes."""
    try:
        found = json.loads(text or "")
    except ValueError:
        return False
    return isinstance(found, dict) and {key: expected[key] for key in LATER_NUMBERS} | found == dict(expected)


def _save(model: Sam3dAdapter, path: Path, names: set[str], dtype: torch.dtype, metadata: dict[str, str]) -> None:
    tensors = {n: model.get_parameter(n).detach().to("cpu", dtype).contiguous() for n in sorted(names)}
    common = {"format": FORMAT, "size": model.config.size, "config": _config_json(model.config.to_dict())}
    write_tensors(tensors, path, common | metadata)


def save_base(
    model: Sam3dAdapter,
    path: Path,
    *,
    dtype: torch.dtype = torch.float32,
    provenance: Mapping[str, object] | None = None,
) -> None:
    """Write the frozen parameters.

    With half precision the model in memory is rounded as well, so that it equals the file.

    Args:
        model: Whose parameters.
        path: Target; replaced atomically.
        dtype: Stored type.
        provenance: Where they come from (file, checksum, licence): plain JSON values.
    """
    with torch.no_grad():
        for name in frozen_names(model):
            parameter = model.get_parameter(name)
            parameter.copy_(parameter.to(dtype))
    metadata = {"kind": "base"} | ({"provenance": json.dumps(dict(provenance))} if provenance else {})
    _save(model, path, frozen_names(model), dtype, metadata)


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
    provenance = read_provenance(metadata, path)
    expected = trained_names(model)
    created = {} if interaction_names(model) & tensors.keys() else create_interaction(model)
    assign(model, tensors, expected - created.keys(), path)
    return LoadReport(
        tuple(sorted(tensors)), created, version=file_sha256(path), base_sha256=have, provenance=provenance
    )


def read_provenance(metadata: Mapping[str, str], path: Path) -> dict[str, object]:
    """What a file says of its origin.

    Raises:
        CheckpointError: It is no JSON object.
    """
    text = metadata.get("provenance", "{}")
    try:
        provenance = json.loads(text)
    except ValueError:
        provenance = None
    if not isinstance(provenance, dict):
        raise CheckpointError(
            f"{path}: its metadata key 'provenance' is {text[:80]!r}. Expected a JSON object; use an unaltered file."
        )
    return provenance


def load_base(model: Sam3dAdapter, path: Path) -> LoadReport:
    """Load the frozen base: one of our safetensors, or SAM's ``.pth`` for the ViTs.

    Raises:
        CheckpointError: The file does not hold the base of this size.
    """
    if path.suffix == ".pth":
        return load_sam_checkpoint(model, path)
    tensors, metadata = read_safetensors(path, kind="base", size=model.config.size)
    provenance = read_provenance(metadata, path)
    assign(model, tensors, frozen_names(model), path)
    return LoadReport(tuple(sorted(tensors)), provenance=provenance)


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
    # SAM's file lacks some of the base, which loading it creates; what trains must come from a file.
    created = {n: rule for n, rule in base_report.created.items() if n in frozen_names(model)} | dict(report.created)
    left = {n for n, _ in model.named_parameters()} - set(loaded) - created.keys()
    if left:
        raise CheckpointError(f"{base} and {weights} together leave {len(left)} parameters unset: {sorted(left)[:5]}.")
    return model, LoadReport(
        loaded, created, base_report.ignored, report.version, report.base_sha256, report.provenance
    )


def parameter_shapes(size: str) -> dict[str, tuple[int, ...]]:
    """Shape of every parameter of the published model in a size, without allocating one."""
    model = build_empty(size)
    later = interaction_names(model)
    return {name: tuple(p.shape) for name, p in model.named_parameters() if name not in later}
