"""Scores of a model on fixed regions, for the training curve."""

import resource
from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor

from lib.models.precision import resolve_precision
from lib.training.interaction import InteractionConfig, play
from lib.training.network import Network
from lib.training.state import Point
from lib.training.stream import Batch


def peak_memory_mib(device: torch.device) -> float:
    """Peak memory so far, MiB: allocated on a GPU, or held by the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Autocast of a device to the number type that a precision means there."""
    reduced = resolve_precision(precision, device) is torch.bfloat16
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=reduced)


@torch.no_grad()
def validate(model: Network, batches: Iterable[Batch], interaction: InteractionConfig, precision: str) -> Point:
    """Mean Dice of the first and last answer of the longest interactions, and the share of clicks the last follows.

    Returns:
        ``dice``, ``dice_N`` and ``obeyed``; empty where there are no batches.
    """
    rounds = len(interaction.rounds)
    first: list[float] = []
    final: list[float] = []
    followed: list[float] = []
    for batch in batches:
        device = next(model.parameters()).device
        batch = Batch(*(part.to(device) for part in batch))._replace(clicks_dhw=batch.clicks_dhw[:, :1].to(device))
        with autocast(device, precision):
            answers = play(model, batch, rounds, interaction)
        masks = [logits[:, 1:] > logits[:, :1] for logits, _ in (answers[0], answers[-1])]
        first += [dice(p, t) for p, t in zip(masks[0], batch.truths, strict=True)]
        final += [dice(p, t) for p, t in zip(masks[1], batch.truths, strict=True)]
        prompts = answers[-1][1]
        rows = torch.arange(len(batch.rois))[:, None]
        d, h, w = prompts.clicks_dhw.round().long().clamp(0, batch.rois.shape[-1] - 1).unbind(-1)
        followed += (masks[1][:, 0][rows, d, h, w] == prompts.foreground).float().flatten().tolist()
    if not first:
        return {}
    return {"dice": float(np.mean(first)), f"dice_{rounds}": float(np.mean(final)), "obeyed": float(np.mean(followed))}


def validate_all(
    model: Network, data_sets: Mapping[str, Iterable[Batch]], interaction: InteractionConfig, precision: str
) -> Point:
    """Scores of each data set, as `validate`, and their means, in which each data set counts alike."""
    return mean_scores({name: validate(model, own, interaction, precision) for name, own in data_sets.items()})


def mean_scores(scores: Mapping[str, Point]) -> Point:
    """Means of the scores of several data sets; then, if there are several, those of each, followed by its name."""
    keys = list(dict.fromkeys(key for point in scores.values() for key in point))
    means = {key: float(np.mean([point[key] for point in scores.values() if key in point])) for key in keys}
    if len(scores) < 2:
        return means
    return means | {f"{key} {name}": value for name, point in scores.items() for key, value in point.items()}


def dice(prediction: Tensor, truth: Tensor) -> float:
    """Dice of two boolean masks, 0 if the prediction is empty."""
    return float(2 * (prediction & truth).sum() / (prediction.sum() + truth.sum()).clamp(min=1))
