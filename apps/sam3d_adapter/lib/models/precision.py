"""Which number type the network computes in: bfloat16 where the hardware multiplies it faster, else float32."""

import torch

PRECISIONS = ("auto", "fp32", "bf16")
"""What can be asked for; ``auto`` decides by the device."""


def resolve_precision(precision: str, device: torch.device) -> torch.dtype:
    """The type for a device.

    Args:
        precision: one of ``PRECISIONS``.
        device: on which the network runs.

    Raises:
        ValueError: an unknown precision.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"Precision {precision!r} is unknown; choose from: {', '.join(PRECISIONS)}.")
    if precision == "auto":
        precision = "bf16" if _multiplies_bfloat16(device) else "fp32"
    return torch.bfloat16 if precision == "bf16" else torch.float32


def _multiplies_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # Not in every torch that the app runs on; without the answer float32 is never wrong.
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
