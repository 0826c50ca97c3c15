"""Clicks on a mask that was started from, with networks whose answer is known: they change what they ask for alone."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from lib.geometry import click_influence
from lib.geometry.paste import mask_logit
from lib.geometry.roi import Roi
from lib.prompts.click import Click
from lib.prompts.mask import MaskPrompt
from lib.segmenters.cache import SegmenterCache
from lib.segmenters.contract import Stages
from lib.segmenters.roi.correction import START_LEAST_MM
from lib.segmenters.roi.initial_prediction import initial_prediction
from lib.segmenters.roi.interaction import answer_interaction
from lib.segmenters.roi.segmenter import _pasted
from lib.segmenters.roi.settings import RoiSettings
from lib.volumes.volume import make_volume
from tests.support.geometry import make_affine

SHAPE, SPACING = (60, 50, 40), np.array([0.9, 1.0, 1.2])
GRID = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1)
AFFINE = make_affine("PIR", (0.9, 1.0, 1.2), (20, -12, 15))
VOLUME = make_volume(np.zeros(SHAPE, np.int16), AFFINE, "image")
SETTINGS = RoiSettings(size=64, spacing_mm=1.0, axes="SAR", wider_spacings_mm=())
RESOLVED_MM = 2.0
"""Of the network's grid: within it of a border it may be resolved otherwise."""


def ball(centre: tuple[int, int, int], radius: float) -> np.ndarray:
    return np.asarray(((GRID - np.array(centre)) ** 2).sum(-1) <= radius**2)


def distance_mm(ijk: tuple[int, int, int]) -> np.ndarray:
    return np.asarray(np.linalg.norm((GRID - np.array(ijk)) * SPACING, axis=-1))


BODY = ball((25, 25, 20), 12)
LEAK = ball((38, 25, 20), 6)
EVERYTHING, NOTHING = np.ones(SHAPE, bool), np.zeros(SHAPE, bool)


class Says:
    """What `RoiPredictions` is to an interaction, but for the network: it predicts one mask, whatever was clicked."""

    def __init__(self, answer: np.ndarray) -> None:
        self.volume, self.stages, self.cache, self.key = VOLUME, Stages(), SegmenterCache(10**9), "says"
        self._answer = answer
        self.asked: list[tuple[Sequence[Click], Tensor]] = []

    def known(self, roi: Roi, clicks: Sequence[Click]) -> list[Click]:
        return [click for click in clicks if roi.holds(click)]

    def __call__(self, roi: Roi, clicks: Sequence[Click], previous: Tensor, box: None) -> Tensor:
        self.asked.append((tuple(clicks), previous))
        foreground = mask_logit(self._answer, roi)
        return torch.stack([torch.zeros_like(foreground), foreground])


def corrected(start: np.ndarray, predicted: np.ndarray, *clicks: Click, threshold: float = 0.5) -> np.ndarray:
    predictions = Says(predicted)
    started = MaskPrompt(start, "upload", 1, "start")
    initial = initial_prediction(predictions, SETTINGS, clicks, threshold, start=started)  # type: ignore[arg-type]
    answer = answer_interaction(predictions, SETTINGS, initial, clicks, threshold)  # type: ignore[arg-type]
    return _pasted(answer.patches, start, clicks, threshold) != 0


@pytest.mark.parametrize("threshold", [0.5, 0.95])
def test_a_background_click_takes_the_leak_and_nothing_else(threshold: float) -> None:
    """The answer is smaller all around, and adds something elsewhere: only the leak was clicked on."""
    answer = ball((25, 25, 20), 10) | ball((25, 45, 35), 3)
    found = corrected(BODY | LEAK, answer, Click((41, 25, 20), False), threshold=threshold)
    assert not found[41, 25, 20] and (LEAK & found & ~BODY).sum() < 0.5 * (LEAK & ~BODY).sum()
    assert not (found & ~(BODY | LEAK)).any()
    assert found[ball((20, 25, 20), 7)].all()


def test_no_shell_of_a_leak_is_left() -> None:
    """The network's grid resolves the border of a mask otherwise than the image's: it goes all the same."""
    leak = ball((41, 25, 20), 4)
    found = corrected(BODY | leak, BODY, Click((42, 25, 20), False))
    np.testing.assert_array_equal(found, BODY)


@pytest.mark.parametrize("threshold", [0.5, 0.95])
def test_a_foreground_click_adds_what_was_missing_and_takes_nothing(threshold: float) -> None:
    answer = ball((25, 25, 20), 10) | LEAK
    found = corrected(BODY, answer, Click((41, 25, 20)), threshold=threshold)
    assert found[BODY].all() and found[41, 25, 20]
    # Above 0.5 the answer itself is smaller.
    assert (found & LEAK).sum() > (0.85 if threshold == 0.5 else 0.8) * LEAK.sum()
    assert not (found & ~(BODY | ball((38, 25, 20), 7))).any()


@pytest.mark.parametrize("is_foreground", [True, False])
def test_clicks_that_agree_with_the_mask_change_and_ask_nothing(is_foreground: bool) -> None:
    click = Click((25, 25, 20) if is_foreground else (5, 5, 5), is_foreground)
    np.testing.assert_array_equal(corrected(BODY, ball((30, 30, 20), 8), click), BODY)


def test_a_click_where_the_network_sees_nothing_changes_its_voxel() -> None:
    click = Click((25, 45, 35))
    found = corrected(BODY, BODY, click)
    assert (found ^ BODY).sum() == 1 and found[click.ijk]


def test_nothing_changes_beyond_the_reach() -> None:
    far = corrected(NOTHING, EVERYTHING, Click((30, 25, 20)))
    distance, reach = distance_mm((30, 25, 20)), click_influence.FOREGROUND_RADIUS_MM
    assert not far[distance > reach].any() and far[distance <= reach - RESOLVED_MM].all()
    near = corrected(BODY, EVERYTHING, Click((38, 25, 20))) & ~BODY
    distance, least = distance_mm((38, 25, 20)), START_LEAST_MM
    assert not near[distance > least + RESOLVED_MM].any()
    assert near[(distance <= least - RESOLVED_MM) & ~BODY].all()


def test_reaches_of_the_two_kinds_may_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(click_influence, "FOREGROUND_RADIUS_MM", 20.0)
    monkeypatch.setattr(click_influence, "BACKGROUND_RADIUS_MM", 9.0)
    click = (30, 25, 20)
    added = distance_mm(click)[corrected(NOTHING, EVERYTHING, Click(click))]
    assert 20 - RESOLVED_MM < added.max() <= 20
    removed = distance_mm(click)[~corrected(EVERYTHING, NOTHING, Click(click, False))]
    assert 9 - RESOLVED_MM < removed.max() <= 9


def test_a_piece_of_the_mask_that_nobody_clicked_on_stays() -> None:
    other = ball((45, 40, 30), 2)
    found = corrected(BODY | other, BODY | LEAK, Click((41, 25, 20)))
    assert found[other].all() and found[41, 25, 20]


def test_every_click_of_an_interaction_is_local_the_first_foreground_one_too() -> None:
    """A network that would change everything; and what a click did earlier is there afterwards."""
    clicks = [Click((15, 25, 20), False), Click((40, 25, 20)), Click((25, 25, 33)), Click((30, 16, 20), False)]
    before = BODY
    for n in range(1, len(clicks) + 1):
        said = sorted(clicks[:n], key=lambda click: not click.is_foreground)
        after = corrected(BODY, ~BODY, *said)
        assert (before ^ after).any() and distance_mm(clicks[n - 1].ijk)[before ^ after].max() <= 30
        assert all(after[click.ijk] == click.is_foreground for click in said)
        before = after


def test_a_background_click_alone_shows_the_network_a_place_in_the_mask() -> None:
    predictions = Says(BODY)
    click = Click((41, 25, 20), False)
    started = MaskPrompt(BODY | LEAK, "upload", 1, "start")
    initial = initial_prediction(predictions, SETTINGS, [click], 0.5, start=started)  # type: ignore[arg-type]
    answer = answer_interaction(predictions, SETTINGS, initial, [click], 0.5)  # type: ignore[arg-type]
    (((place, told), previous),) = predictions.asked
    assert place.is_foreground and started.mask[place.ijk] and told == click
    torch.testing.assert_close(previous, mask_logit(started.mask, initial.roi))
    assert answer.obeyed == {click: True}
