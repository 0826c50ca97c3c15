"""How good the small network is beside what one would train in its place: same data, clicks, zoom and computing time.

python -m benchmarks.peers --data-set ct=PHANTOMS:1.2 --data-set ct=STS_CT:0.6 --data-set mr=STS_MR:0.6 \\
  --data-set pet=STS_PET:0.6 \\
  --held-out benchmarks/held_out.txt --images ct=STS_CT --images mr=STS_MR --images pet=STS_PET \\
  --minutes 20 --out OUT [--result FOLDER]

Each network of `benchmarks.peer_networks` is trained from scratch on the same stream of regions, on one thread, until
this has used as many minutes of a core as were given; other work on the machine costs it nothing but patience. No
training looks at a held-out case. Each network is then evaluated on these by the protocol of docs/evaluation.md, with
its preset's ROI and spacings, and the first is compared with every other, patient by patient. What is finished is not
done again: OUT/<network>/ holds weights and evaluations, OUT/peers.md and OUT/peers.json the result.
"""

import argparse
import dataclasses
import json
import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from benchmarks.evaluated import evaluated_records
from benchmarks.peer_networks import PEERS, Peer, save
from benchmarks.peers_table import TABLES, peers_tables
from benchmarks.results import add_option, markdown, report
from demo import APP_DIR
from lib.evaluation.cases import DataError, from_folders
from lib.evaluation.compare import compare_records
from lib.evaluation.evaluate import Evaluation
from lib.evaluation.evaluated_segmenter import SegmenterChoice
from lib.evaluation.interaction import TIMEOUT_S
from lib.evaluation.ledger import write_json
from lib.evaluation.record import Record
from lib.evaluation.summary import summarise
from lib.presets import Preset, load_preset
from lib.presets.preset import ModelPreset
from lib.pretraining.pretrain import CONFIGS, read_choice
from lib.segmenters import families
from lib.training.data_sets import DataSet
from lib.training.interactions import Interactions
from lib.training.sampling import for_training
from lib.training.train import TrainingConfig, train
from lib.workers.choice import WorkerChoice

ALL = "all"
"""What the cases of all folders together are called; a patient in several of them is one patient."""
MODES, SEEDS = ("centre", "random"), (42,)
REPORT_S = 60.0
TRIAL_ROI = 32
"""Side of the regions of a trial, in voxels: the largest of size "test"."""

logger = logging.getLogger("peers")


def train_peer(peer: Peer, arguments: argparse.Namespace) -> None:
    """Train one network and write its files, last of all what became of it."""
    out = arguments.out / peer.name
    out.mkdir(parents=True, exist_ok=True)
    held_out = _held_out(arguments)
    data_sets = [read_choice(text).open(held_out, validation=False) for text in arguments.data_set]
    peak_lr = dict(arguments.peak_lr).get(peer.name, TrainingConfig.peak_lr)
    config = TrainingConfig(
        minutes=arguments.minutes,
        peak_lr=peak_lr,
        report_s=REPORT_S,
        seed=arguments.seed,
        interaction=peer.interaction,
        clock="cpu",
    )
    model = peer.build(_size(peer, arguments), arguments.seed)
    roi_size = TRIAL_ROI if arguments.trial else data_sets[0].preset.roi.size
    stream = peer.stream(data_sets, for_training(roi_size), arguments.seed, batch=arguments.batch)
    progress = train(model, Interactions(model, config), stream, {}, config, out)
    figures = {
        "steps": progress.step,
        "cpu_minutes": progress.spent_s / 60,
        "peak_lr": peak_lr,
        "loss": progress.curve[-1]["loss"],
        "parameters": sum(p.numel() for p in model.parameters()),
        "trained_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
    }
    save(model, out, {"data": [_told(data_set) for data_set in data_sets], "seed": arguments.seed, **figures})
    write_json(out / "training.json", figures)


def _told(data: DataSet) -> str:
    return f"{len(data.files)} volumes of {data.folder.name}, preset {data.preset.name}, share {data.share:g}"


def train_all(peers: Sequence[Peer], arguments: argparse.Namespace) -> None:
    """Those that are not trained yet, each in a process of its own, so many at a time as asked for.

    Raises:
        subprocess.CalledProcessError: A training failed; what it said stands in OUT/<network>/training.log.
    """
    left = [peer for peer in peers if not (arguments.out / peer.name / "training.json").exists()]

    def run(peer: Peer) -> None:
        folder = arguments.out / peer.name
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "benchmarks.peers", *sys.argv[1:], "--only", peer.name]
        with (folder / "training.log").open("a") as log:
            # One thread, of whatever library: a core is what is counted and shared out.
            subprocess.run(command, check=True, stdout=log, stderr=log, env=os.environ | {"OMP_NUM_THREADS": "1"})
        logger.info("%s is trained.", peer.name)

    with ThreadPoolExecutor(arguments.jobs) as executor:
        list(executor.map(run, left))


def evaluate_peer(peer: Peer, arguments: argparse.Namespace) -> dict[str, list[Record]]:
    """Records of the held-out cases, by the name of their data, and under `ALL` those of all of it."""
    found = {}
    for text in arguments.images:
        preset, folder = _place(text)
        name = f"{preset.name}_{folder.name}"
        out = arguments.out / peer.name / (name + _suffix(arguments))
        sources = from_folders(folder / "images", folder / "labels", dataset=name)
        sources = [source for source in sources if source.name in _held_out(arguments)]
        if not sources:
            raise DataError(f"{folder} holds no case of {arguments.held_out}.")
        choice = SegmenterChoice(APP_DIR, _served(preset, peer, arguments), "cpu")
        workers = WorkerChoice(arguments.jobs, with_ray=False)
        found[name] = evaluated_records(
            Evaluation(choice, sources, out, MODES, SEEDS, timeout_s=TIMEOUT_S, workers=workers)
        )
        logger.info("%s is evaluated on %s.", peer.name, name)
    # An image of the same name in two folders is two cases of one patient.
    found[ALL] = [
        record | {"case": f"{name}/{record['case']}", "dataset": ALL} for name, own in found.items() for record in own
    ]
    return found


def _served(preset: Preset, peer: Peer, arguments: argparse.Namespace) -> Preset:
    """The preset with a network in place of its own, and all else as it is."""
    folder = (arguments.out / peer.name).resolve()
    # Absolute: they are looked for against the app folder otherwise.
    files = tuple(str(folder / f"{key}.safetensors") for key in families()[peer.family].files)
    roi = dataclasses.replace(preset.roi, size=TRIAL_ROI) if arguments.trial else preset.roi
    if arguments.spacing_mm is not None:
        roi = dataclasses.replace(roi, spacing_mm=arguments.spacing_mm, wider_spacings_mm=())
    model = ModelPreset(peer.family, _size(peer, arguments), files)
    return dataclasses.replace(preset, model=model).with_settings(roi=roi)


def _size(peer: Peer, arguments: argparse.Namespace) -> str:
    return "test" if arguments.trial else peer.size


def _suffix(arguments: argparse.Namespace) -> str:
    """Of what is written about an evaluation that does not look as the presets say."""
    return "" if arguments.spacing_mm is None else f"_{arguments.spacing_mm:g}mm"


def _held_out(arguments: argparse.Namespace) -> frozenset[str]:
    return frozenset(arguments.held_out.read_text().split())


def _place(text: str) -> tuple[Preset, Path]:
    preset, _, folder = text.partition("=")
    return load_preset(CONFIGS / f"{preset}.yaml"), Path(folder).resolve()


def main() -> None:
    """Command line."""
    arguments = _arguments()
    if arguments.only:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
        torch.set_num_threads(1)
        train_peer(PEERS[arguments.only], arguments)
        return
    # Not the root's handler: a served task tells it of every request.
    logger.addHandler(logging.StreamHandler())
    logger.setLevel(logging.INFO)
    arguments.out.mkdir(parents=True, exist_ok=True)
    _require_same_run(arguments)
    peers = [PEERS[name] for name in arguments.networks]
    train_all(peers, arguments)
    records = {peer.name: evaluate_peer(peer, arguments) for peer in peers}
    result = {
        "networks": {
            peer.name: json.loads((arguments.out / peer.name / "training.json").read_text())
            | {"title": peer.title, "data": {name: summarise(own) for name, own in records[peer.name].items()}}
            for peer in peers
        },
        "differences": {peer.name: differences(records[peers[0].name], records[peer.name]) for peer in peers[1:]},
    }
    write_json(arguments.out / f"peers{_suffix(arguments)}.json", result)
    n = f"{len({record['patient'] for record in records[peers[0].name][ALL]})} patients"
    tables = peers_tables(result)
    for name, rows in tables.items():
        report(rows, n, arguments.result and arguments.result / f"{name}.json")
        print()
    text = "\n\n".join(markdown(rows) for rows in tables.values())
    (arguments.out / f"peers{_suffix(arguments)}.md").write_text(text + "\n", encoding="utf-8")


def differences(first: dict[str, list[Record]], second: dict[str, list[Record]]) -> dict[str, object]:
    """First minus second by name of the data, then by mode; see `lib.evaluation.compare`."""
    return {name: next(iter(compare_records(own, second[name])["datasets"].values())) for name, own in first.items()}


def _require_same_run(arguments: argparse.Namespace) -> None:
    """Write down what the figures depend on, or refuse to mix them with those of another run."""
    settings = {
        "pools": arguments.data_set,
        "held_out": sorted(_held_out(arguments)),
        "minutes": arguments.minutes,
        "batch": arguments.batch,
        "seed": arguments.seed,
        "trial": arguments.trial,
    }
    path = arguments.out / "settings.json"
    if path.exists() and (held := json.loads(path.read_text())) != settings:
        raise SystemExit(f"{path} is of another run: {held}. Expected {settings}. Choose another --out.")
    write_json(path, settings)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-set", action="append", required=True, help="PRESET=FOLDER[:SHARE] of training volumes")
    parser.add_argument("--held-out", type=Path, required=True, help="names of cases never trained on, one a line")
    parser.add_argument("--images", action="append", required=True, help="PRESET=FOLDER with images/ and labels/")
    parser.add_argument("--minutes", type=float, default=20.0, help="of a core, for each network")
    parser.add_argument("--networks", nargs="+", choices=PEERS, default=list(PEERS), help="the first is compared with")
    parser.add_argument("--peak-lr", action="append", default=[], type=_rate, help="NETWORK=RATE in place of 2e-3")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2, help="trainings, or processes of an evaluation, at a time")
    parser.add_argument("--spacing-mm", type=float, help="evaluate at this spacing alone, not as the presets look")
    parser.add_argument("--trial", action="store_true", help="the sizes and regions of the tests")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", choices=PEERS, help=argparse.SUPPRESS)
    add_option(parser, TABLES)
    return parser.parse_args()


def _rate(text: str) -> tuple[str, float]:
    name, _, rate = text.partition("=")
    if name not in PEERS:
        raise argparse.ArgumentTypeError(f"'{name}' is no network; choose from: {', '.join(PEERS)}.")
    return name, float(rate)


if __name__ == "__main__":
    main()
