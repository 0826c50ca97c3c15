"""Trains a model on folders of labelled volumes, by interactions with a simulated user: a small one whole, or adapters.

    python -m lib.pretraining.pretrain --data-set ct=PHANTOMS --data-set mr=DIR --validation ct=HELD_OUT \\
        --minutes 60 --out DIR
    python -m lib.pretraining.pretrain --base sam_vit_b_01ec64.pth --data-set kits=DIR --validation kits=DIR --out DIR

Without ``--base``, every parameter is trained, from scratch or from ``--parent``. With ``--base``, the frozen base is
SAM's own file; adapters, norms, neck, prompt encoder, decoder are trained. With ``--parent`` and ``--keep-base``, the
same parts are trained on the parent's base, which both weights then share.

A data set is PRESET=FOLDER, or PRESET=FOLDER:SHARE; without it, the share of the samples is 1.
Progress goes to the log and to OUT/<size>_curve.json. A stopped run resumes from OUT/<size>_state.pt. Several processes
train one model under `torchrun --nproc-per-node N -m lib.pretraining.pretrain ...`; on a CPU they are faster than
several threads.
"""

import argparse
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from lib.models.build import build_model
from lib.models.checkpoint import load_base, load_model, save_base, save_trained
from lib.models.sam3d import Sam3dAdapter
from lib.models.trainable import mark_trainable
from lib.presets import Preset, load_preset
from lib.training.data_sets import DataSet, case_name
from lib.training.distributed import joined_processes, rank, world_size
from lib.training.interactions import Interactions
from lib.training.sampling import for_training, for_validation
from lib.training.stream import Batch, SampleStream
from lib.training.train import TrainingConfig, train

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
LOG_S = 20.0
"""Seconds between two log lines with the progress."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DataSetChoice:
    """A data set to open, and the preset to open it with.

    Attributes:
        preset: Gives intensities and spacings.
        folder: See `lib.training.data_sets.DataSet`.
        share: Of the samples, relative to other data sets.
        labels_are_objects: See `lib.training.data_sets.DataSet`.
    """

    preset: Preset
    folder: Path
    share: float = 1.0
    labels_are_objects: bool = False

    def open(self, held_out: frozenset[str], *, validation: bool) -> DataSet:
        """The volumes to train on, or the held-out ones for validation.

        Args:
            held_out: Names of cases; a folder without any of them is used as a whole.
            validation: Whether to open the held-out volumes.

        Raises:
            DataSetError: It is empty, or no case is left.
        """
        share = 1.0 if validation else self.share
        data_set = DataSet(self.folder, self.preset, share, labels_are_objects=self.labels_are_objects)
        if held_out & {case_name(file) for file in data_set.files}:
            data_set.keep(held_out, inverted=not validation)
        return data_set


@dataclass(frozen=True)
class Pretraining:
    """A training on folders of volumes, and the folder of its weights.

    Attributes:
        data_sets: To train on; the first one's preset gives the sizes of network and ROI.
        config: How long and how fast; its seed is also that of the initial weights and of the samples.
        out: Folder of curve, state and weights.
        validation: Data sets for the curve.
        held_out: Names of cases that are validated on and never trained on.
        parent: Base and weights to start from; None to start from scratch.
        keeps_base: Whether the parent's base stays as it is, so that both weights share it.
        base: SAM's own file; only the parts that adapt it are trained.
        batch: Regions of a step, for each process that trains.
        validation_batches: Batches of two regions, divided among the data sets.
        name: Of the weights: ``OUT/<size>_<name>.safetensors``.
        provenance: Of the weights; overrides what is known here.
    """

    data_sets: tuple[DataSetChoice, ...]
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
        return self.data_sets[0].preset.model.size

    @property
    def roi_size(self) -> int:
        """Side of the regions in voxels."""
        return self.data_sets[0].preset.roi.size


def pretrain(training: Pretraining, device: torch.device) -> None:
    """Trains in each of the processes that train together; the first one writes curve, state and weights.

    A stopped training resumes. A finished one writes its weights again without a further step.

    Args:
        training: What to train, and how.
        device: Of this process.

    Raises:
        DataSetError: A data set cannot be trained on.
        CheckpointError: The files to start from do not fit.
        MemoryShortageError: It does not fit into memory.
    """
    config = training.config
    data_sets = [choice.open(training.held_out, validation=False) for choice in training.data_sets]
    model = _start(training).to(device)
    validation = _validation(training) if rank() == 0 else {}
    stream = SampleStream(
        data_sets, for_training(training.roi_size), config.seed, batch=training.batch, part=rank(), parts=world_size()
    )
    training.out.mkdir(parents=True, exist_ok=True)
    progress = train(model, Interactions(model, config), stream, validation, config, training.out)
    if rank():
        return
    known = {
        "data": [
            f"{len(data_set.files)} volumes of {data_set.folder.name}, preset {data_set.preset.name}"
            for data_set in data_sets
        ],
        "preset": data_sets[0].preset.name,
        "seed": config.seed,
        "minutes": round(progress.spent_s / 60, 2),
        "steps": progress.step,
    }
    with_base = training.base is None and not training.keeps_base
    export(model.cpu(), training.out, training.name, known | dict(training.provenance), with_base=with_base)


def _validation(training: Pretraining) -> dict[str, list[Batch]]:
    batches = {}
    for choice in training.validation:
        logger.info("Reading the validation data: %s.", choice.folder)
        data_set = choice.open(training.held_out, validation=True)
        fixed = iter(SampleStream([data_set], for_validation(training.roi_size), seed=0))
        count = max(1, training.validation_batches // len(training.validation))
        batches[choice.folder.name] = [next(fixed) for _ in range(count)]
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
    """SAM's own weights with fresh adapters; only the published trained set is trained."""
    torch.manual_seed(seed)
    model = build_model(size)
    load_base(model, base)
    mark_trainable(model)
    model.image_encoder.gradient_checkpointing = True
    return model


def build_from_scratch(size: str, seed: int) -> Sam3dAdapter:
    """A new network, all of it to be trained; the same seed gives the same values in every process.

    Args:
        size: One of `lib.models.config.MODEL_SIZES`.
        seed: Of all values.
    """
    # Convolutions take their first values from the global generator.
    torch.manual_seed(seed)
    model = build_model(size)
    initialise_from_scratch(model, torch.Generator().manual_seed(seed))
    return model


def sine_positions(length: int, dim: int) -> Tensor:
    """(length, dim): sine and cosine of a coordinate at `dim / 2` frequencies."""
    frequency = 100.0 ** (-torch.arange(dim // 2) / (dim // 2))
    angle = torch.arange(length)[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=1)


@torch.no_grad()
def initialise_from_scratch(model: Sam3dAdapter, generator: torch.Generator) -> None:
    """Gives a model initial values from which all of it can be trained.

    Linear layers get SAM's truncated normal. Position embeddings start as sines, a third of the channels per axis: from
    zero, a short training never learns them.

    Args:
        model: Changed in place.
        generator: Source of every random number.
    """
    encoder = model.image_encoder
    for module in encoder.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02, generator=generator)
            nn.init.zeros_(module.bias)
    if model.mask_decoder.click_maps is not None:
        model.mask_decoder.click_maps.conv.reset_parameters()
    # The mean over depth, so that the folded stem starts as a plain 3-D patch embedding.
    encoder.slice_embed.weight.fill_(1 / encoder.slice_embed.weight.shape[-1])
    encoder.slice_embed.get_parameter("bias").zero_()
    third = encoder.pos_embed.shape[-1] // 6 * 2
    side = encoder.pos_embed.shape[1]
    encoder.pos_embed.zero_()
    encoder.depth_embed.zero_()
    table = 0.5 * sine_positions(side, third)
    encoder.pos_embed[..., :third] = table[None, :, None]
    encoder.pos_embed[..., third : 2 * third] = table[None, None]
    encoder.depth_embed[..., 2 * third : 3 * third] = 0.5 * sine_positions(encoder.depth_embed.shape[1], third)


def export(model: Sam3dAdapter, out: Path, name: str, provenance: dict[str, object], *, with_base: bool = True) -> None:
    """Writes base and weights in half precision, with the last point of the curve in the provenance."""
    size = model.config.size
    curve = json.loads((out / f"{size}_curve.json").read_text())
    if with_base:
        save_base(model, out / f"{size}_base.safetensors", dtype=torch.float16)
    weights = out / f"{size}_{name}.safetensors"
    save_trained(model, weights, provenance=provenance | {"curve": curve[-1]}, dtype=torch.float16)


def read_choice(text: str) -> DataSetChoice:
    """A data set as on the command line: PRESET=FOLDER[:SHARE].

    Raises:
        argparse.ArgumentTypeError: It has another form.
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
        "--data-set", action="append", type=read_choice, required=True, help="PRESET=FOLDER[:SHARE] of training volumes"
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
        data_sets=tuple(arguments.data_set),
        config=TrainingConfig(
            minutes=60 if arguments.minutes is None and arguments.steps is None else arguments.minutes,
            steps=arguments.steps,
            peak_lr=arguments.peak_lr,
            report_s=arguments.report_s,
            log_s=LOG_S,
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
