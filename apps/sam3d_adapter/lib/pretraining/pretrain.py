"""Train a model on folders of labelled volumes, by dialogues with a simulated user: a small one whole, or adapters.

    python -m lib.pretraining.pretrain --pool ct=PHANTOMS --pool mr=DIR --validation ct=HELD_OUT --minutes 60 --out DIR
    python -m lib.pretraining.pretrain --base sam_vit_b_01ec64.pth --pool kits=DIR --validation kits=DIR --out DIR

Without ``--base`` every parameter of the preset's size is trained, from scratch or from ``--parent``. With it, the
frozen base is read from SAM's own file and the adapters, norms, neck, prompt encoder and decoder are trained; with
``--parent`` and ``--keep-base`` the same, on the parent's base, which the weights then share with the parent's.

A data set is PRESET=FOLDER, or PRESET=FOLDER:SHARE for another share of the samples than 1.
Progress goes to the log and to OUT/<size>_curve.json; a run that was stopped goes on from OUT/<size>_state.pt. Several
processes, which on a CPU get more out of the cores than several threads, train one model under
`torchrun --nproc-per-node N -m lib.pretraining.pretrain ...`.
"""

import argparse
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from lib.models.build import build_model
from lib.models.checkpoint import load_base, load_model, save_base, save_trained
from lib.models.sam3d import Sam3dAdapter
from lib.models.trainable import mark_trainable
from lib.presets import Preset, load_preset
from lib.pretraining.initialise import build_from_scratch
from lib.training.data_sets import DataSet, case_name
from lib.training.distributed import joined_processes, rank, world_size
from lib.training.sampling import for_training, for_validation
from lib.training.stream import Batch, SampleStream
from lib.training.train import TrainingConfig, train

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
TOLD_S = 20.0
"""Between two lines that say how far it is."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DataSetChoice:
    """A folder to draw from, as a preset sees it.

    Attributes:
        preset: Whose intensities and spacings.
        folder: See `lib.training.data_sets.DataSet`.
        share: Of the samples, relative to other pools.
    """

    preset: Preset
    folder: Path
    share: float = 1.0

    def open(self, held_out: frozenset[str], *, validation: bool) -> DataSet:
        """Its volumes without those that are held out, or these alone for validation.

        Args:
            held_out: Names of cases; a folder without any is taken whole.
            validation: Whether the pool is for validation.

        Raises:
            DataSetError: Nothing is in it, or nothing is left.
        """
        pool = DataSet(self.folder, self.preset, self.share)
        if held_out & {case_name(file) for file in pool.files}:
            pool.keep(held_out, inverted=not validation)
        return pool


@dataclass(frozen=True)
class Pretraining:
    """A training on folders of volumes, and where its weights go.

    Attributes:
        pools: To train on; size of the network and of the regions are those of the first one's preset.
        config: How long and how fast; its seed is that of the first values and of the samples as well.
        out: Folder of curve, state and weights.
        validation: Pools for the curve.
        held_out: Names of cases that are validated on and never trained on.
        parent: Base and weights to start from; None to start from scratch.
        keeps_base: Whether the parent's base stays as it is, so that both weights run on it.
        base: SAM's own file, of which only what adapts it is trained.
        batch: Regions of a step, for each process that trains.
        validation_batches: Of two regions each, shared out among the pools.
        name: Of the weights: ``OUT/<size>_<name>.safetensors``.
        provenance: What the weights say of their origin beside, or in place of, what is known here.
    """

    pools: tuple[DataSetChoice, ...]
    config: TrainingConfig
    out: Path
    validation: tuple[DataSetChoice, ...] = ()
    held_out: frozenset[str] = frozenset()
    parent: tuple[Path, Path] | None = None
    keeps_base: bool = False
    base: Path | None = None
    batch: int = 2
    validation_batches: int = 16
    name: str = "phantom"
    provenance: Mapping[str, object] = field(default_factory=dict)

    @property
    def size(self) -> str:
        """Of the network."""
        return self.pools[0].preset.model.size

    @property
    def roi_size(self) -> int:
        """Side of the regions in voxels."""
        return self.pools[0].preset.roi.size


def pretrain(training: Pretraining, device: torch.device) -> None:
    """Train, in each of the processes that do it together; the first writes curve, state and weights.

    What was stopped goes on; what was finished is written again without a further step.

    Args:
        training: What, and how.
        device: Of this process.

    Raises:
        DataSetError: A folder that cannot be trained on.
        CheckpointError: Files to start from that do not fit.
        MemoryShortageError: It does not fit into memory.
    """
    config = training.config
    pools = [choice.open(training.held_out, validation=False) for choice in training.pools]
    model = _start(training).to(device)
    validation = _validation(training) if rank() == 0 else []
    stream = SampleStream(
        pools, for_training(training.roi_size), config.seed, batch=training.batch, part=rank(), parts=world_size()
    )
    training.out.mkdir(parents=True, exist_ok=True)
    progress = train(model, stream, validation, config, training.out)
    if rank():
        return
    known = {
        "data": [f"{len(pool.files)} volumes of {pool.folder.name}, preset {pool.preset.name}" for pool in pools],
        "preset": pools[0].preset.name,
        "seed": config.seed,
        "minutes": round(progress.spent_s / 60, 2),
        "steps": progress.step,
    }
    with_base = training.base is None and not training.keeps_base
    export(model.cpu(), training.out, training.name, known | dict(training.provenance), with_base=with_base)


def _validation(training: Pretraining) -> list[Batch]:
    batches = []
    for choice in training.validation:
        logger.info("Reading what is validated on: %s.", choice.folder)
        pool = choice.open(training.held_out, validation=True)
        fixed = iter(SampleStream([pool], for_validation(training.roi_size), seed=0))
        batches += [next(fixed) for _ in range(training.validation_batches // len(training.validation))]
    return batches


def _start(training: Pretraining) -> Sam3dAdapter:
    if training.base is not None:
        return adapt(training.size, training.base, training.config.seed)
    if training.parent is not None:
        base, weights = training.parent
        model = load_model(size=training.size, base=base, weights=weights)[0].requires_grad_(True)
        if training.keeps_base:
            mark_trainable(model)
        return model
    return build_from_scratch(training.size, training.config.seed)


def adapt(size: str, base: Path, seed: int) -> Sam3dAdapter:
    """SAM's own weights with fresh adapters, of which nothing but what is published as trained is trained."""
    torch.manual_seed(seed)
    model = build_model(size)
    load_base(model, base)
    mark_trainable(model)
    model.image_encoder.gradient_checkpointing = True
    return model


def export(model: Sam3dAdapter, out: Path, name: str, provenance: dict[str, object], *, with_base: bool = True) -> None:
    """Write base and weights in half precision, with the last point of the curve in the provenance."""
    size = model.config.size
    curve = json.loads((out / f"{size}_curve.json").read_text())
    if with_base:
        save_base(model, out / f"{size}_base.safetensors", dtype=torch.float16)
    weights = out / f"{size}_{name}.safetensors"
    save_trained(model, weights, provenance=provenance | {"curve": curve[-1]}, dtype=torch.float16)


def read_choice(text: str) -> DataSetChoice:
    """A pool as the command line names it: PRESET=FOLDER[:SHARE].

    Raises:
        argparse.ArgumentTypeError: Not of this form.
    """
    preset, equals, place = text.partition("=")
    folder, _, share = place.rpartition(":") if ":" in place else (place, "", "1")
    path = CONFIGS / f"{preset}.yaml"
    if not equals or not path.is_file():
        raise argparse.ArgumentTypeError(f"'{text}' is no PRESET=FOLDER[:SHARE] with a preset of {CONFIGS}.")
    try:
        return DataSetChoice(load_preset(path), Path(folder), float(share))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"'{text}' is no PRESET=FOLDER[:SHARE]: {error}.") from error


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--pool", action="append", type=read_choice, required=True, help="PRESET=FOLDER[:SHARE] of training volumes"
    )
    parser.add_argument("--validation", action="append", type=read_choice, default=[], help="the same, for the curve")
    parser.add_argument("--held-out", type=Path, help="text file: names of cases never trained on, one a line")
    parser.add_argument("--parent", type=Path, nargs=2, metavar=("BASE", "WEIGHTS"), help="files to start from")
    parser.add_argument("--keep-base", action="store_true", help="train on the parent's base without changing it")
    parser.add_argument("--base", type=Path, help="SAM's own file; only what adapts it is trained")
    parser.add_argument("--minutes", type=float, help="of training (default: 60, or no limit with --steps)")
    parser.add_argument("--steps", type=int, help="of training")
    parser.add_argument("--report-s", type=float, default=240, help="seconds between two points of the curve")
    parser.add_argument("--batch", type=int, default=2, help="regions of a step, for each process that trains")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--peak-lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2, help="of each process")
    parser.add_argument("--workers", type=int, default=1, help="processes that draw samples, for each that trains")
    parser.add_argument("--name", default="phantom", help="of the weights: OUT/<size>_<name>.safetensors")
    parser.add_argument("--licence", default="Apache-2.0", help="of the weights, for their provenance")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    if arguments.base and arguments.parent:
        parser.error("--base starts from SAM, --parent from weights of before: give one of the two.")
    if arguments.keep_base and not arguments.parent:
        parser.error("--keep-base keeps that of --parent: give the two files.")
    training = Pretraining(
        pools=tuple(arguments.pool),
        config=TrainingConfig(
            minutes=60 if arguments.minutes is None and arguments.steps is None else arguments.minutes,
            steps=arguments.steps,
            peak_lr=arguments.peak_lr,
            report_s=arguments.report_s,
            log_s=TOLD_S,
            seed=arguments.seed,
            workers=arguments.workers,
        ),
        out=arguments.out,
        validation=tuple(arguments.validation),
        held_out=frozenset(arguments.held_out.read_text().split()) if arguments.held_out else frozenset(),
        parent=tuple(arguments.parent) if arguments.parent else None,
        keeps_base=arguments.keep_base,
        base=arguments.base,
        batch=arguments.batch,
        name=arguments.name,
        provenance={"licence": arguments.licence},
    )
    with joined_processes(arguments.device) as device:
        logging.basicConfig(level=logging.WARNING if rank() else logging.INFO, format="%(asctime)s %(message)s")
        torch.set_num_threads(arguments.threads)
        pretrain(training, device)


if __name__ == "__main__":
    main()
