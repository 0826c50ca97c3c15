"""Whether an image fits into memory, asked before it is read."""

import psutil

SHARE = 0.8
"""Of the memory that is free; the rest is for the answer and for other requests."""


class MemoryShortage(RuntimeError):
    """The server lacks the memory for what was asked."""


def require_memory(name: str, nbytes: int) -> None:
    """Passes if there is room for an image.

    Args:
        name: of the image, for the message.
        nbytes: most bytes that reading it takes at one time.

    Raises:
        MemoryShortage: there is not.
    """
    free = psutil.virtual_memory().available
    if nbytes > free * SHARE:
        raise MemoryShortage(
            f"Image {name} needs {nbytes / 2**30:.1f} GiB of memory; the server has {free / 2**30:.1f} GiB free, of "
            f"which one image may take {SHARE:.0%}. Try again later, or crop or resample the image."
        )
