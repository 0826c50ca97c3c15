"""The published 3DSAM-adapter checkpoints (med-air/3DSAM-adapter): their keys, and what each becomes here."""

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from lib.models.checkpoint import CheckpointError, LoadReport, assign
from lib.models.sam3d import Sam3dAdapter

_RENAMED = (
    (re.compile(r"(blocks\.\d+\.attn)\.lr"), r"\1.rel_pos_scale"),
    (re.compile(r"cls\."), "classifier."),
)

_PARTS = {"encoder_dict": "image_encoder", "decoder_dict": "mask_decoder"}


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


def load_reference_state(model: Sam3dAdapter, state: Mapping[str, object], path: Path) -> LoadReport:
    """Load a checkpoint dictionary of the authors' code.

    Args:
        model: A model of the size it was trained with (`vit_b`).
        state: Holds ``encoder_dict``, ``decoder_dict`` and ``feature_dict``, a list of one prompt encoder a level.
        path: Where it came from, for messages.

    Raises:
        CheckpointError: It is not such a checkpoint, or of another size.
    """
    features = state.get("feature_dict")
    if not (isinstance(features, list) and features and all(isinstance(state.get(p), dict) for p in _PARTS)):
        raise CheckpointError(
            f"{path}: expected a 3DSAM-adapter checkpoint with 'encoder_dict', 'feature_dict' (a list), "
            f"'decoder_dict'; found {sorted(state)}."
        )
    tensors: dict[str, Tensor] = {}
    ignored: dict[str, str] = {}
    sources = [(part, prefix, state[part]) for part, prefix in _PARTS.items()]
    # Of the prompt encoders, one a level, the published model runs the deepest level's alone.
    sources.append((f"feature_dict.{len(features) - 1}", "prompt_encoder", features[-1]))
    for part, prefix, entries in sources:
        assert isinstance(entries, dict)
        for name, value in entries.items():
            reason = _reason_to_ignore(name)
            if reason:
                ignored[f"{part}.{name}"] = reason
            elif not isinstance(value, Tensor):
                raise CheckpointError(f"{path}: '{part}.{name}' is {type(value)}, expected a tensor.")
            else:
                tensors[f"{prefix}.{_rename(name)}"] = value
    for index, entries in enumerate(features[:-1]):
        ignored |= {f"feature_dict.{index}.{name}": "prompt encoder of a level that uses none" for name in entries}
    for key in state.keys() - {*_PARTS, "feature_dict"}:
        ignored[key] = "training state, not weights"
    assign(model, tensors, {name for name, _ in model.named_parameters()}, path)
    return LoadReport(tuple(sorted(tensors)), {}, ignored)
