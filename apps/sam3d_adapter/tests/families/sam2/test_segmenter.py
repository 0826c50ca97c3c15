"""SAM 2 behind the seam: a pure function of image, weights and prompts, whoever asked what before."""

import threading

import numpy as np
import pytest
import torch
from sam2.modeling.sam2_base import SAM2Base

from lib.families.sam2.segmenter import Sam2Segmenter, _warn_of_gaps, prompted_slices
from lib.families.sam2.settings import SliceSettings
from lib.families.sam2.slices import MEAN, STD, Slices
from lib.prompts.box import Box
from lib.prompts.click import Click
from lib.prompts.prompts import Prompts
from lib.prompts.reading import ClickError
from lib.segmenters.cache import SegmenterCache
from lib.segmenters.contract import LoadedModel, Options, Segmentation, Stages
from lib.segmenters.intensity_settings import WindowIntensity
from lib.volumes.volume import Volume, make_volume

WINDOW = WindowIntensity((-160, 240), 40, 60)
SETTINGS = SliceSettings("same", 3, WINDOW)
SHAPE = (24, 20, 9)
FIRST, SECOND, BESIDE = Click((10, 8, 4)), Click((12, 9, 6)), Click((3, 3, 2), is_foreground=False)


def volume(seed: int = 0, spacing: tuple[float, float, float] = (1.0, 1.0, 3.0)) -> Volume:
    values = np.random.default_rng(seed).normal(40, 60, SHAPE).astype(np.int16)
    return make_volume(values, np.diag([*spacing, 1.0]), f"noise {seed}")


def segmenter(model: SAM2Base, megabytes: int = 256) -> Sam2Segmenter:
    loaded = LoadedModel(model, "one", torch.device("cpu"), threading.Lock())
    return Sam2Segmenter(loaded, SETTINGS, "lesion", SegmenterCache(megabytes * 2**20))


def ask(asked: Sam2Segmenter, image: Volume, *prompts: Click | Box) -> Segmentation:
    return asked.segment(image, Prompts(prompts), Options(), Stages())


def test_clicks_correct_and_undo_gives_the_earlier_mask_to_the_bit(model: SAM2Base) -> None:
    asked, image = segmenter(model), volume()
    one = ask(asked, image, FIRST)
    two = ask(asked, image, FIRST, SECOND)
    three = ask(asked, image, FIRST, SECOND, BESIDE)
    assert one.mask.any() and not np.array_equal(one.mask, two.mask) and not np.array_equal(two.mask, three.mask)
    assert one.encodes == SHAPE[2] and two.encodes == three.encodes == 0
    assert one.decodes == SHAPE[2] and two.decodes == 1 + 2 * (SHAPE[2] - 2) - (4 + 2)
    undone = ask(asked, image, FIRST, SECOND)
    assert np.array_equal(undone.mask, two.mask) and undone.decodes == 0
    assert all(three.mask[click.ijk] == click.is_foreground for click in (FIRST, SECOND, BESIDE))
    assert len(three.obeyed or ()) == 3 and three.details["slices"] == {"axis": "k", "tracked": SHAPE[2]}


def test_users_do_not_meet_and_neither_a_restart_nor_an_eviction_changes_a_mask(model: SAM2Base) -> None:
    shared, images = segmenter(model), (volume(0), volume(1))
    steps = [(0, (FIRST,)), (1, (SECOND,)), (0, (FIRST, SECOND)), (1, (SECOND, FIRST)), (0, (SECOND,))]
    together = [ask(shared, images[who], *clicks).mask for who, clicks in steps]
    alone = [ask(segmenter(model, megabytes=0), images[who], *clicks).mask for who, clicks in steps]
    assert all(np.array_equal(a, b) for a, b in zip(together, alone, strict=True))


def test_the_order_between_the_two_kinds_of_clicks_does_not_matter(model: SAM2Base) -> None:
    asked, image = segmenter(model), volume()
    assert np.array_equal(ask(asked, image, FIRST, BESIDE, SECOND).mask, ask(asked, image, FIRST, SECOND, BESIDE).mask)


def test_where_the_object_ends_tracking_ends(model: SAM2Base) -> None:
    bias = model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias
    before = bias.clone()
    try:
        bias.fill_(-30.0)
        found = ask(segmenter(model), volume(), FIRST)
    finally:
        bias.copy_(before)
    # The clicked slice, and three without the object on both sides.
    assert found.details["slices"]["tracked"] == 7 and found.mask.sum() == 1 == found.mask[FIRST.ijk]
    assert found.obeyed == (False,)


def test_without_a_foreground_click_or_a_box_it_says_what_is_needed(model: SAM2Base) -> None:
    with pytest.raises(ClickError, match="foreground click or a box is needed"):
        ask(segmenter(model), volume(), BESIDE)


@pytest.mark.parametrize(("spacing", "axis"), [((1, 1, 3), 2), ((4, 1, 1), 0), ((1, 2, 1), 1), ((1, 1, 1), 2)])
def test_slices_lie_across_the_widest_spacing(spacing: tuple[float, float, float], axis: int) -> None:
    slices = Slices(volume(spacing=spacing), SETTINGS, 64)
    rest = [length for other, length in enumerate(SHAPE) if other != axis]
    assert slices.axis == axis and len(slices) == SHAPE[axis] and slices.shape == (rest[1], rest[0])


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_bright_voxel_lies_where_its_click_is_shown(axis: int) -> None:
    spacing = [1.0, 1.0, 1.0]
    spacing[axis] = 3.0
    values = np.full(SHAPE, -160, np.int16)
    values[7, 5, 3] = 240
    slices = Slices(make_volume(values, np.diag([*spacing, 1.0]), "one voxel"), SETTINGS, 256)
    number, (x, y) = slices.place((7, 5, 3))
    image = slices.image(number)[0, 0]
    row, column = np.unravel_index(int(image.argmax()), image.shape)
    assert abs(column + 0.5 - x) <= 8 and abs(row + 0.5 - y) <= 8
    assert number == (7, 5, 3)[axis] and image.max() > slices.image(number - 1)[0, 0].max()
    back = slices.on_image(slices.image(number)[:, :1])
    assert np.unravel_index(int(back.argmax()), back.shape) == tuple(
        index for other, index in enumerate((7, 5, 3)) if other != axis
    )


def test_values_are_those_of_the_window_and_channels_are_neighbours_where_the_preset_says_so() -> None:
    values = np.zeros(SHAPE, np.int16) + np.array([-500, -160, 40, 240, 900, 0, 0, 0, 0], np.int16)
    image = make_volume(values, np.diag([1.0, 1.0, 3.0, 1.0]), "steps")
    same, near = (Slices(image, SliceSettings(channels, 3, WINDOW), 32) for channels in ("same", "neighbours"))
    shares = [0.0, 0.0, 0.5, 1.0, 1.0]
    for number, share in enumerate(shares):
        expected = [(share - mean) / std for mean, std in zip(MEAN, STD, strict=True)]
        np.testing.assert_allclose(same.image(number)[0].mean((1, 2)), expected, rtol=1e-5)
    expected = [(shares[n] - mean) / std for n, mean, std in zip((1, 2, 3), MEAN, STD, strict=True)]
    np.testing.assert_allclose(near.image(2)[0].mean((1, 2)), expected, rtol=1e-5)
    expected = [(shares[n] - mean) / std for n, mean, std in zip((0, 0, 1), MEAN, STD, strict=True)]
    np.testing.assert_allclose(near.image(0)[0].mean((1, 2)), expected, rtol=1e-5)


def test_prompts_come_slice_by_slice_a_box_first_and_by_its_outer_corners() -> None:
    slices = Slices(volume(), SETTINGS, 240)  # 10 pixels a voxel along i, 12 along j
    asked = prompted_slices(slices, Prompts((FIRST, SECOND, BESIDE, Box((5, 6, 2), (9, 10, 6)), Click((11, 8, 4)))))
    assert [one.number for one in asked] == [4, 6, 2]
    assert asked[0].labels == (2, 3, 1, 1) and asked[1].labels == (1,) and asked[2].labels == (0,)
    np.testing.assert_allclose(asked[0].points, [(50, 72), (100, 132), (105, 102), (115, 102)])


def test_a_gap_is_told() -> None:
    mask = np.zeros(SHAPE, np.uint8)
    mask[5, 5, [1, 2, 5, 7]] = 1
    (warning,) = _warn_of_gaps(mask, 2)
    assert warning.startswith("gap: ") and "slices 3, 4, 6 (" in warning
    mask[5, 5, 1:8] = 1
    assert _warn_of_gaps(mask, 2) == () == _warn_of_gaps(np.zeros(SHAPE, np.uint8), 2)
