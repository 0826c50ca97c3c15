"""The published 3DSAM-adapter checkpoints (med-air/3DSAM-adapter): their keys, and what each becomes here."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from lib.models.checkpoint_error import CheckpointError
from lib.models.loading import assign, create_interaction
from lib.models.sam3d import Sam3dAdapter
from lib.models.torch_file import read_torch_file

_RENAMED = (
    (re.compile(r"(blocks\.\d+\.attn)\.lr"), r"\1.rel_pos_scale"),
    (re.compile(r"cls\."), "classifier."),
)

_PARTS = {"encoder_dict": "image_encoder", "decoder_dict": "mask_decoder"}
_FORM = "a 3DSAM-adapter checkpoint with 'encoder_dict', 'feature_dict' (a list), 'decoder_dict'"

# `best_val_loss` is a numpy scalar. Files name its constructor as numpy 1 did; numpy 2 moved it.
_NUMPY_SCALARS: tuple[Any, ...] = (
    (np.float64(0).__reduce__()[0], "numpy.core.multiarray.scalar"),
    (np.float64(0).__reduce__()[0], "numpy._core.multiarray.scalar"),
    np.dtype,
    type(np.dtype(np.float64)),
    type(np.dtype(np.float32)),
)


@dataclass(frozen=True)
class ReferenceState:
    """A checkpoint of the authors, sorted.

    Attributes:
        tensors: Name of our parameter -> value.
        keys: Name of our parameter -> key in the file, with its part (``"encoder_dict.pos_embed"``).
        ignored: Key in the file -> why it is not used.
        training: Numbers of the training run that say which checkpoint it is (``epoch``, ``best_val_loss``).
    """

    tensors: Mapping[str, Tensor]
    keys: Mapping[str, str]
    ignored: Mapping[str, str]
    training: Mapping[str, float]


def _rename(name: str) -> str:
    for pattern, replacement in _RENAMED:
        name = pattern.sub(replacement, name)
    return name


def _reason_to_ignore(name: str) -> str | None:
    if name.endswith(".attn_mask"):
        return "window masks follow from the token grid"
    if name == "positional_encoding_gaussian_matrix":
        return "position encodings are computed by the published model and never used"
    return None


def read_reference_checkpoint(path: Path) -> ReferenceState:
    """Read a ``last.pth.tar`` or ``best.pth.tar``; numpy's float scalars are admitted in it, no other objects.

    Raises:
        CheckpointError: It is damaged, not such a checkpoint, or holds objects that would have to be executed.
    """
    state = read_torch_file(path, allow=_NUMPY_SCALARS)
    if not isinstance(state, Mapping):
        raise CheckpointError(f"{path}: expected {_FORM}; found an object of type {type(state).__name__}.")
    return sort_reference_state(state, path)


def sort_reference_state(state: Mapping[Any, object], path: Path) -> ReferenceState:
    """Give every entry of a checkpoint dictionary its place, or the reason why it has none.

    Args:
        state: Holds ``encoder_dict``, ``decoder_dict`` and ``feature_dict``, a list of one prompt encoder a level.
        path: Where it came from, for messages.

    Raises:
        CheckpointError: It is not such a checkpoint.
    """
    features = state.get("feature_dict")
    is_list = isinstance(features, list | tuple) and features and all(isinstance(f, Mapping) for f in features)
    if not is_list or not all(isinstance(state.get(part), Mapping) for part in _PARTS):
        raise CheckpointError(
            f"{path}: expected {_FORM}; found {sorted(map(str, state))[:8]}. Use the authors' last.pth.tar or "
            "best.pth.tar; SAM's own files start a base, they are no such checkpoint."
        )
    assert isinstance(features, list | tuple)
    tensors: dict[str, Tensor] = {}
    keys: dict[str, str] = {}
    ignored: dict[str, str] = {}
    sources: list[tuple[str, str, Any]] = [(part, prefix, state[part]) for part, prefix in _PARTS.items()]
    # Of the prompt encoders, one a level, the published model runs the deepest level's alone.
    sources.append((f"feature_dict.{len(features) - 1}", "prompt_encoder", features[-1]))
    for part, prefix, entries in sources:
        for name, value in entries.items():
            key = f"{part}.{name}"
            reason = _reason_to_ignore(str(name))
            if reason:
                ignored[key] = reason
            elif not isinstance(name, str) or not isinstance(value, Tensor):
                raise CheckpointError(
                    f"{path}: '{key}' is of type {type(value).__name__}, expected a tensor. Use an unaltered file."
                )
            else:
                ours = f"{prefix}.{_rename(name)}"
                if ours in tensors:
                    raise CheckpointError(
                        f"{path}: '{keys[ours]}' and '{key}' mean the same parameter. Expected one; "
                        "use an unaltered file."
                    )
                tensors[ours], keys[ours] = value.detach(), key
    for index, entries in enumerate(features[:-1]):
        ignored |= {f"feature_dict.{index}.{name}": "prompt encoder of a level that uses none" for name in entries}
    for key in state.keys() - {*_PARTS, "feature_dict"}:
        ignored[str(key)] = "training state, not weights"
    numbers = {key: state.get(key) for key in ("epoch", "best_val_loss")}
    training = {k: float(v) for k, v in numbers.items() if isinstance(v, int | float | np.floating)}
    return ReferenceState(tensors, keys, ignored, training)


def load_reference_state(model: Sam3dAdapter, state: ReferenceState, path: Path) -> None:
    """Load all of a checkpoint, its copy of the frozen base included; what it lacks starts without effect.

    Args:
        model: A model of the size it was trained with (`vit_b`).
        state: From `read_reference_checkpoint`.
        path: Where it came from, for messages.

    Raises:
        CheckpointError: It is of another size, incomplete, or holds values that are no finite numbers.
    """
    created = create_interaction(model)
    assign(model, state.tensors, {name for name, _ in model.named_parameters()} - created.keys(), path)
