"""Phantoms keep the promises that their users train and measure on."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, binary_erosion, label

from lib.phantoms.acquisition import ORDERS
from lib.phantoms.config import PhantomConfig
from lib.phantoms.phantom import Phantom, make_phantom

SMALL = PhantomConfig(
    spacing_mm=(1.3, 1.5),
    slice_mm=(2.5, 4.0),
    in_plane_mm=(160.0, 170.0),
    through_plane_mm=(120.0, 130.0),
    lattice_mm=3.0,
)
SEEDS = (1, 2, 3, 4, 5)


@pytest.fixture(scope="module")
def phantoms() -> tuple[Phantom, ...]:
    return tuple(make_phantom(seed, config=SMALL) for seed in SEEDS)


def test_equal_seed_gives_equal_voxels(phantoms: tuple[Phantom, ...]) -> None:
    again = make_phantom(SEEDS[0], config=SMALL)
    np.testing.assert_array_equal(again.image, phantoms[0].image)
    np.testing.assert_array_equal(again.labels, phantoms[0].labels)
    np.testing.assert_array_equal(again.affine, phantoms[0].affine)
    assert again.lesions == phantoms[0].lesions


def test_global_random_state_is_neither_read_nor_changed(phantoms: tuple[Phantom, ...]) -> None:
    before = np.random.get_state()[1].copy()
    again = make_phantom(SEEDS[1], config=SMALL)
    np.testing.assert_array_equal(np.random.get_state()[1], before)
    np.testing.assert_array_equal(again.image, phantoms[1].image)


def test_other_seed_gives_other_voxels(phantoms: tuple[Phantom, ...]) -> None:
    shapes_and_sums = {(p.image.shape, int(p.image.sum(dtype=np.int64))) for p in phantoms}
    assert len(shapes_and_sums) == len(phantoms)


def test_arrays_have_the_stated_types_and_shapes(phantoms: tuple[Phantom, ...]) -> None:
    for phantom in phantoms:
        assert phantom.image.dtype == np.int16
        assert phantom.labels.dtype == np.uint8
        assert phantom.labels.shape == phantom.image.shape
        assert phantom.affine.shape == (4, 4)
        assert phantom.image.min() >= -1024


def test_default_geometry_is_within_its_ranges() -> None:
    config = PhantomConfig()
    phantom = make_phantom(11)
    in_plane, through = sorted(phantom.spacing)[:2], max(phantom.spacing)
    assert in_plane[0] == pytest.approx(in_plane[1])
    assert config.spacing_mm[0] <= in_plane[0] <= config.spacing_mm[1]
    assert config.slice_mm[0] <= through <= config.slice_mm[1]
    extent = sorted(n * s for n, s in zip(phantom.image.shape, phantom.spacing, strict=True))
    assert config.through_plane_mm[0] - through <= extent[0]
    assert extent[2] <= config.in_plane_mm[1]
    assert phantom.image.size <= config.max_voxels


def test_affine_is_a_rotation_of_the_spacing(phantoms: tuple[Phantom, ...]) -> None:
    for phantom in phantoms:
        axes = phantom.affine[:3, :3] / np.array(phantom.spacing)
        np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-9)


def test_orientations_vary() -> None:
    wide = replace(
        SMALL, spacing_mm=(4.0, 4.0), slice_mm=(6.0, 6.0), lattice_mm=8.0, permuted_share=0.5, oblique_share=0.5
    )
    affines = [make_phantom(seed, config=wide).affine[:3, :3] for seed in range(8)]
    leading = {tuple(np.abs(affine).argmax(axis=0)) for affine in affines}
    handed = {bool(np.linalg.det(affine) > 0) for affine in affines}
    oblique = {bool(np.count_nonzero(np.abs(affine) > 1e-6) > 3) for affine in affines}
    assert len(leading) > 1 and leading <= set(ORDERS)
    assert handed == {True, False}
    assert oblique == {True, False}


@pytest.mark.parametrize("seed", [20, 21])
def test_spine_lies_behind_the_middle(seed: int) -> None:
    """However the volume is stored, its affine puts the patient the right way round."""
    phantom = make_phantom(seed, config=replace(SMALL, limb_share=0.0, oblique_share=0.0))
    bone_ras = np.argwhere(phantom.image > 350) @ phantom.affine[:3, :3].T + phantom.affine[:3, 3]
    middle_ras = phantom.affine[:3, :3] @ (np.array(phantom.image.shape) / 2) + phantom.affine[:3, 3]
    near_spine = np.abs(bone_ras[:, 0]) < 40
    assert np.count_nonzero(near_spine) > 100
    assert np.median(bone_ras[near_spine, 1]) < middle_ras[1] - 20


def test_lesions_match_their_labels(phantoms: tuple[Phantom, ...]) -> None:
    for phantom in phantoms:
        present = [int(n) for n in np.unique(phantom.labels) if n]
        assert present == [lesion.label for lesion in phantom.lesions]
        assert 1 <= len(phantom.lesions) <= SMALL.lesion_count[1]
        for lesion in phantom.lesions:
            mask = phantom.labels == lesion.label
            assert mask[lesion.centre_ijk]
            volume = np.count_nonzero(mask) * np.prod(phantom.spacing)
            assert lesion.diameter_mm == pytest.approx((6 * volume / np.pi) ** (1 / 3))


def test_lesions_keep_their_ranges(phantoms: tuple[Phantom, ...]) -> None:
    lesions = [lesion for phantom in phantoms for lesion in phantom.lesions]
    diameters = np.array([lesion.diameter_mm for lesion in lesions])
    contrasts = np.array([lesion.contrast_hu for lesion in lesions])
    assert diameters.min() >= SMALL.diameter_mm[0] and diameters.max() <= SMALL.diameter_mm[1]
    assert np.abs(contrasts).min() >= SMALL.contrast_hu[0] and np.abs(contrasts).max() <= SMALL.contrast_hu[1]
    assert (contrasts > 0).any() and (contrasts < 0).any()
    assert diameters.max() > 2.5 * diameters.min()
    assert 0.15 <= np.mean([lesion.touching for lesion in lesions]) <= 0.65


def test_each_lesion_is_one_piece_apart_from_the_others(phantoms: tuple[Phantom, ...]) -> None:
    everything = np.ones((3, 3, 3))
    for phantom in phantoms:
        pieces = label(phantom.labels > 0, structure=everything)[1]
        assert pieces == len(phantom.lesions)


def test_noise_has_the_stated_strength(phantoms: tuple[Phantom, ...]) -> None:
    """Measured by differences of voxels two apart, where neither blur nor correlation of neighbours reaches."""
    for phantom in phantoms:
        assert SMALL.noise_hu[0] <= phantom.noise_hu <= SMALL.noise_hu[1]
        image = phantom.image.astype(np.float32)
        uniform = binary_erosion((image > -20) & (image < 180), iterations=1)
        axis = int(np.argmin(phantom.spacing))
        step = np.diff(np.moveaxis(image, axis, 0)[::3], axis=0)
        valid = np.moveaxis(uniform, axis, 0)[::3]
        valid = valid[1:] & valid[:-1]
        spread = 1.4826 * np.median(np.abs(step[valid])) / np.sqrt(2)
        assert spread == pytest.approx(phantom.noise_hu, rel=0.15)


def test_contrast_is_measured_where_it_is_stated() -> None:
    """In scans of little noise, lesion and most common density around it differ by the stated contrast."""
    quiet = replace(SMALL, noise_hu=(0.5, 0.5), necrotic_share=0.0, touching_share=0.0, limb_share=1.0)
    errors = []
    for seed in (1, 2, 3):
        phantom = make_phantom(seed, config=quiet)
        for lesion in phantom.lesions:
            if lesion.diameter_mm < 14:
                continue
            mask = phantom.labels == lesion.label
            near, far = (binary_dilation(mask, iterations=n) for n in (2, 5))
            around = np.median(phantom.image[far & ~near])
            errors.append(abs(np.median(phantom.image[binary_erosion(mask)]) - around - lesion.contrast_hu))
    assert len(errors) >= 4
    assert np.median(errors) < 5.0


def test_touching_lesion_has_its_own_density_beyond_its_border() -> None:
    """A share of the surroundings of a touching lesion is as dense as the lesion, of a free one hardly any."""
    quiet = replace(SMALL, noise_hu=(0.5, 0.5), necrotic_share=0.0, limb_share=1.0, contrast_hu=(45.0, 60.0))
    shares: dict[bool, list[float]] = {True: [], False: []}
    for touching_share in (0.0, 1.0):
        for seed in (1, 2):
            phantom = make_phantom(seed, config=replace(quiet, touching_share=touching_share))
            for lesion in phantom.lesions:
                mask = phantom.labels == lesion.label
                inside = np.median(phantom.image[mask])
                shell = binary_dilation(mask, iterations=3) & ~binary_dilation(mask, iterations=1)
                shares[lesion.touching].append(float(np.mean(np.abs(phantom.image[shell] - inside) < 18)))
    assert len(shares[True]) >= 5 and len(shares[False]) >= 5
    assert np.median(shares[True]) > 0.1
    assert np.median(shares[True]) > 2 * np.median(shares[False])


def test_impossible_range_is_refused() -> None:
    with pytest.raises(ValueError, match="contrast_hu"):
        PhantomConfig(contrast_hu=(60.0, 10.0))
