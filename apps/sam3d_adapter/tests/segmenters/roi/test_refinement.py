"""A refined mask and the clicks that correct what it was made from."""

import numpy as np
from scipy.ndimage import binary_dilation, binary_erosion, label

from lib.geometry.click_influence import FOREGROUND_RADIUS_MM
from lib.prompts.click import Click
from lib.segmenters.roi.fine_boundary import BAND_MM
from lib.segmenters.roi.refinement import CORRECTED_MM, RefinedMask, take_corrections

SPACING = np.array([2.0, 1.0, 1.5])
SHAPE = (60, 120, 80)
PLACES = np.indices(SHAPE).reshape(3, -1).T * SPACING
CENTRE_MM = np.array([60.0, 60.0, 60.0])


def ball(middle_mm: np.ndarray, radius_mm: float) -> np.ndarray:
    return np.asarray(np.linalg.norm(PLACES - middle_mm, axis=1) <= radius_mm).reshape(SHAPE)


def thinner(mask: np.ndarray) -> np.ndarray:
    return np.asarray(binary_erosion(mask, np.ones((3, 5, 3))))


def thicker(mask: np.ndarray) -> np.ndarray:
    return np.asarray(binary_dilation(mask, np.ones((3, 5, 3))))


def test_masks_come_back_as_they_were_packed() -> None:
    before, after = ball(CENTRE_MM, 25.0), thicker(ball(CENTRE_MM, 25.0))
    packed = RefinedMask.packed(before, after, 3)
    assert packed.nbytes < before.size / 8
    for one, other in zip(packed.masks(SHAPE), (before, after), strict=True):
        assert np.array_equal(one, other)
    nothing = np.zeros(SHAPE, bool)
    assert not np.any(RefinedMask.packed(nothing, nothing, 0).masks(SHAPE))


def test_what_clicks_add_and_remove_hangs_together_with_the_rest() -> None:
    before = ball(CENTRE_MM, 30.0)
    added = np.array([60.0, 95.0, 60.0])
    removed = np.array([60.0, 60.0, 90.0])
    corrected = (before | ball(added, 10.0)) & ~ball(removed, 12.0)
    clicks = [Click(tuple((added / SPACING).astype(int).tolist())), Click((30, 60, 58), is_foreground=False)]
    for refined in (thinner(before), thicker(before)):
        mask = refined.copy()
        take_corrections(mask, before, corrected, clicks, SPACING)
        # Neither a crack along the old surface, nor a shell of it that is left over.
        assert label(mask)[1] == label(~mask)[1] == 1
        changed = corrected != before
        assert np.array_equal(mask[changed], corrected[changed])
        assert np.array_equal(mask[:, :40], refined[:, :40]) and (mask != corrected).any()


def test_a_click_that_the_finer_surface_disobeys_brings_back_the_other() -> None:
    before = ball(CENTRE_MM, 30.0)
    refined, click = thicker(before), Click((30, 91, 40), is_foreground=False)
    assert refined[click.ijk] and not before[click.ijk]
    mask = refined.copy()
    take_corrections(mask, before, before, [click], SPACING)
    near = np.linalg.norm(PLACES - np.array(click.ijk) * SPACING, axis=1).reshape(SHAPE)
    assert not mask[click.ijk] and np.array_equal(mask[near < CORRECTED_MM], before[near < CORRECTED_MM])
    assert np.array_equal(mask[near > 3 * CORRECTED_MM], refined[near > 3 * CORRECTED_MM])
    # A click that both enforce_clicks changes nothing.
    mask = refined.copy()
    take_corrections(mask, before, before, [Click((30, 60, 40))], SPACING)
    assert np.array_equal(mask, refined)


def test_nothing_is_taken_farther_from_the_clicks_than_they_reach() -> None:
    before = ball(CENTRE_MM, 40.0)
    click = Click((30, 60, 40))
    reached = np.linalg.norm(PLACES - np.array(click.ijk) * SPACING, axis=1).reshape(SHAPE) <= FOREGROUND_RADIUS_MM
    corrected = before & ~(reached & ~ball(CENTRE_MM, 20.0))
    mask = refined = thinner(before)
    mask = refined.copy()
    take_corrections(mask, before, corrected, [click], SPACING)
    assert np.array_equal(mask[~reached], refined[~reached]) and np.array_equal(mask[reached], corrected[reached])
    assert 0 < BAND_MM < CORRECTED_MM < FOREGROUND_RADIUS_MM
