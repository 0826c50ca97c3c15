"""The Dice that an answer is predicted to have, learned from labelled patients whom its weights never saw.

For each number of clicks there is a line from the Dice that the network's own probabilities let expect to the true one,
and a margin below it: the conformal quantile of what was lacking where each patient in turn was left out of the line.
Of several ways to click, the one that gave a patient least counts, so that the bound holds for each of them.
How often that holds: docs/experiments/predicted-dice.md.
"""

import dataclasses
import hashlib
import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lib.presets import Preset
from lib.version import __version__

logger = logging.getLogger(__name__)

FOLDER = "calibration"
"""Of a preset's versions."""
MIN_PATIENTS = 20
"""With fewer, the bound of one draw of patients often holds for far less than `SHARE` of others."""
SHARE = 0.9
"""Of the answers for patients like those of the calibration, which are to be at least as good as the bound."""


@dataclass(frozen=True)
class Line:
    """The prediction after one number of clicks.

    Attributes:
        intercept: Dice where the expected one is 0.
        slope: at least 0.
        margin: of the bound below the prediction.
    """

    intercept: float
    slope: float
    margin: float


@dataclass(frozen=True)
class PredictedDice:
    """What is said of an answer.

    Attributes:
        dice: predicted.
        at_least: Dice that `SHARE` of the answers for such patients reach.
        patients: of the calibration.
    """

    dice: float
    at_least: float
    patients: int

    def to_json(self) -> dict[str, float | int]:
        """For the answer, rounded; the bound downwards."""
        return {
            "dice": round(self.dice, 2),
            "at_least": math.floor(100 * self.at_least) / 100,
            "share": SHARE,
            "patients": self.patients,
        }


@dataclass(frozen=True)
class Calibration:
    """The predictions of one version of the weights with one preset.

    Attributes:
        key: see `calibration_key`.
        patients: whom it was learned from; at least `MIN_PATIENTS`.
        lines: after one click, after two, and so on; the last one counts for all further clicks.
        first: by patient and way to click, expected and true Dice after one click, for `lib.learning.pool_quality`.
    """

    key: str
    patients: int
    lines: tuple[Line, ...]
    first: tuple[tuple[tuple[float, float], ...], ...] = ()

    def predict(self, expected: float, clicks: int) -> PredictedDice:
        """The Dice of an answer.

        Args:
            expected: Dice that the network's own probabilities let expect.
            clicks: of both kinds, at least one.
        """
        line = self.lines[min(clicks, len(self.lines)) - 1]
        dice = min(line.intercept + line.slope * expected, 1.0)
        bound = min(dice - line.margin, 1.0)
        return PredictedDice(max(dice, 0.0), max(bound, 0.0), self.patients)


def fit_calibration(key: str, expected: ArrayLike, dice: ArrayLike) -> Calibration | None:
    """Learns from answers of which the truth is known; None with fewer than `MIN_PATIENTS` patients.

    Args:
        key: see `calibration_key`.
        expected: (patients, ways, clicks) Dice that the network's own probabilities let expect, for each way to click.
        dice: (patients, ways, clicks), true.
    """
    x, y = np.asarray(expected, float), np.asarray(dice, float)
    if len(x) < MIN_PATIENTS:
        return None
    lines = tuple(_line(x[..., n], y[..., n]) for n in range(x.shape[-1]))
    first = np.stack([x[..., 0], y[..., 0]], axis=-1).tolist()
    return Calibration(key, len(x), lines, tuple(tuple(map(tuple, ways)) for ways in first))


def _line(x: np.ndarray, y: np.ndarray) -> Line:
    n = len(x)
    lacking = []
    for left_out in range(n):
        others = np.arange(n) != left_out
        intercept, slope = least_squares(x[others], y[others])
        lacking.append(float((np.minimum(intercept + slope * x[left_out], 1.0) - y[left_out]).max()))
    rank = math.ceil(SHARE * (n + 1))  # at most n from 9 patients on
    intercept, slope = least_squares(x, y)
    return Line(float(intercept), float(slope), float(np.sort(lacking)[rank - 1]))


def least_squares(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(...) intercepts and slopes; more certainty never means a worse answer, so that a slope is at least 0.

    Args:
        x: (..., patients, ways).
        y: (..., patients, ways).
    """
    points = (-2, -1)
    spread = x - x.mean(axis=points, keepdims=True)
    slope = np.maximum((spread * y).sum(axis=points) / np.maximum((spread**2).sum(axis=points), 1e-9), 0.0)
    return y.mean(axis=points) - slope * x.mean(axis=points), slope


def calibration_key(preset: Preset, weights_sha256: str) -> str:
    """Identifies all that an answer depends on but for image and prompts: preset, weights and release.

    Args:
        preset: of the task; which file its weights are in does not matter.
        weights_sha256: of the version.
    """
    plain = dataclasses.replace(preset, model=dataclasses.replace(preset.model, files=()))
    return hashlib.sha256(f"{plain.sha256()} {weights_sha256} {__version__}".encode()).hexdigest()


def calibration_file(folder: Path, weights_sha256: str) -> Path:
    """Where the calibration of a version is kept.

    Args:
        folder: of the preset's versions.
        weights_sha256: of the version.
    """
    return folder / FOLDER / f"{weights_sha256[:16]}.json"


def to_json(calibration: Calibration) -> str:
    """The text of the file."""
    return json.dumps(dataclasses.asdict(calibration), indent=1) + "\n"


class Calibrations:
    """Reads the calibrations of a preset, each once as long as its file stays.

    Args:
        folder: of the preset's versions; None where there are none.
        preset: of the task.
    """

    def __init__(self, folder: Path | None, preset: Preset) -> None:
        self._folder, self._preset = folder, preset
        self._read: Mapping[str, tuple[tuple[int, int], Calibration | None]] = {}

    def of(self, weights_sha256: str) -> Calibration | None:
        """That of a version; None where there is none, or where it was made with other settings."""
        if self._folder is None:
            return None
        path = calibration_file(self._folder, weights_sha256)
        try:
            stat = path.stat()
        except OSError:
            return None
        signature = (stat.st_ino, stat.st_mtime_ns)
        known = self._read.get(weights_sha256)
        if known is None or known[0] != signature:
            known = (signature, self._load(path, weights_sha256))
            self._read = {weights_sha256: known}
        return known[1]

    def _load(self, path: Path, weights_sha256: str) -> Calibration | None:
        try:
            found = _parsed(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, KeyError) as error:
            logger.error("Preset %s: a calibration cannot be read (%s).", self._preset.name, error)
            return None
        return found if found.key == calibration_key(self._preset, weights_sha256) else None


def _parsed(content: Mapping[str, Any]) -> Calibration:
    lines: Sequence[Mapping[str, float]] = content["lines"]
    first = tuple(tuple((float(x), float(y)) for x, y in ways) for ways in content.get("first", ()))
    found = Calibration(str(content["key"]), int(content["patients"]), tuple(Line(**line) for line in lines), first)
    numbers = [value for line in found.lines for value in dataclasses.astuple(line)]
    numbers += [value for ways in first for pair in ways for value in pair]
    if not numbers or found.patients < MIN_PATIENTS or not all(map(math.isfinite, numbers)):
        raise ValueError("it holds no usable lines")
    return found
