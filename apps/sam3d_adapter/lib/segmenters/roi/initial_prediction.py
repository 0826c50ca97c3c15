"""What the clicks of an interaction correct: the network's initial prediction, or a mask that the user started from."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from lib.geometry.roi import Roi, roi_at
from lib.prompts.box import Box
from lib.prompts.click import Click, on_structure
from lib.prompts.mask import MaskPrompt
from lib.segmenters.roi.clicked_component import far_outside
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

    A foreground click far outside the answer so far may open it anew: all foreground clicks up to it are shown to the
    network together, at a wider zoom level. Background clicks have no part in that.

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
    foreground = on_structure(clicks)
    require_within_reach((head, *foreground), predictions.volume, settings)
    is_pseudo = pseudo is not None

    def key_of(told: tuple[Click, ...]) -> Hashable:
        return ("first", predictions.key, settings, told, is_pseudo, box, threshold)

    first: ZoomedPrediction | None = predictions.cache.get(key_of((head,)))
    if first is None:
        if box is None:
            first = predict_first_click(predictions, settings, head, threshold)
        else:
            first = predict_box(predictions, settings, box, head, threshold, is_pseudo=is_pseudo)
        predictions.cache.put(key_of((head,)), first)
    for n in range(2, len(foreground) + 1):
        so_far, click = foreground[:n], foreground[n - 1]
        if box is not None or not far_outside(first.logit, first.roi.clicks_to_dhw([click]), threshold):
            continue
        opened: ZoomedPrediction | None = predictions.cache.get(key_of(so_far))
        if opened is None:
            opened = predict_anew(predictions, settings, so_far, threshold, first)
            predictions.cache.put(key_of(so_far), opened)
        first = opened
    return InitialPrediction(first.roi, key_of(first.clicks), box, is_pseudo, first)


def _roi_of_mask(predictions: RoiPredictions, settings: RoiSettings, start: MaskPrompt, box: Box | None) -> Roi:
    """A region that no click moves, so that none moves what others changed."""
    if box is not None:
        return roi_of_box(predictions.volume, settings, box, Click(box.centre))
    shape, affine = predictions.volume.voxels.shape, predictions.volume.affine
    return roi_at(start.centre, shape, affine, settings.size, settings.spacing_mm, settings.axes)
