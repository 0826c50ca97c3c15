"""How good the small network is beside what one would train in its place: same data, clicks, zoom and computing time.

python -m benchmarks.peers --pool ct=PHANTOMS:1.2 --pool ct=STS_CT:0.6 --pool mr=STS_MR:0.6 --pool pet=STS_PET:0.6 \\
  --held-out benchmarks/sts_validation.txt --images ct=STS_CT --images mr=STS_MR --images pet=STS_PET --minutes 20 --out OUT

Each network of `benchmarks.peer_networks` is trained from scratch on the same stream of regions, on one thread, until
this has used as many minutes of a core as were given; other work on the machine costs it nothing but patience. Nothing is
chosen by the held-out cases. Each is then evaluated on these by the protocol of docs/evaluation.md, and compared with the
first of them. What is finished is not done again: OUT/<network>/ holds its weights and evaluations, OUT/peers.md and
OUT/peers.json the result.
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

from benchmarks.peer_networks import PEERS, Peer, save
from demo import APP_DIR
from lib.evaluation.ledger import write_json
from lib.learning.pools import Pool
from lib.learning.pretrain import read_pool
from lib.learning.sampling import for_training
from lib.learning.train import TrainingConfig, train

REPORT_S = 60.0
TRIAL_ROI = 32
"""Side of the regions of a trial, in voxels: the largest of size "test"."""

logger = logging.getLogger("peers")


def train_peer(peer: Peer, arguments: argparse.Namespace) -> None:
    """Train one network and write its files, last of all what became of it."""
    out = arguments.out / peer.name
    out.mkdir(parents=True, exist_ok=True)
    held_out = frozenset(arguments.held_out.read_text().split())
    pools = [read_pool(text, held_out, validation=False) for text in arguments.pool]
    peak_lr = dict(arguments.peak_lr).get(peer.name, TrainingConfig.peak_lr)
    config = TrainingConfig(
        minutes=arguments.minutes,
        peak_lr=peak_lr,
        report_s=REPORT_S,
        seed=arguments.seed,
        interaction=peer.interaction,
        clock="cpu",
    )
    model = peer.build("test" if arguments.trial else peer.size, arguments.seed)
    roi_size = TRIAL_ROI if arguments.trial else pools[0].preset.roi.size
    stream = peer.stream(pools, for_training(roi_size), arguments.seed, batch=arguments.batch)
    progress = train(model, stream, [], config, out)
    figures = {
        "steps": progress.step,
        "cpu_minutes": progress.spent_s / 60,
        "peak_lr": peak_lr,
        "loss": progress.curve[-1]["loss"],
        "parameters": sum(p.numel() for p in model.parameters()),
        "trained_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
    }
    save(model, out, {"data": [_told(pool) for pool in pools], "seed": arguments.seed, **figures})
    write_json(out / "training.json", figures)


def _told(pool: Pool) -> str:
    return f"{len(pool.files)} volumes of {pool.folder.name}, preset {pool.preset.name}, share {pool.share:g}"


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

    with ThreadPoolExecutor(arguments.jobs) as pool:
        list(pool.map(run, left))


def main() -> None:
    """Command line."""
    arguments = _arguments()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if arguments.only:
        torch.set_num_threads(1)
        train_peer(PEERS[arguments.only], arguments)
        return
    arguments.out.mkdir(parents=True, exist_ok=True)
    _require_same_run(arguments)
    peers = [PEERS[name] for name in arguments.networks]
    train_all(peers, arguments)


def _require_same_run(arguments: argparse.Namespace) -> None:
    """Write down what the figures depend on, or refuse to mix them with those of another run."""
    settings = {
        "pools": arguments.pool,
        "held_out": sorted(arguments.held_out.read_text().split()),
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
    parser.add_argument("--pool", action="append", required=True, help="PRESET=FOLDER[:SHARE] of training volumes")
    parser.add_argument("--held-out", type=Path, required=True, help="names of cases never trained on, one a line")
    parser.add_argument("--images", action="append", required=True, help="PRESET=FOLDER with images/ and labels/")
    parser.add_argument("--minutes", type=float, default=20.0, help="of a core, for each network")
    parser.add_argument("--networks", nargs="+", choices=PEERS, default=list(PEERS), help="the first is compared with")
    parser.add_argument("--peak-lr", action="append", default=[], type=_rate, help="NETWORK=RATE in place of 2e-3")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2, help="trainings, or processes of an evaluation, at a time")
    parser.add_argument("--trial", action="store_true", help="the sizes and regions of the tests")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", choices=PEERS, help=argparse.SUPPRESS)
    return parser.parse_args()


def _rate(text: str) -> tuple[str, float]:
    name, _, rate = text.partition("=")
    if name not in PEERS:
        raise argparse.ArgumentTypeError(f"'{name}' is no network; choose from: {', '.join(PEERS)}.")
    return name, float(rate)


if __name__ == "__main__":
    main()
