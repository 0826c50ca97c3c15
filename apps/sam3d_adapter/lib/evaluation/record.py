"""One interaction as one line of ``cases.jsonl``."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lib.evaluation import metrics
from lib.evaluation.cases import Case
from lib.evaluation.image_free_baselines import centred_ellipsoid, ellipsoid_in_box, filled_box
from lib.evaluation.interaction import Trace
from lib.evaluation.simulated_user import Mask, SimulatedUser, clicks_at_once

Record = dict[str, Any]

DATA_HASH = "data_sha256"
TIMES = (
    "encodes",
    "re_encoded",
    "encode_ms",
    "re_encode_ms",
    "click_ms",
    "request_ms",
    "cold_start_ms",
    "peak_memory_mib",
)
"""Keys that differ from run to run, with what caches hold; all others are the same whatever ran beside or before."""


@dataclass(frozen=True)
class ImageFree:
    """Frozen numbers of the image-free baselines.

    Attributes:
        ball_mm: radii of the first and of further balls, mm.
        ellipsoid: semi-axes of the centred ellipsoid as a share of half the image.
    """

    ball_mm: tuple[float, float]
    ellipsoid: float


def facts_of(case: Case) -> Record:
    """What a record says of its case that figures depend on, beside what was asked of the case."""
    source = case.source
    facts = {"patient": source.patient, "dataset": source.dataset, "modality": source.modality, "split": source.split}
    return {**facts, DATA_HASH: case.data_hash}


def make_record(
    case: Case, mode: str, seed: int, model: Mapping[str, str], user: SimulatedUser, trace: Trace
) -> Record:
    """What is kept of an interaction.

    Args:
        case: what was clicked on.
        mode: of the simulated user.
        seed: the same.
        model: ``id`` and ``sha256``, and ``version`` where it is one of the preset's.
        user: knows where a hand slipped.
        trace: what came of it.
    """
    record = {
        "case": case.id,
        **facts_of(case),
        "label": case.value,
        "spacing": list(case.spacing),
        "shape": list(case.shape),
        "object_voxels": case.object_voxels,
        "mode": mode,
        "seed": seed,
        "model": dict(model),
        "clicks": [
            {
                "step": step,
                "ijk": list(click.ijk),
                "intended_ijk": list(click.intended_ijk),
                "positive": click.positive,
            }
            for step, click in trace.clicks
        ],
        "on_other_label": float(np.mean([user.misses(click) for _, click in trace.clicks])),
        "withdrawn": trace.withdrawn,
        "dice": trace.dice,
        "nsd2": trace.nsd2,
        "nsd5": trace.nsd5,
        **_curve(mode, trace),
        "obeyed": trace.obeyed,
        "obeyed_before": trace.obeyed_before,
        "warned": trace.warned,
        "expected_dice": [None if dice is None else round(dice, 6) for dice in trace.expected_dice],
        "far_change": trace.far_change,
        "failed": trace.failed,
        "error": next((error for error in trace.errors if error), None),
        "encodes": list(trace.encodes),
        "re_encoded": [step > 0 and encodes > 0 for step, encodes in enumerate(trace.encodes)],
        "encode_ms": _rounded(trace.encode_ms)[0],
        "re_encode_ms": [None, *_rounded(trace.encode_ms)[1:]],
        "click_ms": _rounded(trace.click_ms),
        "request_ms": _rounded(trace.request_ms),
    }
    return record


def image_free_masks(truth: Mask, image_free: ImageFree) -> dict[str, float]:
    """Dice of the masks that need no click, by name."""
    masks = {
        "centred_ellipsoid": centred_ellipsoid(truth.shape, image_free.ellipsoid),
        "ellipsoid_in_box": ellipsoid_in_box(truth),
        "filled_box": filled_box(truth),
    }
    return {name: metrics.dice(mask, truth) for name, mask in masks.items()}


def failed_trace(user: SimulatedUser, steps: int, problem: str) -> Trace:
    """The trace of an interaction that could not be held: every score is 0, and it stays in every mean."""
    zeros = [0.0] * steps
    none = [None] * steps
    return Trace(
        clicks=[(1, click) for click in user.first_clicks()],
        dice=zeros,
        nsd2=zeros,
        nsd5=zeros,
        failed=[True] * steps,
        errors=[problem] * steps,
        obeyed=zeros,
        obeyed_before=zeros,
        warned=[[]] * steps,
        expected_dice=list(none),
        far_change=list(none),
        encodes=[0] * steps,
        encode_ms=list(none),
        click_ms=list(none),
        request_ms=list(none),
    )


def _curve(mode: str, trace: Trace) -> Record:
    """What is defined over several clicks alone."""
    if clicks_at_once(mode) is not None:
        return {}
    scores, nsd = trace.dice, metrics.counted_nsd(trace.nsd2, trace.dice)
    clicked_at = {step for step, _ in trace.clicks}
    far = [share for share in trace.far_change if share is not None]
    any_drop, large_drop = metrics.drops(scores, [step in clicked_at for step in range(1, len(scores) + 1)])
    return {
        "dsc_auc": metrics.auc(scores),
        "nsd_auc": metrics.auc(nsd),
        "dsc_auc_all": metrics.normalised_auc(scores),
        "nsd_auc_all": metrics.normalised_auc(nsd),
        "noc": {str(target): metrics.number_of_clicks(scores, target) for target in metrics.NOC_TARGETS},
        "drop_rate": any_drop,
        "large_drop_rate": large_drop,
        "far_change_mean": float(np.mean(far)) if far else None,
        "far_change_rate": float(np.mean([share > metrics.FAR_CHANGE_LIMIT for share in far])) if far else None,
    }


def _rounded(times: list[float | None]) -> list[float | None]:
    return [None if time is None else round(time, 2) for time in times]
