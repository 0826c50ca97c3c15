"""The mask on the image's own grid: an image in, its own threshold out."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor

from lib.geometry import paste
from lib.geometry.axes import as_matrix, spacing_of, voxel_to_mm
from lib.geometry.paste import LogitPatch, paste_patches
from lib.geometry.resample import resample_roi
from lib.geometry.roi import Roi, place_roi
from lib.prompts.click import Click
from tests.support.geometry import GEOMETRIES, affines, make_affine

SHAPE = (52, 44, 38)
CLICK = (21, 25, 20)


def paste_mask(logit: torch.Tensor, roi: Roi, threshold: float) -> np.ndarray:
    """The mask of one patch alone."""
    return paste_patches([LogitPatch(roi, logit)], threshold)


def ellipsoid(affine: np.ndarray, centre_ijk: tuple[float, ...] = CLICK) -> np.ndarray:
    """A bright, smooth-edged ellipsoid in mm, with three different axes, slanted in the patient: 100 to -100."""
    ijk = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1).reshape(-1, 3)
    off = voxel_to_mm(affine, ijk) - voxel_to_mm(affine, [centre_ijk])
    slant = np.array([[1, 0.2, 0], [-0.2, 1, 0.1], [0, -0.1, 1]])
    distance = np.linalg.norm(off @ slant / np.array([7.0, 9.5, 12.5]), axis=1)
    return np.clip((1 - distance) * 500, -100, 100).reshape(SHAPE).astype(np.float32)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


def round_trip(image: np.ndarray, affine: np.ndarray, click: tuple[int, int, int], **more: Any) -> np.ndarray:
    """Where the resampled image is bright, as a segmentation network would answer, on the image's grid."""
    roi = place_roi([Click(click)], image.shape, affine, **{"size": 48, "spacing_mm": 0.8} | more)
    values, inside = resample_roi(torch.from_numpy(image), roi)
    hard = torch.where((values > 0.37) & inside, 10.0, -10.0)[0]
    # Neither 0 nor 0.5: halfway between a bright and a dark voxel rounding would decide.
    return paste_mask(hard, roi, 0.45).astype(bool)


@pytest.mark.parametrize("name", GEOMETRIES)
@pytest.mark.parametrize("axes", ["SAR", "IPL", "RAS"])
def test_round_trip_of_an_ellipsoid(name: str, axes: str) -> None:
    directions, spacing, degrees = GEOMETRIES[name]
    affine = make_affine(directions, spacing, degrees)
    image = ellipsoid(affine)
    found = round_trip(image, affine, CLICK, roi_axes=axes)
    assert dice(found, image > 0) > 0.95
    centroids = [np.argwhere(mask).mean(axis=0) for mask in (found, image > 0)]
    assert np.abs(centroids[0] - centroids[1]).max() < 0.5
    # It is the right orientation that gives this Dice: mirrored or shifted by two voxels the mask is another.
    assert dice(found[::-1], image > 0) < 0.95
    assert dice(np.roll(found, 2, axis=1), image > 0) < 0.95


@given(affines, st.tuples(*[st.integers(0, n - 1) for n in SHAPE]))
@settings(max_examples=25, deadline=None)
def test_mask_is_where_the_roi_is_and_nowhere_else(affine: np.ndarray, ijk: tuple[int, int, int]) -> None:
    """Foreground in every ROI voxel, over every border: exactly the image voxels with their centre in the ROI."""
    roi = place_roi([Click(ijk)], SHAPE, affine, size=16, spacing_mm=1.3)
    mask = paste_mask(torch.full(roi.size_dhw, 10.0), roi, 0.5)
    assert mask.shape == SHAPE and mask.dtype == np.uint8 and set(np.unique(mask)) <= {0, 1}
    every = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1).reshape(-1, 3)
    dhw = roi.ijk_to_dhw(every)
    clearly_in = ((dhw > -0.499) & (dhw < 15.499)).all(axis=1).reshape(SHAPE)
    clearly_out = ((dhw < -0.501) | (dhw > 15.501)).any(axis=1).reshape(SHAPE)
    assert mask[clearly_in].all() and not mask[clearly_out].any()
    assert mask[ijk] == 1


@given(affines, st.tuples(*[st.integers(0, n - 1) for n in SHAPE]))
@settings(max_examples=20, deadline=None)
def test_one_bright_roi_voxel_comes_back_to_the_clicked_one(affine: np.ndarray, ijk: tuple[int, int, int]) -> None:
    roi = place_roi([Click(ijk)], SHAPE, affine, size=16, spacing_mm=0.9 * float(spacing_of(affine).min()))
    foreground = torch.full(roi.size_dhw, -10.0)
    foreground[8, 8, 8] = 30.0
    mask = paste_mask(foreground, roi, 0.5)
    assert [tuple(voxel) for voxel in np.argwhere(mask)] == [ijk]


@pytest.mark.parametrize("shift", [(4, 0, 0), (0, -5, 0), (0, 0, 3), (3, -4, 5)])
@pytest.mark.parametrize("name", GEOMETRIES)
def test_translation_of_content_and_click_translates_the_mask(name: str, shift: tuple[int, int, int]) -> None:
    directions, spacing, degrees = GEOMETRIES[name]
    affine = make_affine(directions, spacing, degrees)
    there = (CLICK[0] + shift[0], CLICK[1] + shift[1], CLICK[2] + shift[2])
    here_mask = round_trip(ellipsoid(affine), affine, CLICK)
    there_mask = round_trip(ellipsoid(affine, there), affine, there)
    inner = tuple(slice(6, -6) for _ in SHAPE)
    np.testing.assert_array_equal(np.roll(here_mask, shift, axis=(0, 1, 2))[inner], there_mask[inner])


@given(affines)
@settings(max_examples=15, deadline=None)
def test_new_origin_with_the_affine_leaves_the_mask_in_its_place(affine: np.ndarray) -> None:
    """Content, click and affine moved together: voxels that are 2, 3, 1 earlier hold the same mask."""
    image = ellipsoid(affine)
    cut, moved = image[2:, 3:, 1:].copy(), affine.copy()
    moved[:3, 3] = voxel_to_mm(affine, [(2, 3, 1)])[0]
    whole = round_trip(image, affine, CLICK)
    part = round_trip(cut, moved, (CLICK[0] - 2, CLICK[1] - 3, CLICK[2] - 1))
    # At the faces where the image was cut there is nothing left to interpolate with.
    np.testing.assert_array_equal(whole[2:, 3:, 1:][4:, 4:, 4:], part[4:, 4:, 4:])


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9])
def test_threshold_is_a_probability(probability: float) -> None:
    """The logit rises along W; the mask begins where its probability passes the threshold."""
    roi = place_roi([Click((8, 8, 8))], (17, 17, 17), np.eye(4), size=16, spacing_mm=1.0, roi_axes="RAS")
    rising = torch.linspace(-4, 4, 16).expand(16, 16, 16) + 0.01
    mask = paste_mask(rising, roi, probability)
    np.testing.assert_array_equal(mask[:16, :16, :16], (torch.sigmoid(rising) > probability).numpy())
    assert 0 < mask.mean() < 1


def test_interpolation_is_of_logits() -> None:
    """Halfway between a difference of -1 and one of 3 lies 1, whose probability is 0.73."""
    roi = Roi((2, 2, 2), 1.0, (3, 2, 2), as_matrix(np.eye(4)), as_matrix(np.diag([2, 1, 1, 1])))
    foreground = torch.tensor([-1.0, 3.0])[:, None, None].expand(2, 2, 2)
    probability = 1 / (1 + math.exp(-1))
    below, above = (paste_mask(foreground, roi, probability + step) for step in (-0.01, 0.01))
    assert below[:, 0, 0].tolist() == [0, 1, 1] and above[:, 0, 0].tolist() == [0, 0, 1]


@pytest.mark.parametrize("axes", ["SAR", "RAS"])
@pytest.mark.parametrize("planes", [1, 5])
def test_slabs_make_the_mask_of_the_whole(axes: str, planes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of patches that begin and end in different slabs, one of them near its click alone."""
    affine = make_affine(*GEOMETRIES["oblique"])
    further = Click((30, 32, 28))
    rois = [place_roi([c], SHAPE, affine, size=24, spacing_mm=1.3, roi_axes=axes) for c in (Click(CLICK), further)]
    logits = torch.randn((2, 24, 24, 24), generator=torch.Generator().manual_seed(1))
    patches = [LogitPatch(rois[0], 3 * logits[0]), LogitPatch(rois[1], 4 * logits[1], (further,))]
    whole = paste_patches(patches, 0.5)
    monkeypatch.setattr(paste, "SLAB_VOXELS", planes * 44 * 38)
    slabs = paste_patches(patches, 0.5)
    # The last bit of an interpolated value may differ where a slab's axes are taken in another order.
    assert np.count_nonzero(whole) > 0 and np.count_nonzero(slabs != whole) <= 2
    assert np.count_nonzero(whole != paste_patches(patches[:1], 0.5)) > 100


def test_where_clicks_of_both_kinds_reach_the_nearest_one_counts() -> None:
    """One adds and one removes, each everywhere; they lie 12 mm apart."""
    on, off = Click((16, 16, 16)), Click((28, 16, 16), is_foreground=False)
    roi = place_roi([on], (64, 32, 32), np.eye(4), size=64, spacing_mm=1.0)
    first = LogitPatch(roi, torch.where(torch.arange(64) % 2 == 0, 3.0, -3.0).expand(64, 64, 64).contiguous())
    add, remove = (
        LogitPatch(roi, torch.full((64, 64, 64), value), (click,), (on, off))
        for value, click in ((10.0, on), (-10.0, off))
    )
    masks = [paste_patches(patches, 0.5) for patches in ([first], [first, add, remove], [first, remove, add])]
    np.testing.assert_array_equal(masks[1], masks[2])
    i, j, k = np.indices((64, 32, 32))
    to_on, to_off = (np.sqrt((i - at) ** 2 + (j - 16) ** 2 + (k - 16) ** 2) for at in (16, 28))
    assert masks[1][(to_on < to_off) & (to_on <= 30)].all()
    assert not masks[1][(to_off < to_on) & (to_off <= 30)].any()
    far = (to_on > 30) & (to_off > 30)
    np.testing.assert_array_equal(masks[1][far], masks[0][far])
    assert far.any()


def test_logits_of_monai_are_pasted_as_any_others() -> None:
    roi = place_roi([Click(CLICK)], SHAPE, make_affine(*GEOMETRIES["oblique sagittal"]), size=8, spacing_mm=2.0)
    mask = paste_mask(MetaTensor(torch.full((8, 8, 8), 5.0)), roi, 0.5)
    assert type(mask) is np.ndarray and mask.dtype == np.uint8 and mask.any() and mask.shape == SHAPE


def test_what_does_not_fit() -> None:
    roi = place_roi([Click(CLICK)], SHAPE, np.eye(4), size=8, spacing_mm=2.0)
    with pytest.raises(ValueError, match="do not fit"):
        paste_mask(torch.zeros(8, 8, 9), roi, 0.5)


def test_not_a_number_is_background() -> None:
    roi = place_roi([Click(CLICK)], SHAPE, np.eye(4), size=8, spacing_mm=2.0)
    assert not paste_mask(torch.full((8, 8, 8), float("nan")), roi, 0.5).any()
