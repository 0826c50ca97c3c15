"""Trains a small size from nothing, on the volumes of the recipe of the shipped weights: all of the network."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from lib.families.sam2.clip_interactions import ClipInteractions
from lib.families.sam2.clips import LENGTHS, ClipStream
from lib.families.sam2.network import build_network, save_network
from lib.families.sam2.settings import SliceSettings
from lib.families.sam2.sizes import SIZES
from lib.families.sam2.trained_network import TrainedNetwork
from lib.pretraining.pretrain import Pretraining
from lib.pretraining.sources import RecipeError
from lib.training.data_sets import DataSet
from lib.training.distributed import rank, world_size
from lib.training.train import train

WARM_UP_STEPS = 500
REPORT_FACTOR = 4.0
"""Points of the curve are so many times farther apart than the recipe has them: scores of clips take longer."""


def pretrain(size: str, training: Pretraining, device: torch.device) -> None:
    """As `PretrainedFamily.pretrain`.

    Raises:
        RecipeError: weights to start from.
        DataSetError: a data set cannot be trained on.
        MemoryShortageError: it does not fit into memory.
    """
    if training.parent is not None:
        raise RecipeError(f"Size '{size}' is trained from nothing; leave --parent out.")
    config = training.config
    config = replace(
        config,
        peak_lr=SIZES[size].peak_lr,
        warm_up_steps=WARM_UP_STEPS if config.steps is None else min(WARM_UP_STEPS, max(1, config.steps // 10)),
        report_s=REPORT_FACTOR * config.report_s,
    )
    data_sets = [choice.open(training.held_out, validation=False) for choice in training.data_sets]
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        network = TrainedNetwork(build_network(size), size, is_whole=True).to(device)
    training.out.mkdir(parents=True, exist_ok=True)
    stream = _stream(data_sets, size, config.seed, batch=training.batch, part=rank(), parts=world_size())
    validation = {} if rank() else _validation(training, size)
    progress = train(network, ClipInteractions(network, config), stream, validation, config, training.out)
    if rank():
        return
    known = {
        "source": "trained from nothing",
        "data": [f"{len(one.files)} volumes of {one.folder.name}, preset {one.preset.name}" for one in data_sets],
        "seed": config.seed,
        "steps": progress.step,
        "minutes": round(progress.spent_s / 60, 1),
        "curve": progress.curve[-1],
    }
    weights = training.out / f"{size}_{training.name}.safetensors"
    save_network(network.model.cpu(), weights, size, known | dict(training.provenance))


def _stream(data_sets: Sequence[DataSet], size: str, seed: int, **how: Any) -> ClipStream:
    # Each source has the intensities of its own preset.
    settings = SliceSettings("same", 3, data_sets[0].preset.intensity)
    return ClipStream(data_sets, settings, SIZES[size].pixels, seed, **how)


def _validation(training: Pretraining, size: str) -> Mapping[str, Sequence[Any]]:
    """A batch of each data set."""
    batches = {}
    for choice in training.validation:
        held_out = choice.open(training.held_out, validation=True)
        fixed = _stream([held_out], size, 0, lengths=LENGTHS[-1:], is_varied=False)
        batches[choice.folder.name] = [next(iter(fixed))]
    return batches
