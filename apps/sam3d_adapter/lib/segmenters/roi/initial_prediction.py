"""What the clicks of an interaction correct: the network's initial prediction, or a mask that the user started from."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

from lib.geometry.roi import Roi, roi_at
from lib.prompts.box import Box
from lib.prompts.click import Click, on_structure
from lib.prompts.mask import MaskPrompt
from lib.segmenters.roi.prediction import RoiPredictions
from lib.segmenters.roi.settings import RoiSettings
from lib.segmenters.roi.zoom import (
    ZoomedPrediction,
    predict_anew,
    predict_box,
    predict_first_click,
    require_within_reach,
    roi_of_box,
)


@dataclass(frozen=True)
class InitialPrediction:
    """The state before the further clicks of an interaction.

    Attributes:
        roi: the first region of all corrections; they lie on its grid.
        key: identifies all that the answer depends on, except for the further clicks.
        box: around the structure.
        is_pseudo: whether the first click is not the user's.
        first: the answer to the first click, or to all foreground clicks up to one that opened it anew; None with a
            mask prompt.
        start: the mask prompt.
    """

    roi: Roi
    key: Hashable
    box: Box | None
    is_pseudo: bool = False
    first: ZoomedPrediction | None = None
    start: MaskPrompt | None = None

    @property
    def told(self) -> tuple[Click, ...]:
        """The clicks that were answered; none with a mask prompt, which all clicks correct."""
        return () if self.first is None else self.first.clicks

    @property
    def regions(self) -> frozenset[Hashable]:
        """Keys of the regions that were predicted."""
        return frozenset() if self.first is None else self.first.regions


def initial_prediction(
    predictions: RoiPredictions,
    settings: RoiSettings,
    clicks: Sequence[Click],
    threshold: float,
    *,
    pseudo: Click | None = None,
    box: Box | None = None,
    start: MaskPrompt | None = None,
) -> InitialPrediction:
    """Predicts what the clicks correct, or takes it from the cache.

    Args:
        predictions: of the image.
        settings: size, axes and spacings of the zoom levels.
        clicks: of the user, foreground clicks first.
        threshold: foreground probability.
        pseudo: stands for the first foreground click where there is none.
        box: around the structure.
        start: mask that the clicks correct.

    Raises:
        ClickError: foreground clicks farther apart than the widest region is wide; not with a mask prompt.
    """
    if start is not None:
        key: Hashable = ("start", predictions.key, settings, start.hash, box, threshold)
        return InitialPrediction(_roi_of_mask(predictions, settings, start, box), key, box, start=start)
    head = clicks[0] if pseudo is None else pseudo
    require_within_reach((head, *on_structure(clicks)), predictions.volume, settings)
    is_pseudo = pseudo is not None
    key = ("first", predictions.key, settings, head, is_pseudo, box, threshold)
    first: ZoomedPrediction | None = predictions.cache.get(key)
    if first is None:
        if box is None:
            first = predict_first_click(predictions, settings, head, threshold)
        else:
            first = predict_box(predictions, settings, box, head, threshold, is_pseudo=is_pseudo)
        predictions.cache.put(key, first)
    return InitialPrediction(first.roi, key, box, is_pseudo, first)


def opened_anew(
    predictions: RoiPredictions,
    settings: RoiSettings,
    initial: InitialPrediction,
    clicks: tuple[Click, ...],
    regions: frozenset[Hashable],
    threshold: float,
) -> InitialPrediction:
    """The initial prediction of all clicks together, see `predict_anew`; the same one where that does not open it.

    Args:
        predictions: of the image.
        settings: size, axes and spacings of the zoom levels.
        initial: the answer to one or several clicks.
        clicks: foreground clicks so far; the last one lies far outside the answer.
        regions: keys of the regions that were predicted for them so far.
        threshold: foreground probability.
    """
    assert initial.first is not None  # a mask prompt is not opened
    key = ("anew", initial.key, clicks)
    first: ZoomedPrediction | None = predictions.cache.get(key)
    if first is None:
        first = predict_anew(predictions, settings, clicks, threshold, replace(initial.first, regions=regions))
        predictions.cache.put(key, first)
    return initial if first.clicks == initial.told else InitialPrediction(first.roi, key, None, first=first)


def _roi_of_mask(predictions: RoiPredictions, settings: RoiSettings, start: MaskPrompt, box: Box | None) -> Roi:
    """A region that no click moves, so that none moves what others changed."""
    if box is not None:
        return roi_of_box(predictions.volume, settings, box, Click(box.centre))
    shape, affine = predictions.volume.voxels.shape, predictions.volume.affine
    return roi_at(start.centre, shape, affine, settings.size, settings.spacing_mm, settings.axes)
