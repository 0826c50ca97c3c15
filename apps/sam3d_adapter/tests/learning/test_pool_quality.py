"""The mean quality on unlabelled images: its interval, when it is said, and where."""

import math
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from lib.learning.pool_quality import (
    POOL_QUALITY,
    PoolQuality,
    about_unlabelled,
    pool_quality,
    read_pool_quality,
    write_pool_quality,
)
from lib.learning.versions_page import versions_page
from lib.registry.registry import Registry
from lib.registry.version import SHIPPED
from lib.registry.versions import Versions
from lib.serving.predicted_dice import Calibration, fit_calibration
from sam3d.__main__ import main
from tests.support.server import APP_DIR

QUALITY = PoolQuality(SHIPPED, 0.524, 0.471, 0.576, 83, 90, 24)


def answers(rng: np.random.Generator, patients: int) -> tuple[np.ndarray, np.ndarray]:
    """(patients, 2 ways): expected Dice, and the true one, which it tells with an error that a patient's ways share."""
    expected = rng.uniform(0.4, 0.9, (patients, 2))
    noise = rng.normal(0, 0.08, (patients, 1)) + rng.normal(0, 0.05, (patients, 2))
    return expected, np.clip(0.9 * expected - 0.1 + noise, 0, 1)


def calibrated(rng: np.random.Generator) -> Calibration:
    expected, dice = answers(rng, 24)
    found = fit_calibration("key", expected[..., None], dice[..., None])
    assert found is not None
    return found


def test_the_interval_holds_the_true_mean() -> None:
    rng, held, widths = np.random.default_rng(0), 0, []
    for _ in range(40):
        calibration, (expected, dice) = calibrated(rng), answers(rng, 50)
        found = pool_quality(calibration, "v0001", expected.mean(axis=1).tolist(), 60)
        assert found is not None and (found.images, found.unlabelled, found.patients) == (50, 60, 24)
        assert found.low < found.mean < found.high
        held += found.low <= dice.mean() <= found.high
        widths.append(found.high - found.low)
    # Of 40 at 95 %, fewer than 34 in one case of 500; an interval of anything would hold as well.
    assert held >= 34 and np.mean(widths) < 0.15


def test_it_holds_as_often_as_it_says_where_the_network_tells_nothing() -> None:
    rng, held, draws, patients = np.random.default_rng(1), 0, 400, 20
    for _ in range(draws):
        expected, dice = rng.uniform(0.8, 0.9, (2 * patients, 1)), rng.normal(0.5, 0.1, (2 * patients, 1))
        calibration = fit_calibration("key", expected[:patients, :, None], dice[:patients, :, None])
        assert calibration is not None
        found = pool_quality(calibration, "v0001", expected[patients:, 0].tolist(), patients)
        assert found is not None
        held += found.low <= dice[patients:].mean() <= found.high
    # The plain percentiles of the bootstrap hold in 0.92.
    assert 0.935 <= held / draws <= 0.975, held / draws


def test_where_nothing_can_be_predicted_nothing_is_said() -> None:
    calibration = calibrated(np.random.default_rng(0))
    assert pool_quality(calibration, "v", [], 5) is None
    assert pool_quality(calibration, "v", [0.5, math.nan], 5) is None, "a network without probabilities"
    assert pool_quality(Calibration("key", 24, calibration.lines), "v", [0.5], 5) is None, "of an earlier release"


@pytest.fixture
def versions(tmp_path: Path) -> Versions:
    return Registry(tmp_path / "learning").of("ct", "tiny", "sam3d_adapter")


def test_it_is_shown_for_the_version_that_is_served_alone(versions: Versions, tmp_path: Path) -> None:
    def listed() -> str:
        arguments = ["versions", "list", "--preset", "ct", "--learning-dir", str(tmp_path / "learning")]
        return CliRunner().invoke(main, ["--app", str(APP_DIR), *arguments]).stdout

    assert about_unlabelled(versions) == [] and "Images without a label" not in listed()
    write_pool_quality(versions.folder, QUALITY)
    words = "predicted 0.52 on average (95 % interval 0.47 to 0.58), from 24 labelled patients, on the 83 of 90 images"
    assert words in listed() and words in versions_page(versions)
    assert read_pool_quality(versions.folder, SHIPPED) == QUALITY
    assert read_pool_quality(versions.folder, "v0002-abc") is None
    (versions.folder / POOL_QUALITY).write_text("{")
    assert about_unlabelled(versions) == []
    write_pool_quality(versions.folder, QUALITY)
    write_pool_quality(versions.folder, None)
    assert about_unlabelled(versions) == []
