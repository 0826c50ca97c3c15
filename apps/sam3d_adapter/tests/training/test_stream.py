"""The stream: sample n is the same whoever draws it, and recorded clicks lie where they were made."""

import itertools

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from lib.segmenters.intensity_settings import WindowIntensity
from lib.training.sampling import SamplingConfig, Volume
from lib.training.stream import Drawn, SampleStream

CONFIG = SamplingConfig(roi_size=16, too_fine_share=0.0, remap_share=0.3, gain=0.1, max_clicks=3)
AFFINE = np.array([[0.0, -0.9, 0.0, 12.0], [0.0, 0.0, 1.3, -7.0], [-1.1, 0.0, 0.0, 30.0], [0, 0, 0, 1]])
WINDOW = WindowIntensity(clip_hu=(-100.0, 200.0), mean=40.0, std=60.0)


class Blocks:
    """Volumes with two objects; the one that is drawn was clicked on by a user."""

    share = 1.0
    remap_share = None
    spacings_mm = (1.0,)

    def __init__(self, recorded: np.ndarray | None = None) -> None:
        rng = np.random.default_rng(0)
        labels = np.zeros((30, 28, 26), np.uint8)
        labels[8:18, 9:17, 10:18] = 2
        labels[22:25, 2:6, 3:8] = 1
        image = (80 * labels + rng.normal(0, 20, labels.shape)).astype(np.int16)
        self.volume = Volume(image, labels, AFFINE)
        self.recorded = np.zeros((0, 4)) if recorded is None else recorded

    def draw(self, rng: np.random.Generator, number: int = 0) -> Drawn:
        return Drawn(self.volume, 2, WINDOW, self.recorded)


def batches(count: int, **how) -> list:
    return list(itertools.islice(SampleStream([Blocks()], CONFIG, 3, **how), count))


def same(one, other) -> bool:
    """Clicks are padded by the batch's most, which changes nothing of the set."""
    pairs = zip(one.rois, other.rois, strict=True), zip(one.truths, other.truths, strict=True)
    sets = zip(one.clicks_dhw, other.clicks_dhw, strict=True)
    equal = all(torch.equal(a, b) for pair in pairs for a, b in pair)
    return equal and all({*map(tuple, a.tolist())} == {*map(tuple, b.tolist())} for a, b in sets)


def test_two_processes_draw_together_what_one_draws_alone():
    alone = batches(3, batch=4)
    halves = [batches(3, batch=2, part=part, parts=2) for part in (0, 1)]
    for step, batch in enumerate(alone):
        for part in (0, 1):
            assert same(batch.rows(slice(2 * part, 2 * part + 2)), halves[part][step])
            assert halves[part][step].numbers.tolist() == batch.numbers[2 * part : 2 * part + 2].tolist()


def test_a_stream_goes_on_where_it_was_stopped():
    for one, other in zip(batches(5)[2:], batches(3, first_step=2), strict=True):
        assert same(one, other) and torch.equal(one.numbers, other.numbers)


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_do_not_change_the_order(workers):
    loader = DataLoader(SampleStream([Blocks()], CONFIG, 3), batch_size=None, num_workers=workers)
    for one, other in zip(batches(5), itertools.islice(loader, 5), strict=True):
        assert same(one, other)


def test_other_seeds_draw_other_samples():
    one, other = (next(iter(SampleStream([Blocks()], CONFIG, seed))) for seed in (1, 2))
    assert not same(one, other)


def test_recorded_clicks_lie_where_they_were_made():
    """On the noise-free truth: a click on the object is on it in the ROI, however that is turned and zoomed."""
    recorded = np.array([[23, 3, 4, 1], [12, 12, 13, 1], [9, 10, 11, 1], [7, 12, 13, 0], [0, 0, 0, 0]], float)
    config = SamplingConfig(roi_size=32, too_fine_share=0.0, recorded_share=1.0, rotation_deg=20.0)
    stream = iter(SampleStream([Blocks(recorded)], config, 1, batch=1))
    seen = 0
    for _ in range(25):
        batch = next(stream)
        assert batch.clicks_dhw.tolist() == [[[16.0, 16.0, 16.0]]] and batch.truths[0, 0, 16, 16, 16]
        for *dhw, sign in batch.recorded[0].tolist():
            d, h, w = (round(x) for x in dhw)
            inside = bool(batch.truths[0, 0, d, h, w])
            near = batch.truths[0, 0, d - 1 : d + 2, h - 1 : h + 2, w - 1 : w + 2].float().mean()
            assert inside == bool(sign) or 0 < near < 1
            seen += 1
    assert seen >= 50


def test_without_a_click_on_the_object_the_user_is_simulated():
    config = SamplingConfig(roi_size=16, too_fine_share=0.0, recorded_share=1.0)
    batch = next(iter(SampleStream([Blocks(np.array([[0.0, 0, 0, 0], [23, 3, 4, 1]]))], config, 1)))
    assert batch.recorded.shape[1] == 0 and batch.truths[:, 0, 8, 8, 8].all()


def test_a_source_may_have_its_intensities_redrawn_more_often():
    class Remapped(Blocks):
        remap_share = 1.0

    config = SamplingConfig(roi_size=16, too_fine_share=0.0, remap_share=0.0)
    plain, redrawn = (next(iter(SampleStream([source()], config, 1))) for source in (Blocks, Remapped))
    assert torch.equal(plain.truths, redrawn.truths) and not torch.allclose(plain.rois, redrawn.rois)
