"""A coarse answer on a finer grid, and where its surface is: against plain formulations."""

import numpy as np
import pytest
import torch
from scipy.ndimage import maximum_filter, minimum_filter

from lib.segmenters.roi.boundary_refinement import SURFACE, doubled, finer, near_surface


def ball(side: int, radius: float, centre: float) -> torch.Tensor:
    """(D, H, W) logit, positive within the radius."""
    axis = torch.arange(side) - centre
    return radius - (axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2).sqrt()


def test_every_other_voxel_is_one_of_the_coarser_grid() -> None:
    logit = torch.randn(6, 8, 10, generator=torch.Generator().manual_seed(0))
    fine = finer(logit)
    assert fine.shape == (12, 16, 20) and fine.dtype == torch.float32
    torch.testing.assert_close(fine[::2, ::2, ::2], logit)
    torch.testing.assert_close(fine[1:-1:2, ::2, ::2], (logit[1:] + logit[:-1]) / 2)
    # Beyond the last voxel's centre there is nothing to interpolate with.
    torch.testing.assert_close(fine[-1, ::2, ::2], logit[-1])


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.9])
def test_near_the_surface_is_within_a_few_voxels_along_each_axis(threshold: float) -> None:
    logit = ball(40, 11.3, 19.2)
    mask = (torch.sigmoid(logit) > threshold).numpy()
    width = 2 * SURFACE + 1
    expected = maximum_filter(mask, width, mode="nearest") & ~minimum_filter(mask, width, mode="nearest")
    np.testing.assert_array_equal(near_surface(logit, threshold).numpy(), expected)
    assert expected.any() and not expected.all()


def test_what_does_not_end_in_the_region_has_no_surface() -> None:
    assert not near_surface(torch.full((24, 24, 24), -3.0), 0.5).any()
    assert not near_surface(torch.full((24, 24, 24), 3.0), 0.5).any()


def test_a_doubled_mask_lies_on_the_finer_grid() -> None:
    mask = torch.rand(5, 6, 7, generator=torch.Generator().manual_seed(1)) > 0.5
    fine = doubled(mask)
    assert fine.shape == (10, 12, 14)
    for shift in np.ndindex(2, 2, 2):
        assert torch.equal(fine[shift[0] :: 2, shift[1] :: 2, shift[2] :: 2], mask)
