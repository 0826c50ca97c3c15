"""Trains a small size from nothing, on the volumes of the recipe of the shipped weights.

    python -m lib.families.sam2.pretrain --data DATA --volumes MADE --held-out benchmarks/held_out.txt --out OUT

DATA is the folder of volumes that docs/weights.md describes, MADE the folder in which `sam3d weights` made the others.
All of the network is trained. Progress goes to the log and to OUT/<size>_curve.json; a stopped run goes on from
OUT/<size>_state.pt when the same command is given again. At the end, OUT/sam2_<size>.safetensors is there.
"""

import argparse
import logging
from pathlib import Path
from typing import Any

import torch

from lib.families.sam2.clip_interactions import ClipInteractions
from lib.families.sam2.clips import LENGTHS, ClipStream
from lib.families.sam2.network import build_network, save_network
from lib.families.sam2.settings import SliceSettings
from lib.families.sam2.sizes import SIZES
from lib.families.sam2.trained_network import TrainedNetwork
from lib.pretraining.pretrain import LOG_S, DataSetChoice
from lib.pretraining.recipe import STRUCTURES, check_data
from lib.pretraining.sources import Labelled
from lib.training.data_sets import DataSet
from lib.training.train import TrainingConfig, train


def pretrain(
    choices: list[tuple[DataSetChoice, bool]], size: str, config: TrainingConfig, held_out: frozenset[str], out: Path
) -> Path:
    """Trains, or goes on; returns the file of the weights.

    Args:
        choices: data sets, and whether cases of each are validated on.
        size: of the network.
        config: how long and how fast; its seed is also that of the first values and of the samples.
        held_out: names of cases that are never trained on.
        out: folder of curve, state and weights.

    Raises:
        DataSetError: a data set cannot be trained on.
        MemoryShortageError: it does not fit into memory.
    """
    out.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = TrainedNetwork(build_network(size), size, is_whole=True)

    def stream(data_sets: list[DataSet], seed: int, **how: Any) -> ClipStream:
        # Each source has the intensities of its own preset.
        settings = SliceSettings("same", 3, data_sets[0].preset.intensity)
        return ClipStream(data_sets, settings, SIZES[size].pixels, seed, **how)

    trained = [choice.open(held_out, validation=False) for choice, _ in choices if choice.share]
    validation = {}
    for choice, is_validated in choices:
        if is_validated:
            fixed = stream([choice.open(held_out, validation=True)], 0, lengths=LENGTHS[-1:], is_varied=False)
            validation[choice.folder.name] = [next(iter(fixed))]
    objective = ClipInteractions(network, config)
    progress = train(network, objective, stream(trained, config.seed), validation, config, out)
    weights = out / f"sam2_{size}.safetensors"
    provenance = {
        "source": "trained from nothing",
        "data": [f"{len(one.files)} volumes of {one.folder.name}, preset {one.preset.name}" for one in trained],
        "licence": STRUCTURES.licence,
        "seed": config.seed,
        "steps": progress.step,
        "minutes": round(progress.spent_s / 60, 1),
        "curve": progress.curve[-1],
    }
    save_network(network.model, weights, size, provenance)
    return weights


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the volumes")
    parser.add_argument("--volumes", type=Path, required=True, help="folder of the volumes that sam3d weights made")
    parser.add_argument("--held-out", type=Path, required=True, help="names of cases never trained on, one a line")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", default="micro", choices=[name for name, one in SIZES.items() if not one.published])
    parser.add_argument("--minutes", type=float, default=600.0)
    parser.add_argument("--report-s", type=float, default=1200.0, help="seconds between two points of the curve")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    held_out = frozenset(arguments.held_out.read_text(encoding="utf-8").split())
    check_data(STRUCTURES, arguments.data, held_out)
    choices = [
        (one.choice(arguments.data.resolve() if isinstance(one, Labelled) else arguments.volumes.resolve()), one)
        for one in STRUCTURES.sources
    ]
    config = TrainingConfig(
        minutes=arguments.minutes,
        peak_lr=SIZES[arguments.size].peak_lr,
        warm_up_steps=500,
        report_s=arguments.report_s,
        log_s=LOG_S,
        precision="auto",
    )
    validated = [(choice, isinstance(one, Labelled) or not one.share) for choice, one in choices]
    pretrain(validated, arguments.size, config, held_out, arguments.out)


if __name__ == "__main__":
    main()
