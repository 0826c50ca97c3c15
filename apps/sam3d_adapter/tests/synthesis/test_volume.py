"""Synthetic volumes: equal seeds give equal voxels, objects are what they say, tissues look as in the modality."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, label

from lib.synthesis.label_maps import LabelMapError, find_label_maps
from lib.synthesis.objects import find_pieces
from lib.synthesis.tissues import Part, part_of
from lib.synthesis.volume import MODALITIES, SynthesisError, SyntheticVolume, make_volume

EVERY_NEIGHBOUR = np.ones((3, 3, 3))
SEEDS = (1, 2, 3)


@cache
def volume(label_maps: tuple[Path, ...], modality: str, seed: int) -> SyntheticVolume:
    return make_volume(seed, find_label_maps(label_maps), modality)


@pytest.fixture(params=[(modality, seed) for modality in MODALITIES for seed in SEEDS], ids=lambda p: f"{p[0]}-{p[1]}")
def any_volume(request: pytest.FixtureRequest, label_maps: tuple[Path, ...]) -> SyntheticVolume:
    return volume(label_maps, *request.param)


def rows(one: SyntheticVolume) -> list[tuple[int, ...]]:
    """Label values of each object."""
    return [tuple(row[row > 0].tolist()) for row in one.objects.objects]


def tissue_values(one: SyntheticVolume, tissue: str) -> np.ndarray:
    """Intensities of a tissue."""
    wanted = np.array([part.tissue == tissue for part in one.parts])
    return one.image[wanted[one.part]]


@pytest.mark.parametrize("modality", MODALITIES)
def test_equal_seeds_give_equal_voxels(label_maps: tuple[Path, ...], modality: str) -> None:
    again = make_volume(1, find_label_maps(label_maps), modality)
    first = volume(label_maps, modality, 1)
    np.testing.assert_array_equal(again.image, first.image)
    np.testing.assert_array_equal(again.objects.labels, first.objects.labels)
    np.testing.assert_array_equal(again.affine, first.affine)
    np.testing.assert_array_equal(again.objects.objects, first.objects.objects)


def test_seeds_differ(label_maps: tuple[Path, ...]) -> None:
    first, second = (volume(label_maps, "ct", seed) for seed in (1, 2))
    assert first.image.shape != second.image.shape or not np.array_equal(first.image, second.image)


def test_image_and_labels_share_a_grid(any_volume: SyntheticVolume) -> None:
    assert any_volume.image.dtype == np.int16
    assert any_volume.objects.labels.dtype in (np.uint8, np.uint16)
    assert any_volume.image.shape == any_volume.objects.labels.shape
    assert any_volume.image.size <= 4_000_000
    assert any_volume.affine.shape == (4, 4) and abs(np.linalg.det(any_volume.affine[:3, :3])) > 0


def test_objects_are_connected_and_large_enough(any_volume: SyntheticVolume) -> None:
    objects = any_volume.objects
    voxel_mm3 = abs(np.linalg.det(any_volume.affine[:3, :3]))
    assert len(set(rows(any_volume))) == len(objects.objects) > 0
    for row in rows(any_volume):
        mask = np.isin(objects.labels, row)
        assert set(np.unique(objects.labels[mask])) == set(row)
        assert label(mask, EVERY_NEIGHBOUR)[1] == 1
        assert mask.sum() >= 100 or mask.sum() * voxel_mm3 >= 60


def test_the_unseen_organ_is_an_object_only_within_larger_ones() -> None:
    parts = [Part("", "air"), part_of("L hippocampus"), part_of("L thalamus")]
    part = np.zeros((30, 30, 30), np.uint16)
    part[5:12, 5:12, 5:12], part[12:20, 5:12, 5:12] = 1, 2
    sizes = sorted(int(piece.mask.sum()) for piece in find_pieces(part, parts, 1.0))
    assert sizes == [8 * 49, 15 * 49, 15 * 49]  # thalamus, hemisphere, brain


def test_every_label_belongs_to_an_object(any_volume: SyntheticVolume) -> None:
    used = {value for row in rows(any_volume) for value in row}
    assert set(np.unique(any_volume.objects.labels)) - {0} == used


def test_an_organ_holds_its_lesions(label_maps: tuple[Path, ...]) -> None:
    found = 0
    for seed in SEEDS:
        one = volume(label_maps, "ct", seed)
        for number, part in enumerate(one.parts):
            host = one.parts[part.host]
            if part.host < 0 or host.kind is None or not (one.part == number).any():
                continue
            lesion = set(np.unique(one.objects.labels[one.part == number])) - {0}
            organ = set(np.unique(one.objects.labels[one.part == part.host])) - {0}
            if lesion and organ:
                found += any(set(row) >= lesion and set(row) & organ for row in rows(one))
    assert found


def test_ct_shows_tissues_in_the_order_of_their_attenuation(label_maps: tuple[Path, ...]) -> None:
    """Over all seeds, as one scan shows a part of the body only."""
    shown: dict[str, list[np.ndarray]] = {}
    for seed in SEEDS:
        for tissue in ("air", "lung", "fat", "muscle", "bone"):
            shown.setdefault(tissue, []).append(tissue_values(volume(label_maps, "ct", seed), tissue))
    means = [float(np.concatenate(shown[tissue]).mean()) for tissue in ("air", "lung", "fat", "muscle", "bone")]
    assert means == sorted(means)
    assert means[0] < -900 and -130 < means[2] < -40 and 20 < means[3] < 90 and means[4] > 150


def test_mr_is_dark_where_there_is_air(label_maps: tuple[Path, ...]) -> None:
    for seed in SEEDS:
        one = volume(label_maps, "mr", seed)
        air = tissue_values(one, "air")
        assert one.image.min() >= 0
        assert not len(air) or air.mean() < 0.5 * one.image[one.part > 0].mean()


def test_pet_objects_are_hotter_than_what_is_around(label_maps: tuple[Path, ...]) -> None:
    for seed in SEEDS:
        one = volume(label_maps, "pet", seed)
        for row in rows(one):
            mask = np.isin(one.objects.labels, row)
            around = binary_dilation(mask, iterations=3) & ~binary_dilation(mask)
            assert one.image[mask].mean() > 1.3 * np.median(one.image[around])


def test_an_unknown_modality_is_refused(label_maps: tuple[Path, ...]) -> None:
    with pytest.raises(SynthesisError, match="ct, mr, pet"):
        make_volume(1, find_label_maps(label_maps), "us")


def test_label_maps_without_names_are_refused(label_maps: tuple[Path, ...], tmp_path: Path) -> None:
    with pytest.raises(LabelMapError, match="No label map"):
        find_label_maps([])
    with pytest.raises(LabelMapError, match="manifest.json cannot be read"):
        find_label_maps([tmp_path / "labelmaps_other/labels/one.nii.gz"])
    with pytest.raises(LabelMapError, match="does not list labels/two.nii.gz"):
        find_label_maps([label_maps[0].with_name("two.nii.gz")])
