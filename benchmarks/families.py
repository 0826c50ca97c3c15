"""The families side by side: `tiny`, and SAM 2 as `micro` and as SAM 2.1 tiny, on the same cases and machine.

python -m benchmarks.families --data NAME=PRESET=FOLDER [--data ...] [--only FILE] [--cases 4] [--micro FILE] \\
  [--sam2-tiny FILE] [--slices 100 400 1000] --out OUT [--result FOLDER]

FOLDER holds images/ and labels/ of equal names; PRESET gives the intensities to all, and the network of `tiny`. A
simulated user clicks ten times on every object (docs/evaluation.md), in one process, one thread. A network of SAM 2's
without a file is not asked for masks.

Then what a click costs, by the number of slices: each figure in a process of its own, on a synthetic CT of 256 x 256
voxels a slice with a bright rod through all of it. Here SAM 2 has random weights that never say the object has ended,
so every slice is tracked: no volume takes longer. Of SAM 2.1 tiny, two short volumes give the cost of a slice.

A run that was stopped goes on when the same command is given again.
"""

import argparse
import dataclasses
import json
import multiprocessing
import resource
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.dialogues import MODES, Data
from benchmarks.evaluated import evaluated_records
from benchmarks.results import Row, Value, add_option, interval, report
from demo import APP_DIR
from lib.evaluation.cases import Source, from_folders
from lib.evaluation.evaluate import Evaluation
from lib.evaluation.evaluated_segmenter import SegmenterChoice
from lib.evaluation.ledger import write_json
from lib.evaluation.record import Record
from lib.evaluation.statistics import by_patient
from lib.evaluation.statistics import interval as interval_of
from lib.families.sam2.network import build_network
from lib.families.sam2.segmenter import Sam2Segmenter
from lib.families.sam2.settings import SliceSettings
from lib.presets import Preset, load_preset
from lib.presets.preset import ModelPreset
from lib.prompts.click import Click
from lib.prompts.prompts import Prompts
from lib.segmenters.contract import LoadedModel, Options, Segmenter, Stages
from lib.serving.preset_segmenter import PresetSegmenter, SharedState
from lib.volumes.volume import Volume, make_volume

TABLES = ("families", "families_cost")
TINY, MICRO, SAM2_TINY = "tiny", "SAM 2 micro", "SAM 2.1 tiny"
COSTED = (TINY, MICRO, SAM2_TINY)
SIZES = {MICRO: "micro", SAM2_TINY: "tiny"}
SHORT = (8, 16)
"""Slices of the volumes on which a click with SAM 2.1 tiny is measured."""
NOT_MEASURED = "not measured: weights cannot be fetched here"
SHOWN = (1, 2, 3, 5, 10)
SEED, TIMEOUT_S = 42, 3600.0
"""The timeout is far above what a request takes, so that a busy machine does not count as a failure."""
FURTHER, WARM_UP = 3, 3
CACHE_MIB = 2048
"""The server's default."""


def preset_of(data: Data, model: str, weights: Path | None) -> Preset:
    """The preset of some data with the network of a model."""
    preset = load_preset(APP_DIR / "configs" / f"{data.preset}.yaml")
    if weights is None:
        return preset
    network = ModelPreset("sam2", SIZES[model], (str(weights.resolve()),))
    return dataclasses.replace(preset, model=network, settings=SliceSettings("same", 3, preset.intensity))


def evaluated(preset: Preset, sources: Sequence[Source], out: Path) -> list[Record]:
    """Records of all cases, of an earlier run where it is finished."""
    choice = SegmenterChoice(APP_DIR, dataclasses.replace(preset, image_free=None), "cpu", "fp32")
    return evaluated_records(Evaluation(choice, sources, out, MODES, (SEED,), timeout_s=TIMEOUT_S))


def quality(data: Data, model: str, mode: str, records: Sequence[Record]) -> Row:
    """A row of the first table."""
    own = [record for record in records if record["mode"] == mode]

    def at(click: int) -> Value:
        return interval(interval_of(by_patient((record["patient"], record["dice"][click - 1]) for record in own)))

    curves = np.array([record["dice"] for record in own])
    steps = np.diff(curves.mean(axis=0))
    asked = [(n, ms) for record in own for n, ms in enumerate(record["request_ms"]) if ms is not None]
    first, further = ([ms / 1000 for n, ms in asked if (n == 0) == is_first] for is_first in (True, False))
    return {
        "data": data.name,
        "model": model,
        "first click": mode,
        "patients": len({record["patient"] for record in own}),
        "objects": len(own),
        **{f"Dice at {click}": at(click) for click in SHOWN},
        "Dice by click": " ".join(f"{dice:.2f}" for dice in curves.mean(axis=0)),
        "least mean change a click": round(float(steps.min()), 3),
        "drop rate": round(float(np.mean([record["drop_rate"] for record in own])), 2),
        **_times("first click", first),
        **_times("further click", further),
    }


def _times(name: str, seconds: Sequence[float]) -> dict[str, Value]:
    if not seconds:
        return {f"{name} s": None, f"{name} s, p95": None}
    median, p95 = (round(float(value), 2) for value in np.percentile(seconds, (50, 95)))
    return {f"{name} s": median, f"{name} s, p95": p95}


def qualities(arguments: argparse.Namespace) -> Iterator[Row]:
    """The first table."""
    only = set(arguments.only.read_text(encoding="utf-8").split()) if arguments.only else set()
    files = {TINY: None, MICRO: arguments.micro, SAM2_TINY: arguments.sam2_tiny}
    for data in arguments.data:
        sources = from_folders(data.folder / "images", data.folder / "labels", dataset=data.name)
        chosen = [source for source in sources if source.name in only] or sources
        sources = chosen[: arguments.cases]
        for model, weights in files.items():
            if weights is None and model != TINY:
                yield {"data": data.name, "model": model, "first click": NOT_MEASURED}
                continue
            out = arguments.out / data.name / model.replace(" ", "_")
            records = evaluated(preset_of(data, model, weights), sources, out)
            yield from (quality(data, model, mode, records) for mode in MODES)


def segmenter_of(model: str, state: SharedState) -> Segmenter:
    """What answers in the second table."""
    preset = load_preset(APP_DIR / "configs/ct.yaml")
    if model == TINY:
        return PresetSegmenter(preset, APP_DIR, state).open("cpu").segmenter
    torch.manual_seed(0)
    network = build_network(SIZES[model]).eval().requires_grad_(False)
    network.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(30.0)
    loaded = LoadedModel(network, "random", torch.device("cpu"), threading.Lock())
    return Sam2Segmenter(loaded, SliceSettings("same", 3, preset.intensity), "rod", state.cache)


def rod(slices: int) -> Volume:
    """A CT of soft tissue with a rod of 18 mm radius through all slices, brighter by 60 HU; 1.5 x 1.5 x 2 mm."""
    rng = np.random.default_rng(slices)
    values = np.empty((256, 256, slices), np.int16, order="F")
    i, j = (np.arange(256) - 128)[:, None], (np.arange(256) - 128)[None]
    for k in range(slices):
        values[..., k] = 40 + 60 * (i**2 + j**2 < 12**2) + rng.normal(0, 15, (256, 256))
    return make_volume(values, np.diag([1.5, 1.5, 2.0, 1.0]), f"rod of {slices}")


def measured(model: str, slices: int, path: Path) -> None:
    """One first click and some further ones, in this process; writes what they cost."""
    torch.set_num_threads(1)
    state = SharedState.of(CACHE_MIB, "fp32")
    segmenter = segmenter_of(model, state)
    # The very first answer of a process is slower.
    segmenter.segment(rod(WARM_UP), Prompts((Click((128, 128, 1)),)), Options(), Stages())
    state.cache.clear()
    image = rod(slices)
    loaded_mib = _peak_mib()
    middle = slices // 2
    clicks = [Click((128, 128, middle))]
    seconds = []
    for number in range(1 + FURTHER):
        began = time.process_time()
        segmenter.segment(image, Prompts(tuple(clicks)), Options(), Stages())
        seconds.append(time.process_time() - began)
        # On and beside the rod by turns, farther and farther from the first click.
        beside = number % 2 == 0
        clicks.append(Click((128 + 20 * beside, 128, middle + 1 + number), is_foreground=not beside))
    peak_mib, kept = _peak_mib(), state.cache.stats().nbytes
    write_json(
        path,
        {
            "model": model,
            "slices": slices,
            "first click, s of one core": round(seconds[0], 2),
            "further click": round(float(np.median(seconds[1:])), 2),
            "longest": round(max(seconds[1:]), 2),
            "peak MiB": round(peak_mib),
            "of it image and weights MiB": round(loaded_mib),
            "cache MiB": round(kept / 2**20),
        },
    )


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def costs(arguments: argparse.Namespace) -> Iterator[Row]:
    """The second table."""
    for model in COSTED:
        for slices in SHORT if model == SAM2_TINY else arguments.slices:
            path = arguments.out / "cost" / f"{model.replace(' ', '_')}_{slices}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                process = multiprocessing.get_context("spawn").Process(target=measured, args=(model, slices, path))
                process.start()
                process.join()
                if process.exitcode:
                    raise SystemExit(f"{model}, {slices} slices: ended with {process.exitcode}.")
            yield json.loads(path.read_text(encoding="utf-8"))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", action="append", type=Data.parse, default=[], help="NAME=PRESET=FOLDER")
    parser.add_argument("--only", type=Path, help="names of cases, one a line; where a folder has some, those alone")
    parser.add_argument("--cases", type=int, default=4, help="most cases of each data set")
    parser.add_argument("--micro", type=Path, help="weights of size micro")
    parser.add_argument("--sam2-tiny", type=Path, help="weights of SAM 2.1 tiny, converted")
    parser.add_argument("--slices", type=int, nargs="+", default=[100, 400, 1000])
    parser.add_argument("--out", type=Path, required=True)
    add_option(parser, TABLES)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    tables = (qualities(arguments), f"at most {arguments.cases} cases of each data set"), (costs(arguments), "one run")
    for name, (rows, n) in zip(TABLES, tables, strict=True):
        report(rows, n, None if arguments.result is None else arguments.result / f"{name}.json")


if __name__ == "__main__":
    main()
