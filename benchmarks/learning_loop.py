"""What the server learns from submitted labels: through the running server, measured on patients it never got.

python -m benchmarks.learning_loop --data DIR --preset mr --out OUT [--labels 20] [--epochs 10] \\
  [--beside NAME=PRESET=DIR] [--also NAME=PRESET=DIR] [--only FILE] [--result FILE]

DIR holds images/ and labels/ (everything above 0 is the object). Every 17th case is held out; of the others, so many
labels as asked for are submitted. One round of training follows, then a second one in which the labels of all patients
who are trained on were replaced by their neighbour's, which is to be refused. The shipped weights and the version that
was published are then evaluated on the held-out cases, and on those of --only in the folders of --also, to see what was
forgotten. --beside is an earlier structure of the preset: as many labels of it are submitted, none of a case in --only.
"""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from monailabel.client import MONAILabelClient

from benchmarks.dialogues import MODES, Data, dice_at, evaluate, of_mode
from benchmarks.results import Row, add_option, report
from demo import APP_DIR
from lib.annotations.splits import TRAIN
from lib.host.process.launch import running_server
from lib.registry.registry import Registry

HELD_OUT_EVERY = 17
_POLL_S = 5.0


def submit(
    client: MONAILabelClient, name: str, image: Path | None, label: Path, folder: Path, structure: str = "structure"
) -> None:
    """An image, unless it is there, and its label as one object of that name."""
    if image is not None:
        client.upload_image(str(image), name)
    read = nib.load(label)
    one = nib.Nifti1Image((np.asarray(read.dataobj) > 0).astype(np.uint8), read.affine)
    path = folder / "label.nii.gz"
    nib.save(one, path)
    client.save_label(name, str(path), params={"label_info": [{"name": structure, "idx": 1}]})


def train(client: MONAILabelClient, preset: str, epochs: int, **settings: Any) -> dict[str, Any]:
    """A round, and what viewers are told of it, with its seconds."""
    began = time.monotonic()
    client.train_start(preset, {"max_epochs": epochs, "started_by": "benchmark", **settings})
    while client.train_status(False)["status"] in ("SUBMITTED", "RUNNING"):
        time.sleep(_POLL_S)
    stats: dict[str, Any] = client.info()["train_stats"][preset]
    return {**stats, "wall_s": time.monotonic() - began}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--preset", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--labels", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--beside", type=Data.parse, help="NAME=PRESET=DIR of an earlier structure, labelled as well")
    parser.add_argument("--also", action="append", default=[], type=Data.parse, help="NAME=PRESET=DIR, as --data")
    parser.add_argument("--only", type=Path, help="names of the cases of --also, one a line; default: all")
    add_option(parser)
    arguments = parser.parse_args()
    out = arguments.out.resolve()
    data = Data("hippocampus" if arguments.data.name == "hippocampus" else "held out", arguments.preset, arguments.data)
    names = data.cases()
    held_out = names[::HELD_OUT_EVERY]
    submitted = np.random.default_rng(0).permutation([name for name in names if name not in held_out])
    submitted = sorted(submitted[: arguments.labels].tolist())
    only = set(arguments.only.read_text(encoding="utf-8").split()) if arguments.only else None
    beside: list[str] = []
    if arguments.beside:
        known = [case for case in arguments.beside.cases() if case not in (only or ())]
        beside = sorted(np.random.default_rng(0).permutation(known)[: arguments.labels].tolist())
    (out / "studies").mkdir(parents=True)
    conf = {"learning_dir": str(out / "learning"), "audit_dir": str(out / "audit")}
    rounds = []
    with running_server(APP_DIR, out / "studies", log_path=out / "server.log", conf=conf) as server:
        client = MONAILabelClient(server.url, tmpdir=str(out))
        for name in submitted:
            image, label = (arguments.data / part / f"{name}.nii.gz" for part in ("images", "labels"))
            submit(client, name, image, label, out)
        for name in beside:
            image, label = (arguments.beside.folder / part / f"{name}.nii.gz" for part in ("images", "labels"))
            submit(client, name, image, label, out, arguments.beside.name)
        rounds.append(train(client, arguments.preset, arguments.epochs))
        spoil(client, arguments.data, submitted, out)
        rounds.append(train(client, arguments.preset, max(1, arguments.epochs // 3)))
    _print_rounds(rounds)
    versions = Registry(out / "learning").of(arguments.preset, "tiny")
    served = versions.served()
    models = {"shipped": ("--version", "shipped")}
    if served:
        models["after the round"] = ("--model", str(versions.weights(served.id)))
    places = {data: held_out}
    places |= {also: [case for case in also.cases() if only is None or case in only] for also in arguments.also}

    def measured() -> Iterator[Row]:
        for place, cases in places.items():
            for version, options in models.items():
                summary = evaluate(place, cases, out / f"{place.name}_{version}".replace(" ", "_"), *options)
                for mode in MODES:
                    figures = of_mode(summary, mode)
                    yield {
                        "data": place.name, "version": version, "first click": mode, "n": f"{figures['n']} patients",
                        **dice_at(figures), "drop rate": round(figures["drop_rate"]["mean"], 2),
                    }  # fmt: skip

    report(measured(), f"{len(held_out)} held-out cases", arguments.result)


def spoil(client: MONAILabelClient, data: Path, names: Sequence[str], out: Path) -> None:
    """Replaces the label of everybody who is trained on by that of the next one in the list."""
    split = json.loads((out / "learning" / "splits.json").read_text())
    trained = [name for name in names if split["patients"][split["images"][name]] == TRAIN]
    for name, other in zip(trained, [*trained[1:], trained[0]], strict=True):
        submit(client, name, None, data / "labels" / f"{other}.nii.gz", out)


def _print_rounds(rounds: Sequence[dict[str, Any]]) -> None:
    for number, stats in enumerate(rounds, start=1):
        outcome = "published" if stats.get("published") else "not published"
        print(f"round {number}: {stats['stage']}, {stats['epoch']} epochs, {stats['wall_s']:.0f} s, {outcome}")
        for sentence in stats.get("reasons", ()):
            print(f"  {sentence}")


if __name__ == "__main__":
    main()
