"""Train a model on folders of labelled volumes, by dialogues with a simulated user: a small one whole, or adapters.

    python -m lib.learning.pretrain --pool ct=PHANTOMS --pool mr=DIR --validation ct=HELD_OUT --minutes 60 --out DIR
    python -m lib.learning.pretrain --base sam_vit_b_01ec64.pth --pool kits=DIR --validation kits=DIR --out DIR

Without ``--base`` every parameter of the preset's size is trained, from scratch or from ``--parent``. With it, the
frozen base is read from SAM's own file and the adapters, norms, neck, prompt encoder and decoder are trained.

A pool is PRESET=FOLDER, or PRESET=FOLDER:SHARE for another share of the samples than 1; see `lib.learning.pools.Pool`.
Progress goes to the log and to OUT/<size>_curve.json; a run that was stopped goes on from OUT/<size>_state.pt. Several
processes, which on a CPU get more out of the cores than several threads, train one model under
`torchrun --nproc-per-node N -m lib.learning.pretrain ...`.
"""

import argparse
import json
import logging
from pathlib import Path

import torch

from lib.learning.initialise import build_from_scratch
from lib.learning.pools import Pool, case_name
from lib.learning.processes import joined_processes, rank, world_size
from lib.learning.sampling import for_training, for_validation
from lib.learning.stream import SampleStream
from lib.learning.train import TrainingConfig, train
from lib.models.build import build_model
from lib.models.checkpoint import load_base, load_model, save_base, save_trained
from lib.models.sam3d import Sam3dAdapter
from lib.models.trainable import mark_trainable
from lib.presets import load_preset

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
VALIDATION_BATCHES = 16


def read_pool(text: str, held_out: frozenset[str], *, validation: bool) -> Pool:
    """A pool as the command line names it: PRESET=FOLDER[:SHARE].

    Args:
        text: Of the command line.
        held_out: Names of cases that are validated on and never trained on; a folder without any is taken whole.
        validation: Whether the pool is for validation.

    Raises:
        argparse.ArgumentTypeError: Not of this form.
    """
    preset, equals, place = text.partition("=")
    folder, _, share = place.rpartition(":") if ":" in place else (place, "", "1")
    path = CONFIGS / f"{preset}.yaml"
    if not equals or not path.is_file():
        raise argparse.ArgumentTypeError(f"'{text}' is no PRESET=FOLDER[:SHARE] with a preset of {CONFIGS}.")
    pool = Pool(Path(folder), load_preset(path), float(share))
    if held_out & {case_name(file) for file in pool.files}:
        pool.keep(held_out, inverted=not validation)
    return pool


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", action="append", required=True, help="PRESET=FOLDER[:SHARE] of training volumes")
    parser.add_argument("--validation", action="append", default=[], help="the same, for the curve")
    parser.add_argument("--held-out", type=Path, help="text file: names of cases never trained on, one a line")
    parser.add_argument("--parent", type=Path, nargs=2, metavar=("BASE", "WEIGHTS"), help="files to start from")
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
    with joined_processes(arguments.device) as device:
        _pretrain(arguments, device)


def _pretrain(arguments: argparse.Namespace, device: torch.device) -> None:
    logging.basicConfig(level=logging.WARNING if rank() else logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(arguments.threads)
    held_out = frozenset(arguments.held_out.read_text().split()) if arguments.held_out else frozenset()
    pools = [read_pool(text, held_out, validation=False) for text in arguments.pool]
    size = pools[0].preset.model.size
    if arguments.base:
        model = adapt(size, arguments.base, arguments.seed)
    else:
        model = _start(size, arguments.parent, arguments.seed)
    model.to(device)
    roi_size = pools[0].preset.roi.size
    validation = []
    if rank() == 0:
        for text in arguments.validation:
            fixed_stream = iter(
                SampleStream([read_pool(text, held_out, validation=True)], for_validation(roi_size), seed=0)
            )
            validation += [next(fixed_stream) for _ in range(VALIDATION_BATCHES // len(arguments.validation))]
    stream = SampleStream(
        pools, for_training(roi_size), arguments.seed, batch=arguments.batch, part=rank(), parts=world_size()
    )
    arguments.out.mkdir(parents=True, exist_ok=True)
    config = TrainingConfig(
        minutes=60 if arguments.minutes is None and arguments.steps is None else arguments.minutes,
        steps=arguments.steps,
        peak_lr=arguments.peak_lr,
        report_s=arguments.report_s,
        seed=arguments.seed,
        workers=arguments.workers,
    )
    train(model, stream, validation, config, arguments.out)
    if rank():
        return
    provenance = {
        "data": [f"{len(pool.files)} volumes of {pool.folder.name}, preset {pool.preset.name}" for pool in pools],
        "licence": arguments.licence,
        "preset": pools[0].preset.name,
        "seed": arguments.seed,
        "minutes": config.minutes,
        "steps": config.steps,
    }
    export(model.cpu(), arguments.out, arguments.name, provenance, with_base=arguments.base is None)


def adapt(size: str, base: Path, seed: int) -> Sam3dAdapter:
    """SAM's own weights with fresh adapters, of which nothing but what is published as trained is trained."""
    torch.manual_seed(seed)
    model = build_model(size)
    load_base(model, base)
    mark_trainable(model)
    model.image_encoder.gradient_checkpointing = True
    return model


def _start(size: str, files: tuple[Path, Path] | None, seed: int) -> Sam3dAdapter:
    if files:
        return load_model(size=size, base=files[0], weights=files[1])[0].requires_grad_(True)
    return build_from_scratch(size, seed)


def export(model: Sam3dAdapter, out: Path, name: str, provenance: dict[str, object], *, with_base: bool = True) -> None:
    """Write base and weights in half precision, with the last point of the curve in the provenance."""
    size = model.config.size
    curve = json.loads((out / f"{size}_curve.json").read_text())
    if with_base:
        save_base(model, out / f"{size}_base.safetensors", dtype=torch.float16)
    weights = out / f"{size}_{name}.safetensors"
    save_trained(model, weights, provenance=provenance | {"curve": curve[-1]}, dtype=torch.float16)


if __name__ == "__main__":
    main()
