"""Start from Segment Anything's own checkpoint files (sam_vit_b_01ec64.pth and its larger siblings)."""

import re
from pathlib import Path

import torch
from torch import Tensor

from lib.models.checkpoint_error import CheckpointError
from lib.models.loading import LoadReport, assign, create_interaction
from lib.models.sam3d import Sam3dAdapter
from lib.models.torch_file import read_torch_file
from lib.models.trainable import frozen_names

_PREFIX = "image_encoder."
_NORM = re.compile(r"image_encoder\.blocks\.\d+\.norm[12]\.(weight|bias)")

_IGNORED = {
    "prompt_encoder.": "SAM's 2-D prompt encoder is replaced by a 3-D one",
    "mask_decoder.": "SAM's 2-D mask decoder is replaced by a 3-D one",
    "image_encoder.neck.": "SAM's 2-D neck is replaced by one 3-D neck a level",
}


def load_sam_checkpoint(model: Sam3dAdapter, path: Path) -> LoadReport:
    """Load SAM's image encoder and create what it lacks by the published rules.

    Frozen parameters and the norms come from the file, ``rel_pos_d`` becomes the mean of ``rel_pos_h`` and
    ``rel_pos_w``, everything else that trains keeps its fresh initialisation.

    Raises:
        CheckpointError: The file is not a SAM checkpoint of this size.
    """
    state = read_torch_file(path)
    if not isinstance(state, dict) or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        raise CheckpointError(
            f"{path}: expected a dictionary of tensors as Segment Anything publishes it, found {_describe(state)}. "
            "Use SAM's own file (sam_vit_b_01ec64.pth and its larger siblings)."
        )
    ignored = {k: reason for k in state for prefix, reason in _IGNORED.items() if k.startswith(prefix)}
    tensors: dict[str, Tensor] = {k: v for k, v in state.items() if k not in ignored}
    foreign = [k for k in tensors if not k.startswith(_PREFIX)]
    if foreign:
        raise CheckpointError(
            f"{path}: {len(foreign)} keys {foreign[:5]} do not belong to a SAM checkpoint. Expected keys under "
            "'image_encoder.', 'prompt_encoder.', 'mask_decoder.'; use SAM's own file."
        )
    created: dict[str, str] = {}
    expected = frozen_names(model) | {n for n, _ in model.named_parameters() if _NORM.fullmatch(n)}
    for index in range(model.config.depth):
        scale = f"{_PREFIX}blocks.{index}.attn.rel_pos_scale"
        tensors[scale] = torch.ones(())
        created[scale] = "1: SAM's relative positions are not scaled"
    assign(model, tensors, expected, path)
    with torch.no_grad():
        for index in range(model.config.depth):
            attn = model.get_submodule(f"{_PREFIX}blocks.{index}.attn")
            h, w, d = (attn.get_parameter(f"rel_pos_{axis}") for axis in "hwd")
            d.copy_(0.5 * (h + w))
            created[f"{_PREFIX}blocks.{index}.attn.rel_pos_d"] = "mean of rel_pos_h and rel_pos_w"
    loaded = tuple(sorted(expected - created.keys()))
    created |= create_interaction(model)
    for name, _ in model.named_parameters():
        if name not in expected and name not in created:
            created[name] = "fresh initialisation"
    return LoadReport(loaded, created, ignored)


def _describe(state: object) -> str:
    if isinstance(state, dict):
        return f"a dictionary with the keys {sorted(map(str, state))[:5]}"
    return f"an object of type {type(state).__name__}"
