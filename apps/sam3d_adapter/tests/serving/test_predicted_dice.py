"""The predicted Dice of answers: that its bound holds, and that none is used for what it was not learned from."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from lib.presets import Preset, load_preset
from lib.serving import predicted_dice
from lib.serving.predicted_dice import (
    MIN_PATIENTS,
    Calibration,
    Calibrations,
    Line,
    calibration_file,
    calibration_key,
    fit_calibration,
    to_json,
)
from tests.support.server import APP_DIR

WEIGHTS = "ab" * 32


@pytest.fixture
def preset() -> Preset:
    return load_preset(APP_DIR / "configs/ct.yaml")


def patients(rng: np.random.Generator, count: int, ways: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Expected and true Dice after one click and after two, the second nearer to the truth; further ways are worse."""
    expected = rng.uniform(0.6, 0.95, (count, ways, 2))
    worse = 0.1 * np.arange(ways)[:, None]
    return expected, np.clip(1.4 * expected - 0.5 + rng.gamma(2, (0.1, 0.02), expected.shape) - 0.1 - worse, 0, 1)


@pytest.mark.parametrize("count", [MIN_PATIENTS, 32])
def test_nine_in_ten_other_patients_reach_the_bound(count: int) -> None:
    rng, held = np.random.default_rng(0), []
    for _ in range(60):
        calibration = fit_calibration("", *patients(rng, count))
        assert calibration is not None and calibration.patients == count
        held.append(reached(calibration, *patients(rng, 40)))
    assert ((np.mean(held, axis=0) > 0.87) & (np.mean(held, axis=0) < 0.96)).all()


def reached(calibration: Calibration, expected: np.ndarray, dice: np.ndarray) -> np.ndarray:
    """(ways, clicks) share of patients that reach the bound; one way is left out of the shape."""
    bounds = [[[calibration.predict(x, n + 1).at_least for n, x in enumerate(row)] for row in one] for one in expected]
    return np.squeeze((dice >= np.array(bounds)).mean(axis=0))


def test_the_bound_holds_for_each_way_to_click() -> None:
    rng = np.random.default_rng(0)
    held = []
    for _ in range(40):
        calibration = fit_calibration("", *patients(rng, 24, ways=2))
        assert calibration is not None and calibration.patients == 24
        held.append(reached(calibration, *patients(rng, 40, ways=2)))
    better, worse = np.mean(held, axis=0)
    assert (better > worse).all() and (worse > 0.87).all()


def test_the_prediction_follows_what_the_network_expects_and_the_number_of_clicks() -> None:
    rng = np.random.default_rng(1)
    calibration = fit_calibration("", *patients(rng, 32))
    assert calibration is not None
    low, high = (calibration.predict(expected, 2) for expected in (0.65, 0.9))
    assert high.dice - low.dice == pytest.approx(1.4 * 0.25, abs=0.05)
    first, second = (calibration.predict(0.8, clicks) for clicks in (1, 2))
    assert first.dice - first.at_least > second.dice - second.at_least
    assert calibration.predict(0.8, 7) == second
    for expected in (0.0, 1.0):
        found = calibration.predict(expected, 1)
        assert 0 <= found.at_least <= found.dice <= 1


def test_where_certainty_misleads_it_is_not_followed() -> None:
    rng = np.random.default_rng(2)
    expected = rng.uniform(0.6, 0.95, (24, 1, 1))
    calibration = fit_calibration("", expected, 1 - expected)
    assert calibration is not None and calibration.lines[0].slope == 0
    assert calibration.predict(0.1, 1) == calibration.predict(0.9, 1)


def test_too_few_patients_predict_nothing() -> None:
    assert fit_calibration("", *patients(np.random.default_rng(0), MIN_PATIENTS - 1)) is None


def test_what_is_said_promises_no_more_than_was_found() -> None:
    said = Calibration("", 24, (Line(0.8161, 0, 0.0972),)).predict(0.5, 1).to_json()
    assert said == {"dice": 0.82, "at_least": 0.71, "share": 0.9, "patients": 24}


def keep(folder: Path, calibration: Calibration, weights: str = WEIGHTS) -> Path:
    path = calibration_file(folder, weights)
    path.parent.mkdir(exist_ok=True)
    path.write_text(to_json(calibration), encoding="utf-8")
    return path


def test_it_counts_for_one_version_preset_and_release(
    tmp_path: Path, preset: Preset, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Calibration(calibration_key(preset, WEIGHTS), 24, (Line(0.1, 0.8, 0.1),))
    assert Calibrations(None, preset).of(WEIGHTS) is None and Calibrations(tmp_path, preset).of(WEIGHTS) is None
    keep(tmp_path, made)
    assert Calibrations(tmp_path, preset).of(WEIGHTS) == made
    moved = preset.with_weights(tmp_path / "elsewhere.safetensors")
    assert Calibrations(tmp_path, moved).of(WEIGHTS) == made
    # Other weights, though the file were theirs; another zoom; another release.
    keep(tmp_path, made, "cd" * 32)
    assert Calibrations(tmp_path, preset).of("cd" * 32) is None
    roi = dataclasses.replace(preset.roi, large_share=0.3)
    changed = dataclasses.replace(preset, settings=dataclasses.replace(preset.settings, roi=roi))
    assert Calibrations(tmp_path, changed).of(WEIGHTS) is None
    monkeypatch.setattr(predicted_dice, "__version__", "0.0.0")
    assert Calibrations(tmp_path, preset).of(WEIGHTS) is None


def test_a_new_one_is_read_and_a_damaged_one_is_not_used(
    tmp_path: Path, preset: Preset, caplog: pytest.LogCaptureFixture
) -> None:
    calibrations, key = Calibrations(tmp_path, preset), calibration_key(preset, WEIGHTS)
    for number in (24, 32):
        made = Calibration(key, number, (Line(0.1, 0.8, 0.1),))
        path = keep(tmp_path, made)
        path.rename(tmp_path / "new")  # as a whole file takes the place of another
        (tmp_path / "new").rename(path)
        assert calibrations.of(WEIGHTS) == made
        path.rename(tmp_path / f"{number}")
    for text in ("{", "[]", '{"key": "", "patients": 24, "lines": []}', to_json(made).replace("0.8", "NaN")):
        path.write_text(text, encoding="utf-8")
        assert Calibrations(tmp_path, preset).of(WEIGHTS) is None
        assert "cannot be read" in caplog.text
        caplog.clear()
