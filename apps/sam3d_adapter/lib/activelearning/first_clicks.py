"""Simulated first clicks on what the model itself finds in an image: how well it would answer a user there.

Nobody has labelled the image, so the model clicks where the structure usually lies, and its answer stands for the
structure.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from lib.annotations.usual_place import LEAST_LABELS, voxel_at
from lib.evaluation.metrics import dice
from lib.evaluation.simulated_user import SimulatedUser
from lib.geometry.axes import Array, spacing_of
from lib.prompts.click import Click
from lib.prompts.prompts import Prompts
from lib.segmenters.contract import Segmentation
from lib.serving.predicted_dice import Calibration
from lib.serving.preset_segmenter import OpenSegmenter
from lib.volumes.volume import Volume
from lib.workflow.scores import WHOLE, Score

LEAST_VOXELS = 8
"""Smaller masks are the clicked voxel and what clings to it."""
CLICKS = 4
"""Each anywhere in what was found."""


@dataclass(frozen=True)
class FirstClicks:
    """What the answers to first clicks on one structure of one image say.

    Attributes:
        size_mm3: volume of what was found; 0 where nothing was.
        agreement: mean Dice between the masks of two clicks; NaN where nothing was found.
        expected: by click, the Dice that the network's own probabilities let expect; NaN where it gives none.
    """

    size_mm3: float
    agreement: float = math.nan
    expected: tuple[float, ...] = ()

    @property
    def is_found(self) -> bool:
        """Whether there is anything to click on."""
        return self.size_mm3 > 0

    def error(self, calibration: Calibration | None) -> float:
        """Predicted error, 0 to 1: what the predicted Dice and the agreement of the masks lack to 1, their mean.

        A network that gives no probabilities is judged by the agreement alone.

        Args:
            calibration: of the version that answered; without one, Dice is taken as the network expects it.
        """
        dices = [calibration.predict(one, 1).dice if calibration else one for one in self.expected]
        known = [float(np.mean(dices))] if np.isfinite(dices).all() else []
        return 1 - float(np.mean([*known, self.agreement]))

    def numbers(self) -> NDArray[np.float32]:
        """For `Score.numbers`."""
        return np.array([self.size_mm3, self.agreement, *self.expected], "<f4")

    @classmethod
    def of_numbers(cls, numbers: bytes) -> "FirstClicks | None":
        """From `Score.numbers`; None of an image that could not be scored."""
        size, agreement, *expected = np.frombuffer(numbers, "<f4").tolist() or [math.nan] * 2
        return None if math.isnan(size) else cls(size, agreement, tuple(expected))


def first_clicks(image_id: str, image: Volume, place: Array, segmenter: OpenSegmenter) -> FirstClicks:
    """Clicks on what is found at a place; the same clicks for the same image, place and weights.

    Args:
        image_id: seeds the clicks.
        image: the whole image.
        place: from `lib.annotations.usual_place`.
        segmenter: with one version of the weights.

    Raises:
        ImageError: an image without contrast.
    """

    def answer(voxel: Sequence[int]) -> Segmentation:
        i, j, k = voxel
        return segmenter.segment(image, Prompts((Click((i, j, k)),)))

    found = answer(voxel_at(place, image.voxels.shape, image.affine)).mask > 0
    if np.count_nonzero(found) < LEAST_VOXELS:
        return FirstClicks(0.0)
    spacing = spacing_of(image.affine)
    users = [SimulatedUser(found, spacing.tolist(), "random", seed, image_id) for seed in range(CLICKS)]
    answers = [answer(user.first_clicks()[0].ijk) for user in users]
    agreement = np.mean([dice(one.mask > 0, other.mask > 0) for one, other in combinations(answers, 2)])
    expected = [math.nan if one.expected_dice is None else one.expected_dice for one in answers]
    return FirstClicks(float(np.count_nonzero(found) * np.prod(spacing)), float(agreement), tuple(expected))


def found_clicks(scores: Mapping[str, Mapping[str, Score]]) -> dict[str, dict[str, FirstClicks]]:
    """By structure and image id, the clicks where something was found; no structure without an image.

    Args:
        scores: by structure and image id.
    """
    found: dict[str, dict[str, FirstClicks]] = {}
    for structure, by_image in scores.items():
        for image, score in by_image.items() if structure != WHOLE else ():
            clicks = FirstClicks.of_numbers(score.numbers)
            if clicks is not None and clicks.is_found:
                found.setdefault(structure, {})[image] = clicks
    return found


def unclicked(
    scores: Mapping[str, Mapping[str, Score]], images: Sequence[str], unlabelled: Sequence[str]
) -> set[tuple[str, int]]:
    """Images on which no click was tried, each with the number of labels, since each label may show a place.

    Args:
        scores: by structure and image id.
        images: all.
        unlabelled: those without a label.
    """
    labels = len(images) - len(unlabelled)
    known = {image for structure, by_image in scores.items() if structure != WHOLE for image in by_image}
    return {(image, labels) for image in unlabelled if image not in known} if labels >= LEAST_LABELS else set()
