"""The segmenter of networks that see a cube: it zooms, corrects around each click, enforces clicks and refines."""

import math

import numpy as np
import torch
from numpy.typing import NDArray

from lib.answer_warnings import answer_warning
from lib.geometry.click_influence import Floats, Mask
from lib.geometry.paste import LogitPatch, correct_mask, paste_patches
from lib.geometry.roi import Roi
from lib.geometry.tiles import NEAREST
from lib.prompts.click import Click
from lib.prompts.mask import MASK_WITHOUT_CLICK
from lib.prompts.prompts import Prompts
from lib.prompts.reading import BoxError, ClickError, PromptError
from lib.segmenters.cache import SegmenterCache
from lib.segmenters.contract import Capabilities, LoadedModel, Options, Segmentation, Stages
from lib.segmenters.roi.features import image_features
from lib.segmenters.roi.initial_prediction import initial_prediction
from lib.segmenters.roi.interaction import answer_interaction
from lib.segmenters.roi.prediction import RoiPredictions
from lib.segmenters.roi.predictor import Predictor
from lib.segmenters.roi.pseudo_click import centre_of_box, deepest
from lib.segmenters.roi.refine import refine_mask
from lib.segmenters.roi.settings import RoiNetworkSettings
from lib.segmenters.roi.zoom import ZoomedPrediction
from lib.volumes.volume import Volume

BOX_NOT_READ = (
    "The weights of this preset do not read boxes: the box chose the region and bounds the mask, but the network did "
    "not see it."
)
CENTRE_TAKEN = (
    "No foreground click: the box's centre {ijk} was shown to the network as one, and is in the mask only if the "
    "network put it there."
)
PLACE_TAKEN = (
    "No foreground click: voxel {ijk} of the mask to start from was shown to the network as one, and stays in the mask "
    "only if the network leaves it there."
)
UNSURE = (
    "The network is unsure of this mask: by its own probabilities Dice is {expected:.2f}; below {least:.2f} most masks "
    "are poor. Check it, click on what is missing, or undo the click and set it in the middle of the structure."
)
UNSURE_BELOW = 0.8
"""Expected Dice of a first answer below which it is warned of. How often that is right:
docs/experiments/any-structure.md."""


class RoiSegmenter:
    """Answers prompts with a network that sees one region of interest at a time.

    Args:
        loaded: a `RoiNetwork`.
        settings: of its preset.
        label: name of the one structure that it segments.
        cache: of the process.
        precision: one of ``lib.models.precision.PRECISIONS``.
    """

    def __init__(
        self, loaded: LoadedModel, settings: RoiNetworkSettings, label: str, cache: SegmenterCache, precision: str
    ) -> None:
        self._settings, self._label, self._cache = settings, label, cache
        self._predictor = Predictor(loaded, cache, precision)

    @property
    def capabilities(self) -> Capabilities:
        """They follow from the weights."""
        read = {"click"}
        if self._predictor.takes_box:
            read.add("box")
        if self._predictor.takes_previous:
            read.add("mask")
        return Capabilities(frozenset(read), self._predictor.takes_background, sees="region")

    @property
    def precision(self) -> str:
        """The number type that it computes in."""
        return self._predictor.precision

    def segment(self, image: Volume, prompts: Prompts, options: Options, stages: Stages) -> Segmentation:
        """As `Segmenter.segment`.

        Raises:
            ClickError: no click, box or mask; foreground clicks too far apart.
            BoxError: clicks that contradict the box.
            PromptError: a mask without a click, or with clicks too far from it.
        """
        with stages.time("load"):
            pseudo, warnings = self._pseudo_click(image, prompts)
        roi, intensity = self._settings.roi, self._settings.intensity
        clicks, start, threshold = prompts.clicks, prompts.mask, options.threshold
        predictions = RoiPredictions(image, self._predictor, self._cache, intensity, stages)
        initial = initial_prediction(predictions, roi, clicks, threshold, pseudo=pseudo, box=prompts.box, start=start)
        result = answer_interaction(predictions, roi, initial, clicks, threshold)
        with stages.time("paste"):
            mask = _pasted(result.patches, None if start is None else start.mask, clicks, threshold)
            expected = None if start is not None else expected_dice(result.logit, threshold)
            if result.initial.first is not None and len(result.patches) == 1:
                warnings += _warn_if_unsure(result.initial.first, threshold)
        refined = None
        if options.refine:
            fine, refined = refine_mask(
                predictions, roi, result.initial, result.patches, mask.view(np.bool_), clicks, threshold
            )
            mask = fine.view(np.uint8)
        return Segmentation(
            mask=mask,
            labels={self._label: 1},
            used=prompts,
            obeyed=tuple(result.obeyed[click] for click in clicks),
            pseudo_click=pseudo,
            expected_dice=expected,
            encodes=predictions.encodes,
            decodes=predictions.decodes,
            details={"roi": _describe(result.initial.roi, roi.axes), "refined": refined},
            warnings=tuple(warnings),
        )

    def features(self, image: Volume) -> NDArray[np.float32] | None:
        """As `FeatureSegmenter.features`."""
        return image_features(image, self._predictor, self._settings)

    def _pseudo_click(self, image: Volume, prompts: Prompts) -> tuple[Click | None, list[str]]:
        """What the network is shown as a foreground click where the user set none, and what he should know."""
        pseudo, warnings = None, []
        box, start = prompts.box, prompts.mask
        if start is not None:
            if "mask" not in self.capabilities.prompts:
                raise PromptError("The weights of this preset read no earlier mask; leave it out.")
            if not prompts.clicks:
                raise PromptError(MASK_WITHOUT_CLICK)
            if not prompts.foreground:
                reach_mm = NEAREST * self._settings.roi.size * self._settings.roi.spacing_mm
                pseudo = deepest(start.mask, image.affine, prompts.clicks[:1], reach_mm)
                if pseudo is None:
                    raise PromptError(
                        f"Background click {list(prompts.clicks[0].ijk)} is more than {reach_mm:.0f} mm from the "
                        "mask to start from, which it cannot correct there. Click where the mask is wrong."
                    )
                warnings.append(answer_warning("pseudo-click", PLACE_TAKEN.format(ijk=list(pseudo.ijk))))
        if box is not None:
            if "box" not in self.capabilities.prompts:
                warnings.append(answer_warning("box-not-read", BOX_NOT_READ))
            for click in prompts.foreground:
                if not box.holds(click):
                    raise BoxError(
                        f"Foreground click {list(click.ijk)} lies outside the box from {list(box.first)} to "
                        f"{list(box.last)}; all of them are expected inside. Remove the click, or draw the box around "
                        "the whole structure."
                    )
            if not prompts.foreground and pseudo is None:
                pseudo = centre_of_box(box, prompts.background)
                warnings.append(answer_warning("pseudo-click", CENTRE_TAKEN.format(ijk=list(box.centre))))
        if not prompts.foreground and box is None and start is None:
            raise ClickError("A foreground click, a box or a mask is needed; got none. Click on the structure.")
        return pseudo, warnings


def expected_dice(logit: Floats, threshold: float) -> float:
    """The expected Dice of the mask of a logit (D, H, W), as if its probabilities were right and independent.

    That is 2 E[overlap] / (voxels of the mask + E[voxels of the structure]).
    """
    inside = logit > math.log(threshold / (1 - threshold))
    probability = torch.from_numpy(logit).sigmoid().numpy()
    return float(2 * probability[inside].sum() / (np.count_nonzero(inside) + probability.sum()))


def _warn_if_unsure(first: ZoomedPrediction, threshold: float) -> list[str]:
    """The warning where the probabilities themselves let expect a poor mask; none where the mask is empty."""
    logit = first.logit.numpy()
    expected = expected_dice(logit, threshold)
    voxels = np.count_nonzero(logit > math.log(threshold / (1 - threshold)))
    if voxels <= len(first.clicks) or expected >= UNSURE_BELOW:
        return []
    return [answer_warning("unsure", UNSURE.format(expected=expected, least=UNSURE_BELOW))]


def _pasted(
    patches: tuple[LogitPatch, ...], start: Mask | None, clicks: tuple[Click, ...], threshold: float
) -> NDArray[np.uint8]:
    """The mask (i, j, k), 0 and 1; interpolation between the grids must not change the clicked voxels."""
    mask = paste_patches(patches, threshold) if start is None else correct_mask(patches, start)
    for click in clicks:
        mask[click.ijk] = click.is_foreground
    return mask


def _describe(roi: Roi, axes: str) -> dict[str, object]:
    """The first region, for the answer. Its centre is the voxel on which it was placed."""
    centre_dhw = np.array([[length // 2 for length in roi.size_dhw]], dtype=float)
    return {
        "centre_ijk": _rounded(roi.dhw_to_ijk(centre_dhw)),
        "centre_ras_mm": _rounded(roi.dhw_to_mm(centre_dhw)),
        "size_dhw": list(roi.size_dhw),
        "spacing_mm": roi.spacing_mm,
        "axes": axes,
    }


def _rounded(points: NDArray[np.float64]) -> list[float]:
    return [round(float(value), 3) for value in np.ravel(points)]
