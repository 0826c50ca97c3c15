"""Weights by formula: a tensor's values follow from its name in the published checkpoint, so none need storing."""

import zlib

import numpy as np
import torch

_SMALL = {"pos_embed", "depth_embed", "rel_pos_h", "rel_pos_w", "rel_pos_d"}


def formula_tensor(part: str, name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """The value of the tensor `name` in the checkpoint part `part`, float32."""
    seed = zlib.crc32(f"{part}.{name}".encode()) & 0x7FFFFFFF
    r = np.random.RandomState(seed).standard_normal(shape).astype(np.float32)
    last = name.rsplit(".", 1)[-1]
    if last in _SMALL:
        value = 0.02 * r
    elif last == "lr":
        value = 1 + 0.1 * r
    elif last == "global_query":
        value = 0.1 * r
    elif last == "positional_encoding_gaussian_matrix":
        value = r
    elif len(shape) >= 2:
        value = r / np.sqrt(np.prod(shape[1:]))
    else:
        value = 1 + 0.1 * r if last == "weight" else 0.02 * r
    return torch.from_numpy(np.asarray(value, dtype=np.float32))


def formula_checkpoint(keys: dict) -> dict:
    """A checkpoint of the published form from its keys and shapes.

    Args:
        keys: ``{"encoder_dict": {name: shape}, "decoder_dict": ..., "feature_dict[0..3]": one of the four}``.

    Returns:
        The same with tensors; window masks, which loading ignores, are left out.
    """

    def part(label: str, shapes: dict) -> dict:
        wanted = {n: s for n, s in shapes.items() if not n.endswith("attn_mask")}
        return {n: formula_tensor(label, n, tuple(s)) for n, s in wanted.items()}

    return {
        "encoder_dict": part("encoder_dict", keys["encoder_dict"]),
        "decoder_dict": part("decoder_dict", keys["decoder_dict"]),
        "feature_dict": [part(f"feature_dict.{i}", keys["feature_dict[0..3]"]) for i in range(4)],
    }
