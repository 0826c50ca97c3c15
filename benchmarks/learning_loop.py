"""What the server learns from submitted labels: through the running server, measured on patients it never got.

python -m benchmarks.learning_loop --data DIR --preset mr --out OUT [--labels 20] [--epochs 10] [--also NAME=PRESET=DIR]

DIR holds images/ and labels/ (everything above 0 is the object). Every 17th case is held out; of the others, so many
labels as asked for are submitted. One round of training follows, then a second one in which the labels of all patients
who are trained on were replaced by their neighbour's, which is to be refused. The shipped weights and the version that
was published are then evaluated on the held-out cases, and on folders named by --also, to see what was forgotten.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from monailabel.client import MONAILabelClient

from demo import APP_DIR
from lib.annotations.splits import TRAIN
from lib.host.process.launch import running_server
from lib.registry.registry import Registry

HELD_OUT_EVERY = 17
_POLL_S = 5.0


def submit(client: MONAILabelClient, name: str, image: Path | None, label: Path, folder: Path) -> None:
    """An image, unless it is there, and its label as one object."""
    if image is not None:
        client.upload_image(str(image), name)
    read = nib.load(label)
    one = nib.Nifti1Image((np.asarray(read.dataobj) > 0).astype(np.uint8), read.affine)
    path = folder / "label.nii.gz"
    nib.save(one, path)
    client.save_label(name, str(path), params={"label_info": [{"name": "structure", "idx": 1}]})


def train(client: MONAILabelClient, preset: str, epochs: int) -> dict[str, Any]:
    """A round, and what viewers are told of it, with its seconds."""
    began = time.monotonic()
    client.train_start(preset, {"max_epochs": epochs, "started_by": "benchmark"})
    while client.train_status(False)["status"] in ("SUBMITTED", "RUNNING"):
        time.sleep(_POLL_S)
    stats: dict[str, Any] = client.info()["train_stats"][preset]
    return {**stats, "wall_s": time.monotonic() - began}


def evaluate(images: Path, labels: Path, preset: str, out: Path, model: Path | None) -> dict[str, Any]:
    """``summary.json`` of an evaluation."""
    command = [sys.executable, "-m", "sam3d", "evaluate", "--images", images, "--labels", labels, "--preset", preset]
    command += ["--out", out, "--modes", "centre,random", "--seeds", "42", "--jobs", "2"]
    command += ["--model", model] if model else ["--version", "shipped"]
    subprocess.run([*map(str, command)], check=True, capture_output=True)
    return dict(json.loads((out / "summary.json").read_text()))


def row(name: str, mode: str, summary: dict[str, Any]) -> str:
    """Of the table."""
    found = summary if summary["mode"] == mode else summary["modes"][mode]
    cells = [f"{d['mean']:.3f} ({d['low']:.2f}-{d['high']:.2f})" for d in found["dice_at"].values()]
    return f"| {name} | {mode} | {found['n']} | {' | '.join(cells)} | {found['drop_rate']['mean']:.2f} |"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--preset", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--labels", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--also", action="append", default=[], help="NAME=PRESET=DIR with images/ and labels/")
    arguments = parser.parse_args()
    out = arguments.out.resolve()
    names = sorted(path.name for path in (arguments.data / "labels").iterdir())
    held_out = names[::HELD_OUT_EVERY]
    submitted = np.random.default_rng(0).permutation([name for name in names if name not in held_out])
    submitted = sorted(submitted[: arguments.labels].tolist())
    for part in ("images", "labels"):
        (out / "held_out" / part).mkdir(parents=True)
        for name in held_out:
            shutil.copy(arguments.data / part / name, out / "held_out" / part)
    (out / "studies").mkdir()
    conf = {"learning_dir": str(out / "learning"), "audit_dir": str(out / "audit")}
    rounds = []
    with running_server(APP_DIR, out / "studies", log_path=out / "server.log", conf=conf) as server:
        client = MONAILabelClient(server.url, tmpdir=str(out))
        for name in submitted:
            image, label = (arguments.data / part / name for part in ("images", "labels"))
            submit(client, _id(name), image, label, out)
        rounds.append(train(client, arguments.preset, arguments.epochs))
        spoil(client, arguments.data, submitted, out)
        rounds.append(train(client, arguments.preset, max(1, arguments.epochs // 3)))
    _print_rounds(rounds)
    versions = Registry(out / "learning").of(arguments.preset, "tiny")
    served = versions.served()
    models = {"shipped": None} | ({served.id: versions.weights(served.id)} if served else {})
    places = {"held out": (arguments.preset, out / "held_out")}
    places |= {name: (preset, Path(place)) for name, preset, place in (text.split("=") for text in arguments.also)}
    print(
        "| data, version | first click | patients | Dice at 1 | 3 | 5 | 10 | drops |\n|---|---|---|---|---|---|---|---|"
    )
    for place, (preset, folder) in places.items():
        for version, model in models.items():
            run = out / f"{place}_{version}".replace(" ", "_")
            summary = evaluate(folder / "images", folder / "labels", preset, run, model)
            for mode in ("centre", "random"):
                print(row(f"{place}, {version}", mode, summary))


def spoil(client: MONAILabelClient, data: Path, names: Sequence[str], out: Path) -> None:
    """Replaces the label of everybody who is trained on by that of the next one in the list."""
    split = json.loads((out / "learning" / "splits.json").read_text())
    trained = [name for name in names if split["patients"][split["images"][_id(name)]] == TRAIN]
    for name, other in zip(trained, [*trained[1:], trained[0]], strict=True):
        submit(client, _id(name), None, data / "labels" / other, out)


def _id(name: str) -> str:
    return name.removesuffix(".nii.gz").removesuffix(".nii")


def _print_rounds(rounds: Sequence[dict[str, Any]]) -> None:
    for number, stats in enumerate(rounds, start=1):
        outcome = "published" if stats.get("published") else "not published"
        print(f"round {number}: {stats['stage']}, {stats['epoch']} epochs, {stats['wall_s']:.0f} s, {outcome}")
        for sentence in stats.get("reasons", ()):
            print(f"  {sentence}")


if __name__ == "__main__":
    main()
