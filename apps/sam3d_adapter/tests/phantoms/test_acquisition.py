"""Geometry: every stored voxel stays at its patient position; noise keeps its strength."""

from dataclasses import replace

import numpy as np
import pytest

from lib.phantoms.acquisition import ORDERS, Acquisition, draw_acquisition, scan_image
from lib.phantoms.config import PhantomConfig


@pytest.fixture
def acquisition() -> Acquisition:
    drawn = draw_acquisition(np.random.default_rng(2), PhantomConfig(oblique_share=1.0), np.array([10.0, -20.0, 30.0]))
    return replace(drawn, shape=(4, 5, 6))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    "flips", [(False, False, False), (True, False, False), (True, True, False), (False, True, True)]
)
def test_storing_moves_no_voxel_in_the_patient(
    acquisition: Acquisition, order: tuple[int, int, int], flips: tuple[bool, bool, bool]
) -> None:
    stored_as = replace(acquisition, axis_order=order, axis_flips=flips)
    scan = np.arange(4 * 5 * 6).reshape(4, 5, 6)
    stored = stored_as.store(scan)
    affine = stored_as.stored_affine()
    for ijk in np.ndindex(stored.shape):
        scan_index = np.argwhere(scan == stored[ijk])[0]
        np.testing.assert_allclose(affine @ [*ijk, 1], stored_as.scan_to_ras @ [*scan_index, 1], atol=1e-9)


def test_lattice_indices_point_at_the_voxels(acquisition: Acquisition) -> None:
    voxel = (3, 1, 4)
    lattice = [acquisition.lattice_index(axis)[n] for axis, n in enumerate(voxel)]
    np.testing.assert_allclose(
        acquisition.lattice_to_ras @ [*lattice, 1], acquisition.scan_to_ras @ [*voxel, 1], atol=1e-9
    )


def test_middle_of_the_grid_is_the_centre(acquisition: Acquisition) -> None:
    middle = (np.array(acquisition.shape) - 1) / 2
    np.testing.assert_allclose((acquisition.scan_to_ras @ [*middle, 1])[:3], [10.0, -20.0, 30.0])


def test_noise_of_a_uniform_scan(acquisition: Acquisition) -> None:
    wide = replace(acquisition, shape=(48, 48, 48))
    image = scan_image(np.random.default_rng(4), np.full(wide.shape, 50.0, np.float32), wide)
    assert image.dtype == np.int16
    assert image.mean() == pytest.approx(50, abs=0.5)
    assert image.std() == pytest.approx(wide.noise_hu, rel=0.02)
    noise = image - 50.0
    neighbours = np.mean(noise[1:] * noise[:-1]) / noise.var()
    assert 0.1 < neighbours < 0.5
