"""What ``refine`` does: the surface of an initial mask is predicted again at full resolution in at most 8 regions."""

from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, binary_erosion, distance_transform_edt, label

from lib.evaluation.metrics import dice
from lib.geometry.click_influence import FOREGROUND_RADIUS_MM
from lib.geometry.roi import roi_at
from lib.presets import load_presets
from lib.prompts.click import Click
from lib.prompts.mask import MaskPrompt
from lib.prompts.prompts import Prompts
from lib.segmenters.contract import Options, Segmentation
from lib.segmenters.roi import refine
from lib.segmenters.roi.prediction import MAX_ENCODES
from lib.segmenters.roi.refine import (
    AGREES,
    BAND_MM,
    CORRECTED_MM,
    REGIONS,
    RefinedMask,
    surface_regions,
    take_corrections,
)
from lib.serving.preset_segmenter import PresetSegmenter, SharedState
from lib.volumes.mask_hash import mask_hash
from lib.volumes.volume import Volume, make_volume
from tests.support.one_thread import one_thread  # noqa: F401
from tests.support.server import APP_DIR
from tests.support.small_app import copy_small_app

SPACING = (1.1, 1.0, 1.4)
SHAPE, CENTRE = (150, 150, 110), (74, 75, 54)
AFFINE = np.diag([*SPACING, 1.0])


def ball(radius_mm: float, shape: tuple[int, ...] = SHAPE, spacing: tuple[float, ...] = SPACING) -> np.ndarray:
    """(i, j, k) bool, a little longer along i than along the others."""
    off = [((np.arange(n) - n // 2) * mm) ** 2 for n, mm in zip(shape, spacing, strict=True)]
    return np.asarray(off[0][:, None, None] / 1.2 + off[1][:, None] + off[2] <= radius_mm**2)


@pytest.fixture(scope="module")
def ct() -> PresetSegmenter:
    return PresetSegmenter(load_presets(APP_DIR / "configs")["ct"], APP_DIR, SharedState.of(precision="fp32"))


@pytest.fixture(scope="module")
def images() -> dict[str, Volume]:
    """A lesion 50 HU above noisy tissue, too large for a region of 64 mm, and one that fits."""
    volumes = {}
    for name, radius_mm in (("large", 38.0), ("small", 12.0)):
        values = np.where(ball(radius_mm), 90, 40) + np.random.default_rng(0).normal(0, 15, SHAPE)
        volumes[name] = make_volume(values.astype(np.int16), AFFINE, name)
    return volumes


def ask(
    segmenter: PresetSegmenter, image: Volume, *more: Click | MaskPrompt, refine: bool = False
) -> tuple[np.ndarray, Segmentation]:
    """The mask for a click in the middle and further prompts, and all that is said of it."""
    found = segmenter.segment(image, Prompts((Click(CENTRE), *more)), Options(refine=refine), device="cpu")
    return found.mask != 0, found


@pytest.mark.slow
def test_the_surface_of_a_large_lesion_is_predicted_once_more(ct: PresetSegmenter, images: dict[str, Volume]) -> None:
    truth = ball(38.0)
    coarse, first = ask(ct, images["large"])
    assert (
        first.details["refined"] is None and first.details["roi"]["spacing_mm"] > 1 and first.encodes <= MAX_ENCODES - 2
    )
    fine, answer = ask(ct, images["large"], refine=True)
    # Some of them may be at hand from the initial prediction.
    assert 4 <= answer.encodes <= answer.details["refined"] <= 8 == REGIONS
    # It was fine already at half the resolution; a ragged mask gains more, see below.
    assert dice(fine, truth) > dice(coarse, truth) - 0.005 > 0.85
    # It moves within the band alone, by the chessboard distance to a voxel of the region.
    moved = distance_transform_edt(coarse == coarse[CENTRE], sampling=SPACING)
    moved = np.where(coarse, moved, distance_transform_edt(~coarse, sampling=SPACING))
    assert 0 < moved[fine != coarse].max() <= np.sqrt(3) * (BAND_MM + 2)
    again, answer = ask(ct, images["large"], refine=True)
    assert answer.encodes == 0 and np.array_equal(again, fine)


def test_what_was_seen_at_full_resolution_is_not_predicted_again(
    ct: PresetSegmenter, images: dict[str, Volume]
) -> None:
    mask, answer = ask(ct, images["small"])
    again, refined = ask(ct, images["small"], refine=True)
    assert np.array_equal(again, mask)
    assert refined.details["refined"] == refined.encodes == 0 and refined.decodes == 0
    assert answer.details["roi"]["spacing_mm"] == 1.0


@pytest.mark.slow
def test_a_region_that_the_network_takes_for_another_changes_nothing(
    ct: PresetSegmenter, images: dict[str, Volume], monkeypatch: pytest.MonkeyPatch
) -> None:
    coarse, _ = ask(ct, images["large"])
    # What is kept from before, or would be from here, follows another rule.
    ct.shared.cache.clear()
    monkeypatch.setattr(refine, "AGREES", 1.01)
    mask, answer = ask(ct, images["large"], refine=True)
    ct.shared.cache.clear()
    assert answer.details["refined"] > 0 and np.array_equal(mask, coarse) and AGREES < 1


@pytest.mark.slow
def test_clicks_are_obeyed_at_the_surface(ct: PresetSegmenter, images: dict[str, Volume]) -> None:
    coarse, _ = ask(ct, images["large"])
    i, j, k = CENTRE
    outside = int(np.flatnonzero(coarse[:, j, k]).max()) + 2
    inside = int(np.flatnonzero(coarse[i, :, k]).max()) - 1
    clicks = [Click((i, inside, k)), Click((outside, j, k), is_foreground=False)]
    mask, answer = ask(ct, images["large"], *clicks, refine=True)
    assert 0 < answer.details["refined"] <= 8
    assert mask[CENTRE] and mask[i, inside, k] and not mask[outside, j, k]


def test_a_click_moves_the_finer_surface_around_it_alone(ct: PresetSegmenter, images: dict[str, Volume]) -> None:
    first, _ = ask(ct, images["large"], refine=True)
    i, j, k = CENTRE
    outside = (int(np.flatnonzero(first[:, j, k]).max()) + 1, j, k)
    inside = (i, int(np.flatnonzero(first[i, :, k]).min()) + 1, k)
    clicks = [Click(outside), Click(inside, is_foreground=False)]
    coarse, _ = ask(ct, images["large"], *clicks)
    mask, answer = ask(ct, images["large"], *clicks, refine=True)
    assert mask[outside] and not mask[inside]
    offsets = [(np.indices(SHAPE).reshape(3, -1).T - click) * SPACING for click in (outside, inside)]
    far = (np.min([np.linalg.norm(offset, axis=1) for offset in offsets], axis=0) > FOREGROUND_RADIUS_MM).reshape(SHAPE)
    assert far.any() and np.array_equal(mask[far], first[far]) and (mask != first).any()
    # Farther away the surface stays the finer one, and no region is predicted again for it.
    assert (mask != coarse)[far].any()
    assert answer.details["refined"] == ask(ct, images["large"], refine=True)[1].details["refined"] > 0
    assert answer.encodes == answer.decodes == 0


@pytest.mark.slow
def test_what_is_refined_does_not_depend_on_when_it_was_asked_for(
    ct: PresetSegmenter, images: dict[str, Volume]
) -> None:
    i, j, k = CENTRE
    clicks = [Click((i + 20, j, k)), Click((i, j + 41, k), is_foreground=False)]
    masks = []
    for before in (False, True):
        ct.shared.cache.clear()
        if before:
            ask(ct, images["large"], refine=True)
        masks.append(ask(ct, images["large"], *clicks, refine=True)[0])
    assert np.array_equal(*masks)


@pytest.mark.slow
def test_a_mask_of_the_user_is_refined_as_well(ct: PresetSegmenter, images: dict[str, Volume]) -> None:
    """One that was drawn on every eighth slice and line, say."""
    truth = ball(38.0)
    blocks = np.kron(truth[::8, ::8, ::8], np.ones((8, 8, 8), bool))[tuple(map(slice, SHAPE))]
    drawn = np.zeros(SHAPE, bool)
    drawn[tuple(map(slice, blocks.shape))] = blocks
    start = MaskPrompt(drawn, "upload", 1, mask_hash(drawn))
    before, _ = ask(ct, images["large"], start)
    after, answer = ask(ct, images["large"], start, refine=True)
    assert 0 < answer.details["refined"] <= 8
    assert dice(after, truth) > dice(before, truth) + 0.01


@pytest.mark.parametrize("name", ["test", "unet"])
def test_every_family_refines(tmp_path: Path, images: dict[str, Volume], name: str) -> None:
    app = copy_small_app(tmp_path / "app", (name,))
    small = PresetSegmenter(load_presets(app / "configs")[name], app, SharedState.of(precision="fp32"))
    coarse, first = ask(small, images["large"])
    mask, answer = ask(small, images["large"], refine=True)
    assert mask[CENTRE] and mask.shape == coarse.shape
    refined = answer.details["refined"]
    assert refined <= 8 and (refined > 0) == (first.details["roi"]["spacing_mm"] > 1)


def test_regions_hold_the_surface() -> None:
    mask = ball(45.0)
    lattice = roi_at(CENTRE, SHAPE, AFFINE, 64, 1.0, "SAR")
    offsets = surface_regions(mask, lattice)
    assert 4 <= len(offsets) == len(set(offsets)) <= REGIONS
    assert not np.mod(offsets, 32).any()
    surface = lattice.ijk_to_dhw(np.argwhere(mask & ~binary_erosion(mask)))
    held = [((surface >= offset) & (surface < np.add(offset, 64))).all(axis=1) for offset in offsets]
    assert np.any(held, axis=0).mean() > 0.9
    # The first one holds most of all that there are.
    assert held[0].sum() == max(part.sum() for part in held)


def test_regions_of_nothing_and_of_what_is_larger_than_all_of_them() -> None:
    lattice = roi_at(CENTRE, SHAPE, AFFINE, 64, 1.0, "SAR")
    assert surface_regions(np.zeros(SHAPE, bool), lattice) == []
    shape, spacing = (160, 160, 100), (2.2, 2.2, 3.4)
    wide = ball(140.0, shape, spacing)
    lattice = roi_at((80, 80, 50), shape, np.diag([*spacing, 1.0]), 64, 1.0, "SAR")
    assert len(surface_regions(wide, lattice)) == REGIONS
    speck = np.zeros(SHAPE, bool)
    speck[CENTRE] = True
    assert len(surface_regions(speck, lattice)) == 1


# The refined mask and the clicks that correct the mask it was made from.
VOXEL_MM = np.array([2.0, 1.0, 1.5])
GRID = (60, 120, 80)
PLACES = np.indices(GRID).reshape(3, -1).T * VOXEL_MM
CENTRE_MM = np.array([60.0, 60.0, 60.0])


def sphere(middle_mm: np.ndarray, radius_mm: float) -> np.ndarray:
    return np.asarray(np.linalg.norm(PLACES - middle_mm, axis=1) <= radius_mm).reshape(GRID)


def thinner(mask: np.ndarray) -> np.ndarray:
    return np.asarray(binary_erosion(mask, np.ones((3, 5, 3))))


def thicker(mask: np.ndarray) -> np.ndarray:
    return np.asarray(binary_dilation(mask, np.ones((3, 5, 3))))


def test_masks_come_back_as_they_were_packed() -> None:
    before, after = sphere(CENTRE_MM, 25.0), thicker(sphere(CENTRE_MM, 25.0))
    packed = RefinedMask.packed(before, after, 3)
    assert packed.nbytes < before.size / 8
    for one, other in zip(packed.masks(GRID), (before, after), strict=True):
        assert np.array_equal(one, other)
    nothing = np.zeros(GRID, bool)
    assert not np.any(RefinedMask.packed(nothing, nothing, 0).masks(GRID))


def test_what_clicks_add_and_remove_hangs_together_with_the_rest() -> None:
    before = sphere(CENTRE_MM, 30.0)
    added = np.array([60.0, 95.0, 60.0])
    removed = np.array([60.0, 60.0, 90.0])
    corrected = (before | sphere(added, 10.0)) & ~sphere(removed, 12.0)
    clicks = [Click(tuple((added / VOXEL_MM).astype(int).tolist())), Click((30, 60, 58), is_foreground=False)]
    for refined in (thinner(before), thicker(before)):
        mask = refined.copy()
        take_corrections(mask, before, corrected, clicks, VOXEL_MM)
        # Neither a crack along the old surface, nor a shell of it that is left over.
        assert label(mask)[1] == label(~mask)[1] == 1
        changed = corrected != before
        assert np.array_equal(mask[changed], corrected[changed])
        assert np.array_equal(mask[:, :40], refined[:, :40]) and (mask != corrected).any()


def test_a_click_that_the_finer_surface_disobeys_brings_back_the_other() -> None:
    before = sphere(CENTRE_MM, 30.0)
    refined, click = thicker(before), Click((30, 91, 40), is_foreground=False)
    assert refined[click.ijk] and not before[click.ijk]
    mask = refined.copy()
    take_corrections(mask, before, before, [click], VOXEL_MM)
    near = np.linalg.norm(PLACES - np.array(click.ijk) * VOXEL_MM, axis=1).reshape(GRID)
    assert not mask[click.ijk] and np.array_equal(mask[near < CORRECTED_MM], before[near < CORRECTED_MM])
    assert np.array_equal(mask[near > 3 * CORRECTED_MM], refined[near > 3 * CORRECTED_MM])
    # A click that both obey changes nothing.
    mask = refined.copy()
    take_corrections(mask, before, before, [Click((30, 60, 40))], VOXEL_MM)
    assert np.array_equal(mask, refined)


def test_nothing_is_taken_farther_from_the_clicks_than_they_reach() -> None:
    before = sphere(CENTRE_MM, 40.0)
    click = Click((30, 60, 40))
    reached = np.linalg.norm(PLACES - np.array(click.ijk) * VOXEL_MM, axis=1).reshape(GRID) <= FOREGROUND_RADIUS_MM
    corrected = before & ~(reached & ~sphere(CENTRE_MM, 20.0))
    mask = refined = thinner(before)
    mask = refined.copy()
    take_corrections(mask, before, corrected, [click], VOXEL_MM)
    assert np.array_equal(mask[~reached], refined[~reached]) and np.array_equal(mask[reached], corrected[reached])
    assert 0 < BAND_MM < CORRECTED_MM < FOREGROUND_RADIUS_MM
