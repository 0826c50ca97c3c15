"""Mask -> its checksum."""

import hashlib
from typing import Any

import numpy as np
from numpy.typing import ArrayLike


def mask_hash(mask: ArrayLike) -> str:
    """sha256 of a mask on the image's grid: of its shape and its voxels, not of a file that holds it.

    The shape is hashed as the text ``"i j k\\n"``, then the voxels with i running fastest, eight to a byte, the first
    in the highest bit. Packed, because that halves the time: about 20 ms for 512 x 512 x 400 voxels.

    Args:
        mask: (i, j, k); what is not 0 belongs to the mask.

    Returns:
        64 hexadecimal digits.
    """
    array: np.ndarray[Any, Any] = np.asarray(mask)
    if array.dtype.kind not in "biu":
        array = array != 0
    digest = hashlib.sha256(f"{' '.join(map(str, array.shape))}\n".encode())
    digest.update(np.packbits(array.ravel(order="F")).data)
    return digest.hexdigest()
