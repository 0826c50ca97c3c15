"""What a mask depends on besides the request: software, and the kind of processor that computed it."""

import functools
import importlib.metadata

import torch

from lib.version import __version__


@functools.cache
def software() -> dict[str, str]:
    """Versions of this app, torch and MONAI Label."""
    return {
        "sam3d_adapter": __version__,
        "torch": torch.__version__,
        "monailabel": importlib.metadata.version("monailabel"),
    }


def processor(device: str) -> dict[str, str | int]:
    """What computes on a device; sums are rounded by vector width and number of threads, so that these belong to it.

    Args:
        device: ``"cpu"`` or ``"cuda:N"``.

    Returns:
        ``kind``: the GPU's name, or the CPU's instruction set; ``threads``: of PyTorch, for a CPU.
    """
    if device.startswith("cuda"):
        return {"kind": torch.cuda.get_device_name(device)}
    return {"kind": f"CPU {torch.backends.cpu.get_cpu_capability()}", "threads": torch.get_num_threads()}
