"""Clear things are found, noise is not."""

import numpy as np
import pytest

from lib.regions.candidates import Region, dice
from lib.regions.find import Scale, draw_scale, find_regions
from lib.regions.intensity import body_of

SPACING = np.array([1.0, 1.0, 1.5])
SHAPE = (72, 72, 48)
SCALE = Scale(smoothing=1.5, depth=0.25, edge_share=0.5, size_power=0.2, levels=4, neck=0.5, outline=0.8)


def grid() -> list[np.ndarray]:
    return [axis * spacing for axis, spacing in zip(np.indices(SHAPE), SPACING, strict=True)]


def ball(centre: tuple[float, float, float], radius: float) -> np.ndarray:
    """mm."""
    return sum((axis - c) ** 2 for axis, c in zip(grid(), centre, strict=True)) < radius**2


def tube() -> np.ndarray:
    """A bow of 3 mm radius."""
    x, y, z = grid()
    return (np.hypot(x - 55 - 5 * np.sin(z / 12), y - 55) < 3.0) & (z > 9) & (z < 60)


def ct(objects: list[tuple[np.ndarray, float]], noise: float = 10.0) -> np.ndarray:
    """A body of 0 HU in air, and objects in it."""
    x, y, _ = grid()
    values = np.where(np.hypot(x - 36, y - 36) < 35, 0.0, -1000.0)
    for mask, hu in objects:
        values[mask] = hu
    return np.rint(values + noise * np.random.default_rng(5).standard_normal(SHAPE)).astype(np.int16)


def best_dice(regions: list[Region], truth: np.ndarray) -> float:
    def of(region: Region) -> float:
        whole = np.zeros(SHAPE, bool)
        whole[region.box] = region.mask
        return dice(whole, truth)

    return max(map(of, regions), default=0.0)


@pytest.fixture(scope="module")
def things() -> dict[str, tuple[np.ndarray, float]]:
    return {
        "bright ball": (ball((25, 28, 30), 10), 80.0),
        "dark ball": (ball((48, 26, 42), 7), -70.0),
        "tube": (tube(), 150.0),
    }


@pytest.fixture(scope="module")
def regions(things: dict[str, tuple[np.ndarray, float]]) -> list[Region]:
    return find_regions(ct(list(things.values())), SPACING, "ct", SCALE)


@pytest.mark.parametrize("name", ["bright ball", "dark ball", "tube"])
def test_things_in_noise_are_found(
    name: str, things: dict[str, tuple[np.ndarray, float]], regions: list[Region]
) -> None:
    assert best_dice(regions, things[name][0]) >= 0.85


def test_two_balls_that_touch_are_found_one_by_one() -> None:
    first, second = ball((26, 36, 34), 10), ball((44, 36, 34), 10)
    found = find_regions(ct([(first | second, 90.0)]), SPACING, "ct", SCALE)
    assert best_dice(found, first & ~second) >= 0.85
    assert best_dice(found, second & ~first) >= 0.85


@pytest.mark.parametrize("modality", ["ct", "mr", "pet"])
def test_noise_alone_gives_nothing(modality: str) -> None:
    noise = 100 + 10 * np.random.default_rng(1).standard_normal(SHAPE)
    assert find_regions(noise.astype(np.int16), SPACING, modality, SCALE) == []


def test_air_around_the_body_is_not_of_it_but_gas_inside_is() -> None:
    gas = ball((36, 36, 36), 8)
    body = body_of(ct([(gas, -950.0)]), "ct")
    assert body[gas].all()
    assert not body[0].any()


def test_nothing_but_air_gives_nothing() -> None:
    assert find_regions(np.full(SHAPE, -1000, np.int16), SPACING, "ct", SCALE) == []


def test_seeds_draw_other_scales() -> None:
    first, again, other = (draw_scale(np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first == again != other
