"""All structures of a phantom are objects, and its image stays what it is."""

from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import label

from lib.phantoms.config import PhantomConfig
from lib.phantoms.data_set import write_phantoms
from lib.phantoms.phantom import Anatomy, Phantom, draw_anatomy, make_phantom, scan_anatomy
from lib.phantoms.structures import SHARES, find_structures
from lib.volumes.objects import Objects

TRUNK = PhantomConfig(
    spacing_mm=(1.8, 2.0),
    slice_mm=(2.5, 4.0),
    in_plane_mm=(180.0, 190.0),
    through_plane_mm=(120.0, 130.0),
    lattice_mm=3.0,
    limb_share=0.0,
)
SEED = 3
"""A lesion lies in the liver."""


@pytest.fixture(scope="module")
def trunk() -> tuple[Anatomy, Phantom, Objects]:
    anatomy = draw_anatomy(SEED, TRUNK)
    phantom = scan_anatomy(anatomy)
    return anatomy, phantom, find_structures(anatomy, phantom)


def masks(objects: Objects) -> list[np.ndarray]:
    return [np.isin(objects.labels, row[row > 0]) for row in objects.objects]


def test_image_and_lesions_are_those_of_the_phantom_without_structures(tmp_path: Path) -> None:
    write_phantoms(tmp_path, [SEED], TRUNK, all_structures=True)
    phantom = make_phantom(SEED, config=TRUNK)
    with np.load(tmp_path / f"{SEED:06d}.npz") as arrays:
        np.testing.assert_array_equal(arrays["image"], phantom.image)
        np.testing.assert_array_equal(arrays["affine"], phantom.affine)
        for number, row in enumerate(arrays["objects"][: len(phantom.lesions)]):
            lesion = phantom.labels == phantom.lesions[number].label
            np.testing.assert_array_equal(np.isin(arrays["labels"], row[row > 0]), lesion)


def test_each_object_is_one_piece(trunk: tuple[Anatomy, Phantom, Objects]) -> None:
    for mask in masks(trunk[2]):
        assert label(mask, np.ones((3, 3, 3)))[1] == 1


def test_every_label_is_part_of_an_object(trunk: tuple[Anatomy, Phantom, Objects]) -> None:
    objects = trunk[2]
    assert set(np.unique(objects.labels)) == {0, *objects.objects.ravel().tolist()}


def test_lesions_keep_their_share_of_the_draws(trunk: tuple[Anatomy, Phantom, Objects]) -> None:
    _, phantom, objects = trunk
    assert objects.weights.sum() == pytest.approx(1)
    assert objects.weights[: len(phantom.lesions)].sum() == pytest.approx(SHARES["lesion"], abs=0.1)


def test_organ_contains_its_lesion(trunk: tuple[Anatomy, Phantom, Objects]) -> None:
    anatomy, phantom, objects = trunk
    visible = anatomy.scene.acquisition.store(anatomy.scene.visible(anatomy.scene.structures))
    names = [structure.name for structure in anatomy.scene.structures]
    liver = visible == names.index("liver")
    inside = [lesion for lesion in phantom.lesions if np.mean(liver[phantom.labels == lesion.label]) > 0.9]
    assert inside
    organ = max(masks(objects), key=lambda mask: np.count_nonzero(mask & liver))
    assert np.mean(organ[liver]) > 0.9
    for lesion in inside:
        assert organ[phantom.labels == lesion.label].all()


def test_muscles_of_a_thigh_are_divided() -> None:
    config = PhantomConfig(
        limb_share=1.0, spacing_mm=(2.0, 2.5), slice_mm=(3.0, 4.0), in_plane_mm=(180.0, 180.0), lattice_mm=4.0
    )
    anatomy = draw_anatomy(2, config)
    objects = find_structures(anatomy, scan_anatomy(anatomy))
    cells = [s for s in anatomy.scene.structures if not s.rendered]
    assert len(cells) >= 5
    assert len(objects.objects) >= len(cells)
