"""How good the served version is on the images that nobody has labelled: predicted, for the page of versions."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from lib.files.atomic_write import replacing
from lib.learning.arms import read_arms
from lib.registry.versions import Versions
from lib.serving.predicted_dice import Calibration, least_squares

POOL_QUALITY = "pool_quality.json"
DRAWS = 1000
OUTSIDE = 0.05
"""Of the interval."""


@dataclass(frozen=True)
class PoolQuality:
    """Mean Dice of the answers to one click, as it is predicted for images without a label.

    Attributes:
        version: id, or ``shipped``.
        mean: over images.
        low: lower end of its 95 % interval.
        high: upper end.
        images: in which the version finds a labelled structure.
        unlabelled: all that were looked at.
        patients: of the calibration.
    """

    version: str
    mean: float
    low: float
    high: float
    images: int
    unlabelled: int
    patients: int

    @property
    def sentence(self) -> str:
        """For the page of versions."""
        return (
            f"Images without a label: Dice of {self.version} after one click is predicted {self.mean:.2f} on average "
            f"(95 % interval {self.low:.2f} to {self.high:.2f}), from {self.patients} labelled patients, on the "
            f"{self.images} of {self.unlabelled} images in which it finds a labelled structure."
        )


def pool_quality(
    calibration: Calibration, version: str, expected: Sequence[float], unlabelled: int
) -> PoolQuality | None:
    """Predicts the mean Dice of a pool; None where there is nothing to predict it from.

    The interval is a bootstrap: the patients of the calibration are drawn anew, the line is laid anew, and each image
    differs from it as one of those patients differs from their mean. What a patient lacks to the line would be too
    little: where a user clicks tells more of his Dice than where the model clicks by itself. Drawn anew, n patients
    spread too little, by sqrt((n - 2) / n) behind a line, and too few lie far out; Student's t says by how much.

    Args:
        calibration: of the version.
        version: its id.
        expected: by image, the mean Dice that the network's own probabilities let expect after one click.
        unlabelled: how many images were looked at.
    """
    first, x = np.array(calibration.first), np.array(expected)
    if not first.size or not x.size or not np.isfinite(x).all():
        return None
    rng = np.random.default_rng(0)
    own = first[rng.integers(len(first), size=(DRAWS, len(first)))]  # (draws, patients, ways, 2)
    _, slopes = least_squares(own[..., 0], own[..., 1])
    away = float(x.mean() - first[..., 0].mean())
    dice = own[..., 1].mean(axis=2)  # (draws, patients)
    drawn = np.take_along_axis(dice, rng.integers(len(first), size=(DRAWS, len(x))), axis=1)
    means = slopes * away + drawn.mean(axis=1)
    intercept, slope = least_squares(first[..., 0], first[..., 1])
    mean = float(intercept + slope * x.mean())
    free = len(first) - 2
    wider = np.sqrt(len(first) / free) * stats.t.ppf(1 - OUTSIDE / 2, free) / stats.norm.ppf(1 - OUTSIDE / 2)
    ends = mean + wider * (np.quantile(means, (OUTSIDE / 2, 1 - OUTSIDE / 2)) - mean)
    mean, low, high = (float(value) for value in np.clip([mean, *ends], 0, 1))
    return PoolQuality(version, mean, low, high, len(x), unlabelled, calibration.patients)


def write_pool_quality(folder: Path, quality: PoolQuality | None) -> None:
    """Keeps it in place of an earlier one; none makes the pages silent.

    Args:
        folder: of the preset's versions.
        quality: of the version that is served.

    Raises:
        OSError: it cannot be written.
    """
    file = folder / POOL_QUALITY
    if quality is None:
        file.unlink(missing_ok=True)
        return
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(file) as partial:
        partial.write_text(json.dumps(asdict(quality), indent=1) + "\n", encoding="utf-8")


def read_pool_quality(folder: Path, version: str) -> PoolQuality | None:
    """What was kept last; None where it is of another version, or damaged.

    Args:
        folder: of the preset's versions.
        version: that is served now.
    """
    try:
        found = PoolQuality(**json.loads((folder / POOL_QUALITY).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return found if found.version == version else None


def about_unlabelled(versions: Versions) -> list[str]:
    """Sentences for the page of versions: how good the served one is on images without a label, and what choosing gave.

    Args:
        versions: of the preset.
    """
    quality = read_pool_quality(versions.folder, versions.known_state().served)
    said = [quality.sentence] if quality else []
    return said + [arms.sentence for arms in read_arms(versions.folder)]
