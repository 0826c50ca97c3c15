"""What ``refine`` does: the surface of an answer from afar, looked at again at full resolution in at most 8 regions."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import binary_erosion, distance_transform_edt

from lib.configs.task_config import Sam3dAdapterConfig
from lib.evaluation.metrics import dice
from lib.geometry.click_influence import FOREGROUND_RADIUS_MM
from lib.geometry.roi import roi_at
from lib.segmenters.roi import fine_boundary as fine_surface
from lib.segmenters.roi.fine_boundary import AGREES, BAND_MM, REGIONS, surface_regions
from lib.segmenters.roi.prediction import MAX_ENCODES
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
def tasks() -> dict[str, Any]:
    return Sam3dAdapterConfig(APP_DIR, {"models": "ct", "precision": "fp32"}).infers()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    app = copy_small_app(tmp_path_factory.mktemp("fine") / "app", ("test", "unet"))
    return Sam3dAdapterConfig(app, {"precision": "fp32"}).infers()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A lesion 50 HU above noisy tissue, too large for a region of 64 mm, and one that fits."""
    paths = {}
    for name, radius_mm in (("large", 38.0), ("small", 12.0)):
        values = np.where(ball(radius_mm), 90, 40) + np.random.default_rng(0).normal(0, 15, SHAPE)
        paths[name] = tmp_path_factory.mktemp("images") / f"{name}.nii"
        nib.save(nib.Nifti1Image(values.astype(np.int16), AFFINE), paths[name])
    return paths


def ask(tasks: dict[str, Any], image: Path, model: str = "ct", **params: Any) -> tuple[np.ndarray, dict[str, Any]]:
    request = {"model": model, "image": str(image), "device": "cpu", "result_extension": ".nii"}
    file, answer = tasks[model](request | {"foreground": [list(CENTRE)]} | params)
    mask = np.asarray(nib.load(file).dataobj) != 0
    Path(file).unlink()
    return mask, answer


def test_the_surface_of_a_large_lesion_is_looked_at_once_more(tasks: dict[str, Any], images: dict[str, Path]) -> None:
    truth = ball(38.0)
    coarse, first = ask(tasks, images["large"])
    assert first["refined"] is None and first["roi"]["spacing_mm"] > 1 and first["encodes"] <= MAX_ENCODES - 2
    fine, answer = ask(tasks, images["large"], refine=True)
    # Some of them may be at hand from the first look.
    assert 4 <= answer["encodes"] <= answer["refined"] <= 8 == REGIONS
    # It was fine already at half the resolution; a ragged mask gains more, see below.
    assert dice(fine, truth) > dice(coarse, truth) - 0.005 > 0.85
    # It moves within the band alone, by the chessboard distance to a voxel of the region.
    moved = distance_transform_edt(coarse == coarse[CENTRE], sampling=SPACING)
    moved = np.where(coarse, moved, distance_transform_edt(~coarse, sampling=SPACING))
    assert 0 < moved[fine != coarse].max() <= np.sqrt(3) * (BAND_MM + 2)
    again, answer = ask(tasks, images["large"], refine="true")
    assert answer["encodes"] == 0 and np.array_equal(again, fine)


def test_what_was_seen_at_full_resolution_is_not_looked_at_again(
    tasks: dict[str, Any], images: dict[str, Path]
) -> None:
    mask, answer = ask(tasks, images["small"])
    again, refined = ask(tasks, images["small"], refine=True)
    assert np.array_equal(again, mask)
    assert refined["refined"] == refined["encodes"] == 0 and refined["decodes"] == 0
    assert answer["roi"]["spacing_mm"] == 1.0


def test_a_region_that_the_network_takes_for_another_changes_nothing(
    tasks: dict[str, Any], images: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    coarse, _ = ask(tasks, images["large"])
    # What is kept from before, or would be from here, follows another rule.
    tasks["ct"]._shared.embeddings.clear()
    monkeypatch.setattr(fine_surface, "AGREES", 1.01)
    mask, answer = ask(tasks, images["large"], refine=True)
    tasks["ct"]._shared.embeddings.clear()
    assert answer["refined"] > 0 and np.array_equal(mask, coarse) and AGREES < 1


def test_clicks_are_obeyed_at_the_surface(tasks: dict[str, Any], images: dict[str, Path]) -> None:
    coarse, _ = ask(tasks, images["large"])
    i, j, k = CENTRE
    outside = int(np.flatnonzero(coarse[:, j, k]).max()) + 2
    inside = int(np.flatnonzero(coarse[i, :, k]).max()) - 1
    clicks = {"foreground": [list(CENTRE), [i, inside, k]], "background": [[outside, j, k]]}
    mask, answer = ask(tasks, images["large"], refine=True, **clicks)
    assert 0 < answer["refined"] <= 8
    assert mask[CENTRE] and mask[i, inside, k] and not mask[outside, j, k]


def test_a_click_moves_the_finer_surface_around_it_alone(tasks: dict[str, Any], images: dict[str, Path]) -> None:
    first, _ = ask(tasks, images["large"], refine=True)
    i, j, k = CENTRE
    outside = [int(np.flatnonzero(first[:, j, k]).max()) + 1, j, k]
    inside = [i, int(np.flatnonzero(first[i, :, k]).min()) + 1, k]
    coarse, _ = ask(tasks, images["large"], foreground=[list(CENTRE), outside], background=[inside])
    mask, answer = ask(tasks, images["large"], refine=True, foreground=[list(CENTRE), outside], background=[inside])
    assert mask[tuple(outside)] and not mask[tuple(inside)]
    offsets = [(np.indices(SHAPE).reshape(3, -1).T - click) * SPACING for click in (outside, inside)]
    far = (np.min([np.linalg.norm(offset, axis=1) for offset in offsets], axis=0) > FOREGROUND_RADIUS_MM).reshape(SHAPE)
    assert far.any() and np.array_equal(mask[far], first[far]) and (mask != first).any()
    # Farther away the surface stays the finer one, and no region is looked at again for it.
    assert (mask != coarse)[far].any()
    assert answer["refined"] == ask(tasks, images["large"], refine=True)[1]["refined"] > 0
    assert answer["encodes"] == answer["decodes"] == 0


@pytest.mark.slow
def test_what_is_refined_does_not_depend_on_when_it_was_asked_for(
    tasks: dict[str, Any], images: dict[str, Path]
) -> None:
    i, j, k = CENTRE
    clicks = {"foreground": [list(CENTRE), [i + 20, j, k]], "background": [[i, j + 41, k]]}
    masks = []
    for before in (False, True):
        tasks["ct"]._shared.embeddings.clear()
        if before:
            ask(tasks, images["large"], refine=True)
        masks.append(ask(tasks, images["large"], refine=True, **clicks)[0])
    assert np.array_equal(*masks)


def test_a_mask_of_the_user_is_refined_as_well(tasks: dict[str, Any], images: dict[str, Path], tmp_path: Path) -> None:
    """One that was drawn on every eighth slice and line, say."""
    truth = ball(38.0)
    blocks = np.kron(truth[::8, ::8, ::8], np.ones((8, 8, 8), bool))[tuple(map(slice, SHAPE))]
    path = tmp_path / "blocks.nii"
    drawn = np.zeros(SHAPE, np.uint8)
    drawn[tuple(map(slice, blocks.shape))] = blocks
    nib.save(nib.Nifti1Image(drawn, AFFINE), path)
    sent = {"start_from": "upload", "uploaded_label": str(path)}
    before, _ = ask(tasks, images["large"], **sent)
    after, answer = ask(tasks, images["large"], refine=True, **sent)
    assert 0 < answer["refined"] <= 8
    assert dice(after, truth) > dice(before, truth) + 0.01


@pytest.mark.parametrize("model", ["test", "unet"])
def test_every_family_refines(small: dict[str, Any], images: dict[str, Path], model: str) -> None:
    coarse, first = ask(small, images["large"], model)
    mask, answer = ask(small, images["large"], model, refine=True)
    assert mask[CENTRE] and mask.shape == coarse.shape
    assert answer["refined"] <= 8 and (answer["refined"] > 0) == (first["roi"]["spacing_mm"] > 1)


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
