"""Training samples: the click in the middle, truth where the object is, at the spacing that serving would take."""

import dataclasses

import numpy as np
import pytest
import torch

from lib.training.sampling import Sample, SamplingConfig, Volume, draw_sample, remap_tissue

SIZE = 32
PLAIN = SamplingConfig(
    roi_size=SIZE, spacings_mm=(1.0, 2.0), too_fine_share=0.0, zoom=(1.0, 1.0), rotation_deg=0.0, remap_share=0.0
)
AFFINE = np.array([[0.0, -0.8, 0.0, 12.0], [0.0, 0.0, 2.5, -7.0], [-1.1, 0.0, 0.0, 30.0], [0, 0, 0, 1]])


def ball_volume(radius_mm: float, label: int = 3) -> Volume:
    """A bright ball in an anisotropic, permuted and flipped volume, and a second object in its corner."""
    index = np.stack(np.meshgrid(*map(np.arange, (60, 80, 28)), indexing="ij"), -1)
    mm = (index - np.array([30, 40, 14])) * np.linalg.norm(AFFINE[:3, :3], axis=0)
    ball = (mm**2).sum(-1) <= radius_mm**2
    labels = np.where(ball, label, 0).astype(np.uint8)
    labels[:2, :2, :2] = 1
    return Volume(np.where(ball, 100, -50).astype(np.int16), labels, AFFINE)


def draws(volume: Volume, config: SamplingConfig, count: int = 12) -> list[Sample]:
    rng = np.random.default_rng(5)
    return [draw_sample(volume, 3, config, rng) for _ in range(count)]


def test_objects_are_the_labels():
    volume = ball_volume(8.0)
    assert volume.objects() == [1, 3]
    assert len(volume.coordinates(1)) == 8


def halves_volume(**table) -> Volume:
    """A bright block whose halves have the values 2 and 5, and a dark one with the value 300."""
    labels = np.zeros((40, 36, 30), np.uint16)
    labels[10:20, 8:18, 6:16], labels[10:20, 18:28, 6:16], labels[28:36, 8:16, 20:28] = 2, 5, 300
    image = np.where((labels == 2) | (labels == 5), 100, -50).astype(np.int16)
    return Volume(image, labels, np.diag([1.0, 1.0, 1.0, 1.0]), **table)


def test_a_union_of_labels_is_one_object():
    volume = halves_volume(unions=((2, 5), (5,), (300,)))
    assert volume.objects() == [1, 2, 3]
    assert volume.box(1) == (slice(10, 20), slice(8, 28), slice(6, 16))
    expected = np.argwhere(np.isin(volume.labels, (2, 5)))
    assert np.array_equal(volume.coordinates(1), expected) and len(volume.coordinates(2)) == 1000
    rng = np.random.default_rng(0)
    sides = set()
    for _ in range(20):
        sample = draw_sample(volume, 1, dataclasses.replace(PLAIN, spacings_mm=(2.0,), centre_share=0.0), rng)
        # Both halves are in the truth whichever was clicked on: it is as large as all that is bright.
        assert torch.equal(sample.truth, (sample.roi > 25) & sample.inside)
        assert sample.truth.sum() == pytest.approx(2000 / 2**3, rel=0.15)
        middle = sample.truth[0].nonzero().float().mean(0) - SIZE // 2
        sides.add(bool(middle.abs().max() > 2.5))
    assert sides == {True, False}


def test_an_object_without_voxels_is_none():
    assert halves_volume(unions=((2,), (7,), (300, 9))).objects() == [1, 3]


def test_objects_are_drawn_by_their_weights():
    volume = halves_volume(unions=((2, 5), (7,), (5,), (300,)), weights=(3.0, 5.0, 0.0, 1.0))
    rng = np.random.default_rng(1)
    drawn = [volume.draw_object(rng) for _ in range(2000)]
    assert set(drawn) == {1, 4}
    assert np.mean(np.array(drawn) == 1) == pytest.approx(0.75, abs=0.03)


@pytest.mark.parametrize("rotation_deg", [0.0, 15.0])
def test_the_first_click_is_the_middle_and_in_the_object(rotation_deg):
    middle = torch.full((3,), float(SIZE // 2))
    for sample in draws(ball_volume(9.0), dataclasses.replace(PLAIN, rotation_deg=rotation_deg)):
        assert torch.equal(sample.clicks_dhw[0], middle)
        assert sample.truth[0, SIZE // 2, SIZE // 2, SIZE // 2]
        assert sample.roi[0, SIZE // 2, SIZE // 2, SIZE // 2] == pytest.approx(100, abs=0.01)


def test_every_click_is_in_the_object():
    for sample in draws(ball_volume(7.0), dataclasses.replace(PLAIN, max_clicks=6)):
        assert all(sample.truth[0, d, h, w] for d, h, w in sample.clicks_dhw.long().tolist())


def test_truth_has_the_volume_and_the_place_of_the_object():
    for sample in draws(ball_volume(7.0), dataclasses.replace(PLAIN, centre_share=1.0)):
        assert sample.truth.sum() == pytest.approx(4 / 3 * np.pi * 7.0**3, rel=0.12)  # at 1 mm
        # Half of the blurred edge's height is where the image, too, has its border.
        agree = ((sample.roi > 25) == sample.truth)[sample.inside]
        assert agree.float().mean() > 0.999


def test_zoom_scales_the_object():
    zoomed = dataclasses.replace(PLAIN, zoom=(1.4, 1.4), centre_share=1.0)
    near, far = (sum(s.truth.sum() for s in draws(ball_volume(7.0), c)) for c in (PLAIN, zoomed))
    assert near / far == pytest.approx(1.4**3, rel=0.1)


@pytest.mark.parametrize(("radius_mm", "spacing_mm"), [(6.0, 1.0), (20.0, 2.0)])
def test_an_object_that_does_not_fit_is_seen_from_farther(radius_mm, spacing_mm):
    volume = ball_volume(radius_mm)
    for sample in draws(volume, dataclasses.replace(PLAIN, centre_share=1.0)):
        voxels = (volume.labels == 3).sum() * abs(np.linalg.det(AFFINE[:3, :3]))
        assert sample.truth.sum() * spacing_mm**3 == pytest.approx(voxels, rel=0.12)


def test_beyond_the_image_is_marked():
    sample = draws(ball_volume(9.0), dataclasses.replace(PLAIN, spacings_mm=(4.0,)), 1)[0]
    edges = 1.1 * 60, 0.8 * 80, 2.5 * 28
    assert sample.inside.sum() * 4.0**3 == pytest.approx(np.prod(edges), rel=0.1)


def test_equal_seeds_draw_equal_samples():
    config = dataclasses.replace(PLAIN, rotation_deg=10.0, zoom=(0.8, 1.2))
    for one, two in zip(draws(ball_volume(9.0), config), draws(ball_volume(9.0), config), strict=True):
        assert all(torch.equal(getattr(one, f), getattr(two, f)) for f in ("roi", "inside", "truth", "clicks_dhw"))


def test_remapped_tissue_keeps_its_order():
    ramp = torch.linspace(-4, 4, 4 * SIZE).reshape(1, 1, 1, -1)
    for seed in range(20):
        steps = remap_tissue(ramp, np.random.default_rng(seed)).diff(dim=-1)
        assert (steps > 0).all() or (steps < 0).all()
        assert steps.abs().max() / steps.abs().min() <= 4.001


def test_some_small_objects_are_seen_from_farther():
    volume = ball_volume(6.0)
    near = [int(s.truth.sum()) for s in draws(volume, PLAIN)]
    mixed = [int(s.truth.sum()) for s in draws(volume, dataclasses.replace(PLAIN, too_coarse_share=0.5), 30)]
    small = [count for count in mixed if count < min(near) / 4]
    assert 5 < len(small) < 25  # at 2 mm an eighth of the voxels
