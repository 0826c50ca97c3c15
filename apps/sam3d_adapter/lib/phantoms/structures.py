"""Every structure of a phantom as an object to train on, not the lesions alone."""

from collections.abc import Iterator

import numpy as np
from scipy.ndimage import find_objects

from lib.phantoms.phantom import Anatomy, Phantom
from lib.volumes.objects import Objects, Piece, connected_pieces, join_pieces

Array = np.ndarray
KINDS = {
    "liver": "organ",
    "spleen": "organ",
    "kidney": "organ",
    "pancreas": "organ",
    "heart": "organ",
    "lung": "organ",
    "gall bladder": "organ",
    "stomach": "bowel",
    "bowel": "bowel",
    "stomach content": "content",
    "bowel content": "content",
    "gas": "content",
    "vessel": "vessel",
    "vertebra": "bone",
    "rib": "bone",
    "femur": "bone",
    "marrow": "content",
    "disc": "bone",
    "canal": "content",
    "muscle": "muscle",
}
"""Kind of each structure that is an object. The others (skin, fat, fat's strands) only fill the space between them."""
SHARES = {
    "lesion": 0.4,
    "organ": 0.15,
    "vessel": 0.12,
    "bone": 0.09,
    "bowel": 0.07,
    "content": 0.06,
    "muscle": 0.06,
    "neighbour": 0.05,
}
"""How often each kind is drawn."""
MIN_VOXELS = 100
"""Smallest piece of a structure that is an object."""
MAX_SHARE = 0.4
"""Largest share of the volume that a piece may fill."""


def find_structures(anatomy: Anatomy, phantom: Phantom) -> Objects:
    """The objects of a phantom: lesions, their neighbours of equal density, and every piece of every structure.

    A structure contains its parts (a kidney its medulla), and lesions that lie in it by more than half.

    Args:
        anatomy: What was scanned.
        phantom: The scan.
    """
    return join_pieces(_pieces(anatomy, phantom.labels), phantom.labels.shape, SHARES)


def _pieces(anatomy: Anatomy, lesions: Array) -> Iterator[Piece]:
    scene = anatomy.scene
    count = len(anatomy.lesions)
    for number, box in enumerate(find_objects(lesions, count), start=1):
        if box is not None:
            yield Piece("lesion", box, lesions[box] == number)
    companions = [lesion.companion for lesion in anatomy.lesions if lesion.companion is not None]
    grown = scene.acquisition.store(scene.visible(companions)) + np.int16(count + 1)  # values above `count`
    grown[lesions > 0] = lesions[lesions > 0]
    grown[grown == count] = 0
    for number, box in enumerate(find_objects(grown), start=1):
        if box is not None and number > count:
            yield from connected_pieces("neighbour", grown[box] == number, box, min_voxels=MIN_VOXELS)
    tissue = scene.acquisition.store(scene.visible(scene.structures))
    totals = np.bincount(grown.ravel())
    for index, structure in enumerate(scene.structures):
        if structure.name not in KINDS:
            continue
        own = np.isin(tissue, sorted(_family(anatomy, index)))
        inside = np.bincount(grown[own], minlength=len(totals)) > 0.5 * totals
        inside[0] = True
        own = (own | (grown > 0)) & inside[grown]
        for box in find_objects(own.view(np.uint8)):
            for piece in connected_pieces(KINDS[structure.name], own[box], box, min_voxels=MIN_VOXELS):
                if np.count_nonzero(piece.mask) <= MAX_SHARE * tissue.size:
                    yield piece


def _family(anatomy: Anatomy, index: int) -> set[int]:
    """A structure and its parts. A part is painted after what it is a part of."""
    family = {index}
    for other, structure in enumerate(anatomy.scene.structures):
        if structure.part_of in family:
            family.add(other)
    return family
