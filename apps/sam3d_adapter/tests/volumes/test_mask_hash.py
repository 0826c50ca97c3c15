"""The checksum of masks."""

import hashlib

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from lib.volumes.mask_hash import mask_hash


@pytest.fixture
def mask() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 2, (5, 4, 3), dtype=np.uint8)


def test_it_is_what_it_says(mask: np.ndarray) -> None:
    voxels = [str(mask[i, j, k]) for k in range(3) for j in range(4) for i in range(5)]
    bits = "".join(voxels).ljust(64, "0")
    expected = hashlib.sha256(b"5 4 3\n" + bytes(int(bits[n : n + 8], 2) for n in range(0, 64, 8))).hexdigest()
    assert mask_hash(mask) == expected


def test_memory_layout_type_and_wrapping_do_not_matter(mask: np.ndarray) -> None:
    for other in (np.asfortranarray(mask), mask.astype(bool), mask.astype(np.float32) * 255, torch.from_numpy(mask),
                  MetaTensor(torch.from_numpy(mask))):  # fmt: skip
        assert mask_hash(other) == mask_hash(mask)


def test_every_voxel_every_axis_and_the_shape_matter(mask: np.ndarray) -> None:
    others = [mask[::-1], mask[:, ::-1], mask[..., ::-1], mask.transpose(1, 0, 2), mask.reshape(5, 3, 4), mask[:4]]
    for index in np.ndindex(mask.shape):
        changed = mask.copy()
        changed[index] ^= 1
        others.append(changed)
    hashes = {mask_hash(other) for other in others}
    assert len(hashes) == len(others) and mask_hash(mask) not in hashes


def test_empty_masks_of_different_images_differ() -> None:
    assert mask_hash(np.zeros((4, 2, 2))) != mask_hash(np.zeros((2, 4, 2)))
