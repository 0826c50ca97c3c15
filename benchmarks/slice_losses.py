"""What slice relative position prediction and boundary detection give SAM 2, each alone and both, beside neither.

python -m benchmarks.slice_losses --data-set mr=HIPPOCAMPUS --data-set ct=STS_CT --out OUT \\
  [--weights FILE] [--held-out benchmarks/held_out.txt] [--development benchmarks/sts_development.txt] \\
  [--steps 200] [--seeds 1 2 3] [--cases 10] [--result FILE]

Of each folder (images/ and labels/), the cases of --development are evaluated, every fifth one where it has none of
them, and the others are trained on; those of --held-out are left alone. With --weights, memory attention, decoder and
tap are fine-tuned, as a server does; without, all of a new network is trained. A data set, a seed and a variant give
one training and one evaluation by the protocol of docs/evaluation.md. What is finished is not done again, and a
training that was stopped goes on: OUT/<data set>/<seed>/<variant>/ holds both. Each variant is compared with "none"
of the same seed, patient by patient; where some runs are not finished, the table tells of those that are.
"""

import argparse
import dataclasses
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from benchmarks.evaluated import evaluated_records
from benchmarks.results import Row, Value, add_option, interval, report
from demo import APP_DIR
from lib.evaluation.cases import Source, from_folders
from lib.evaluation.compare import compare_records
from lib.evaluation.evaluate import Evaluation
from lib.evaluation.evaluated_segmenter import SegmenterChoice
from lib.evaluation.ledger import write_json
from lib.evaluation.record import Record
from lib.families.sam2.clip_interactions import ClipInteractions
from lib.families.sam2.clips import ClipStream
from lib.families.sam2.network import build_network, load_network, save_network
from lib.families.sam2.settings import SliceSettings
from lib.families.sam2.sizes import SIZES
from lib.families.sam2.trained_network import LOSSES, TrainedNetwork
from lib.presets import Preset, load_preset
from lib.presets.preset import ModelPreset
from lib.pretraining.pretrain import CONFIGS
from lib.training.data_sets import DataSet, case_name, volume_files
from lib.training.train import TrainingConfig, train

VARIANTS: dict[str, tuple[str, ...]] = {
    "none": (),
    **{name: (name,) for name in LOSSES},
    "both": LOSSES,
}
MODES, SEEDS, TIMEOUT_S = ("centre",), (42,), 3600.0
"""The timeout is far above what a request takes, so that a busy machine does not count as a failure."""
EVERY = 5
REPORT_STEPS = 20
METRICS = {"mean Dice, clicks 1 to 5": "dsc_auc_normalised", "Dice at 1": "dice_1", "Dice at 10": "dice_last"}

logger = logging.getLogger("slice_losses")


@dataclasses.dataclass(frozen=True)
class Data:
    """A data set, divided.

    Attributes:
        name: of the folder.
        preset: with the network of this family.
        trained: names of the cases that are trained on.
        sources: cases that are evaluated.
        folder: of images/ and labels/.
    """

    name: str
    preset: Preset
    trained: frozenset[str]
    sources: tuple[Source, ...]
    folder: Path


def divided(text: str, arguments: argparse.Namespace) -> Data:
    """A data set of the command line: PRESET=FOLDER.

    Raises:
        SystemExit: nothing is left to train on or to evaluate.
    """
    kind, _, place = text.partition("=")
    folder, preset = Path(place).resolve(), load_preset(CONFIGS / f"{kind}.yaml")
    names = sorted({case_name(file) for file in volume_files(folder)} - _names(arguments.held_out))
    chosen = [name for name in names if name in _names(arguments.development)] or names[EVERY - 1 :: EVERY]
    trained = frozenset(names) - frozenset(chosen)
    sources = from_folders(folder / "images", folder / "labels", dataset=folder.name)
    sources = [source for source in sources if source.name in chosen[: arguments.cases]]
    if not trained or not sources:
        raise SystemExit(f"{folder}: {len(trained)} case(s) to train on, {len(sources)} to evaluate; both are needed.")
    model = ModelPreset("sam2", arguments.size, ("",))
    preset = dataclasses.replace(preset, model=model, settings=SliceSettings("same", 3, preset.intensity))
    return Data(folder.name, preset, trained, tuple(sources), folder)


def trained(data: Data, losses: tuple[str, ...], seed: int, out: Path, arguments: argparse.Namespace) -> Path:
    """Weights of one training, made or gone on with."""
    weights = out / "weights.safetensors"
    if weights.exists():
        return weights
    out.mkdir(parents=True, exist_ok=True)
    size = arguments.size
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_network(size) if arguments.weights is None else load_network(size, arguments.weights)[0]
    network = TrainedNetwork(model, size, losses, seed, is_whole=arguments.weights is None).to(arguments.device)
    own = DataSet(data.folder, data.preset)
    own.keep(data.trained)
    stream = ClipStream([own], data.preset.settings, SIZES[size].pixels, seed, batch=arguments.batch)
    config = TrainingConfig(
        steps=arguments.steps,
        peak_lr=SIZES[size].peak_lr,
        warm_up_steps=20,
        report_steps=REPORT_STEPS,
        seed=seed,
        precision="fp32",
    )
    progress = train(network, ClipInteractions(network, config), stream, {}, config, out)
    provenance = {"losses": losses, "seed": seed, "steps": progress.step, "data": f"{len(own.files)} of {data.name}"}
    save_network(network.model.cpu(), weights, size, provenance)
    return weights


def evaluated(data: Data, weights: Path, out: Path, arguments: argparse.Namespace) -> list[Record]:
    """Records of the evaluated cases."""
    choice = SegmenterChoice(APP_DIR, data.preset.with_weights(weights), arguments.device)
    return evaluated_records(Evaluation(choice, data.sources, out, MODES, SEEDS, timeout_s=TIMEOUT_S))


def rows(found: dict[tuple[str, int, str], list[Record]]) -> Iterator[Row]:
    """For each data set and variant: Dice, and the difference from "none" over the seeds that both have."""
    for data in dict.fromkeys(name for name, _, _ in found):
        for variant in VARIANTS:
            seeds = [seed for name, seed, one in found if (name, one) == (data, variant)]
            own, none = (
                [{**record, "seed": seed} for seed in seeds for record in found[data, seed, one]]
                for one in (variant, "none")
            )
            if not own:
                continue
            compared = compare_records(own, none)["datasets"][data][MODES[0]]
            row: dict[str, Value] = {
                "data": data,
                "losses": variant,
                "seeds": len(seeds),
                "patients": compared["n"],
                "Dice at 1": round(float(np.mean([record["dice"][0] for record in own])), 3),
                "Dice at 10": round(float(np.mean([record["dice"][-1] for record in own])), 3),
            }
            if variant != "none":
                row |= {
                    f"{title}, minus none": interval(compared["differences"][key]) for title, key in METRICS.items()
                }
            yield row


def main() -> None:
    """Command line."""
    arguments = _arguments()
    logger.addHandler(logging.StreamHandler())
    logger.setLevel(logging.INFO)
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    data_sets = [divided(text, arguments) for text in arguments.data_set]
    _require_same_run(arguments, data_sets)
    found = {}
    # Seed by seed, so that a run that ends early has compared all variants on some.
    for seed in arguments.seeds:
        for data in data_sets:
            for variant, losses in VARIANTS.items():
                out = arguments.out / data.name / str(seed) / variant
                weights = trained(data, losses, seed, out, arguments)
                found[data.name, seed, variant] = evaluated(data, weights, out / "evaluation", arguments)
                logger.info("%s, seed %d, %s: done.", data.name, seed, variant)
                write_json(arguments.out / "slice_losses.json", list(rows(found)))
    sizes = ", ".join(
        f"{len(data.trained)} trained on and {len(data.sources)} evaluated of {data.name}" for data in data_sets
    )
    report(rows(found), f"{sizes}; {len(arguments.seeds)} seeds, {arguments.steps} steps", arguments.result)


def _require_same_run(arguments: argparse.Namespace, data_sets: list[Data]) -> None:
    """Write down what the figures depend on, or refuse to mix them with those of another run."""
    settings = {
        "data_sets": {data.name: [sorted(data.trained), [one.name for one in data.sources]] for data in data_sets},
        **{key: str(getattr(arguments, key)) for key in ("size", "weights", "steps", "batch")},
    }
    path = arguments.out / "settings.json"
    if path.exists() and (held := json.loads(path.read_text())) != settings:
        raise SystemExit(f"{path} is of another run: {held}. Expected {settings}. Choose another --out.")
    write_json(path, settings)


def _names(path: Path | None) -> frozenset[str]:
    return frozenset() if path is None else frozenset(path.read_text().split())


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-set", action="append", required=True, help="PRESET=FOLDER with images/ and labels/")
    parser.add_argument("--weights", type=Path, help="to start from; without, a new network is trained as a whole")
    parser.add_argument("--size", choices=SIZES, default="micro")
    parser.add_argument("--held-out", type=Path, help="names of cases to leave alone, one a line")
    parser.add_argument("--development", type=Path, help="names of cases to evaluate, one a line")
    parser.add_argument("--cases", type=int, default=10, help="most cases to evaluate, of each data set")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch", type=int, default=2, help="clips of a step")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, required=True)
    add_option(parser)
    return parser.parse_args()


if __name__ == "__main__":
    main()
