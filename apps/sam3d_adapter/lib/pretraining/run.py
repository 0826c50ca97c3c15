"""Makes the shipped weights by a recipe: phantoms, training, weights, curve, manifests. Finished parts are kept."""

import hashlib
import json
import logging
import os
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from matplotlib.figure import Figure

from lib.files.atomic_write import replacing
from lib.files.checksums import file_sha256
from lib.files.lock import file_lock, locked
from lib.phantoms.data_set import phantom_file, write_phantoms
from lib.pretraining.plan import MADE_FILE, Machine, agree, read_device, shorter_lengths
from lib.pretraining.pretrain import LOG_S, Pretraining, pretrain
from lib.pretraining.recipe import Recipe, RecipeError, check_data
from lib.pretraining.spawning import ProcessFailedError, free_port, join_as, run_together
from lib.training.data_sets import DataSetError, case_name, labels_of, volume_files
from lib.training.distributed import joined_processes
from lib.training.micro_batching import MemoryShortageError
from lib.training.train import TrainingConfig
from lib.version import __version__
from lib.volumes.volume import ImageError

LOG_FILE = "training.log"
REFUSED = (RecipeError, DataSetError, ImageError, MemoryShortageError, ProcessFailedError, OSError)
"""Errors that a user sees as one sentence."""
_ORPHANS_S = 60.0
"""Seconds to wait for processes of a killed command, which end by themselves within a step."""

_PHANTOM_LOG_S = 10.0
_HELD_OUT = {"dice": ("tab:red", "Dice, one click, held out"), "dice_5": ("tab:blue", "Dice, five clicks, held out")}
"""Of the picture: key of a point, colour, legend."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Made:
    """Finished weights.

    Attributes:
        base: The frozen part.
        weights: The trained part, bound to that base.
        manifests: Preset, and manifest of the held-out cases, for each modality.
    """

    base: Path
    weights: Path
    manifests: tuple[tuple[str, Path], ...]

    def commands(self) -> list[str]:
        """Commands that evaluate them on the held-out cases of each modality."""
        return [
            f"make evaluate PRESET={preset} MANIFEST={_quoted(manifest)} BASE={_quoted(self.base)} "
            f"MODEL={_quoted(self.weights)} OUT={_quoted(manifest.with_name(f'evaluation_{manifest.stem}'))}"
            for preset, manifest in self.manifests
        ]


def make_weights(recipe: Recipe, data: Path, held_out: Path, out: Path, device: str | None = None) -> Made:
    """Makes the weights, or finishes what an earlier, stopped command began.

    Args:
        recipe: To follow.
        data: Folder of the patients' volumes.
        held_out: Text file with the names of the cases that are never trained on.
        out: Folder of all results.
        device: ``cpu`` or ``cuda``; None for the GPU where there is one, or the device it began on.

    Raises:
        RecipeError: An argument does not fit; raised before anything is made where possible.
        ProcessFailedError, DataSetError, OSError: While it is made.
    """
    out = out.resolve()
    if device is not None:
        read_device(device)
    cases = check_data(recipe, data, _names(held_out))
    facts: dict[str, object] = {
        "data_sha256": {folder: _data_sha256(data / folder) for folder in cases},
        "held_out": {"file": held_out.name, "sha256": file_sha256(held_out)},
    }
    out.mkdir(parents=True, exist_ok=True)
    lock = file_lock(out / "make_weights.lock", 0)
    with locked(lock, RecipeError(f"Another command is making weights in {out}.")):
        machine = agree(out, recipe, facts, device)
        log_to(out / LOG_FILE, logging.INFO)
        provenance = _provenance(recipe, cases, machine) | facts
        if shorter := shorter_lengths(out):
            provenance["begun_for"] = shorter
        training = _training(recipe, data, held_out, out, machine, provenance)
        made = Made(
            out / f"{training.size}_base.safetensors",
            out / f"{training.size}_{recipe.name}.safetensors",
            _manifests(recipe, data, held_out, out),
        )
        if _is_made(made):
            logger.info("The weights in %s are made; nothing is left to do.", out)
            return made
        cores = len(os.sched_getaffinity(0))
        for folder, seeds in _phantoms(recipe, out).items():
            make_phantoms(folder, seeds, min(cores, 8))
        regions, log = machine.processes * machine.batch, out / LOG_FILE
        logger.info(
            "Training %s, %d region(s) a step: %s. The log is %s.", training.size, regions, machine.describe(), log
        )
        run_together(_train, (training, machine, free_port()), machine.processes, refused=REFUSED)
        _finish(made, recipe, training)
    return made


def _phantoms(recipe: Recipe, out: Path) -> dict[Path, range]:
    return {out / "phantoms/train": recipe.phantoms, out / "phantoms/held_out": recipe.held_out_phantoms}


def _training(
    recipe: Recipe, data: Path, held_out: Path, out: Path, machine: Machine, provenance: Mapping[str, object]
) -> Pretraining:
    phantoms, held_out_phantoms = (recipe.phantom_choice(*data_set) for data_set in _phantoms(recipe, out).items())
    patients = tuple(part.choice(data.resolve()) for part in recipe.patients)
    return Pretraining(
        data_sets=(phantoms, *patients),
        validation=(*patients, held_out_phantoms),
        held_out=_names(held_out),
        config=TrainingConfig(
            minutes=recipe.minutes,
            steps=recipe.steps,
            peak_lr=recipe.peak_lr,
            report_s=recipe.report_s,
            log_s=LOG_S,
            seed=recipe.seed,
            workers=machine.workers,
            precision=machine.precision,
        ),
        out=out,
        batch=machine.batch,
        validation_batches=recipe.validation_batches,
        name=recipe.name,
        provenance=provenance,
    )


def _provenance(
    recipe: Recipe, cases: Mapping[str, tuple[list[str], list[str]]], machine: Machine
) -> dict[str, object]:
    seeds = recipe.phantoms
    patients = {name for trained, _ in cases.values() for name in trained}
    counts = ", ".join(f"{len(trained)} of {folder}" for folder, (trained, _) in cases.items())
    return {
        "data": [
            f"{len(seeds)} synthetic CT-like phantoms (lib.phantoms, seeds {seeds[0]}-{seeds[-1]})",
            f"{counts}; {len(patients)} patients: {recipe.source}",
        ],
        "licence": recipe.licence,
        "recipe": recipe.to_dict(),
        "machine": vars(machine),
        "version": __version__,
    }


def _train(number: int, training: Pretraining, machine: Machine, port: int) -> None:
    log_to(training.out / LOG_FILE, logging.WARNING if number else logging.INFO)
    torch.set_num_threads(1)
    join_as(number, machine.processes, port)
    # Processes of a command that was just killed may still run and must not write any more.
    lock = file_lock(training.out / f"training_{number}.lock", _ORPHANS_S)
    with (
        locked(lock, RecipeError(f"A process of an earlier command is still training in {training.out}.")),
        joined_processes(machine.device) as device,
    ):
        pretrain(training, device)


def _finish(made: Made, recipe: Recipe, training: Pretraining) -> None:
    files = (made.base, made.weights)
    size = sum(file.stat().st_size for file in files)
    if size > recipe.most_bytes:
        raise RecipeError(
            f"{made.base} and {made.weights} have {size / 1e6:.1f} MB together; at most {recipe.most_bytes / 1e6:g} MB "
            "are expected of weights that ship."
        )
    draw_curves([training.out / f"{training.size}_curve.json"], training.out / f"{training.size}_curve.png")
    with replacing(training.out / MADE_FILE) as partial:
        partial.write_text(json.dumps({file.name: file_sha256(file) for file in files}, indent=1) + "\n")
    logger.info("%s and %s: %.1f MB together.", made.base, made.weights, size / 1e6)


def _is_made(made: Made) -> bool:
    """Whether both files are the finished ones."""
    path = made.base.parent / MADE_FILE
    if not path.exists():
        return False
    try:
        held = json.loads(path.read_text())
        return bool(held == {file.name: file_sha256(file) for file in (made.base, made.weights)})
    except (OSError, ValueError):
        return False


def _manifests(recipe: Recipe, data: Path, held_out: Path, out: Path) -> tuple[tuple[str, Path], ...]:
    """Writes a manifest of the held-out cases of each modality, for the evaluation."""
    manifests = []
    for part in recipe.patients:
        choice = part.choice(data.resolve())
        data_set = choice.open(_names(held_out), validation=True)
        entries = [
            {"image": str(file), "label": str(labels_of(file)), "case": case_name(file), "patient": case_name(file),
             "dataset": part.folder, "split": "held_out"}
            for file in data_set.files
        ]  # fmt: skip
        path = out / f"{part.folder}_held_out.json"
        with replacing(path) as partial:
            partial.write_text(json.dumps({"cases": entries}, indent=1) + "\n", encoding="utf-8")
        manifests.append((part.preset, path))
    return tuple(manifests)


def _names(held_out: Path) -> frozenset[str]:
    if not held_out.is_file():
        raise RecipeError(f"The list of held-out cases {held_out} is no file; expected names, one a line.")
    return frozenset(held_out.read_text(encoding="utf-8").split())


def _data_sha256(folder: Path) -> str:
    """sha256 over all labelled images and their labels, with their names."""
    digest = hashlib.sha256()
    for image in volume_files(folder):
        for file in (image, labels_of(image)):
            digest.update(f"{file.parent.name}/{file.name} {file_sha256(file)}\n".encode())
    return digest.hexdigest()


def log_to(path: Path, level: int) -> None:
    """Logs to the terminal, and appends to a file."""
    logging.basicConfig(
        level=level,
        format="%(asctime)s %(message)s",
        handlers=[logging.StreamHandler(), logging.FileHandler(path, encoding="utf-8")],
        force=True,
    )


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))


def make_phantoms(out: Path, seeds: Sequence[int], processes: int) -> None:
    """Makes the missing phantoms on several processes.

    Args:
        out: Folder, made if it is absent. No other command may write into it.
        seeds: One phantom each.
        processes: Most processes.

    Raises:
        ProcessFailedError: The disk is full, or the like.
    """
    out.mkdir(parents=True, exist_ok=True)
    for left in out.glob("*.partial"):
        left.unlink()
    missing = [seed for seed in seeds if not phantom_file(out, seed).exists()]
    if not missing:
        return
    processes = min(processes, len(missing))
    logger.info("Making %d phantoms in %s, about 2 s each, in %d processes.", len(missing), out, processes)
    run_together(
        _make_some, (out, missing, processes), processes, refused=(OSError,), on_wait=_PhantomProgress(out, missing)
    )


def _make_some(number: int, out: Path, seeds: Sequence[int], processes: int) -> None:
    write_phantoms(out, seeds[number::processes])


class _PhantomProgress:
    """Logs from time to time how many phantoms are there."""

    def __init__(self, out: Path, seeds: Sequence[int]) -> None:
        self._out, self._seeds = out, seeds
        self._began = self._logged = time.monotonic()

    def __call__(self) -> None:
        now = time.monotonic()
        if now - self._logged < _PHANTOM_LOG_S:
            return
        self._logged = now
        done = sum(phantom_file(self._out, seed).exists() for seed in self._seeds)
        if done:
            left = (now - self._began) / done * (len(self._seeds) - done) / 60
            logger.info("%d of %d phantoms, about %.1f min left", done, len(self._seeds), left)


def draw_curves(curves: Sequence[Path], out: Path) -> None:
    """Draws loss and Dice over minutes, of trainings that each started from the weights of the one before.

    Args:
        curves: ``<size>_curve.json`` as `lib.training.train.train` writes it, in their order.
        out: PNG file.
    """
    # Not by pyplot, whose state belongs to the main thread and stays when something fails.
    figure = Figure(figsize=(7, 3.5), layout="constrained")
    left = figure.subplots()
    right = left.twinx()
    began, steps = 0.0, 0
    for number, path in enumerate(curves):
        points = json.loads(path.read_text())
        minutes = [began + p["minutes"] for p in points]
        name = None if number else "training loss (Dice + cross-entropy)"
        left.plot(minutes, [p["loss"] for p in points], color="tab:gray", label=name)
        for key, (colour, label) in _HELD_OUT.items():
            if key in points[0]:
                is_last = number == len(curves) - 1
                right.plot(
                    minutes, [p[key] for p in points], color=colour, marker=".", label=label if is_last else None
                )
        if number:
            left.axvline(began, color="black", linewidth=0.6)
        began, steps = minutes[-1], steps + int(points[-1]["step"])
    left.set(xlabel="minutes", ylabel="loss", ylim=(0, None))
    right.set(ylabel="Dice", ylim=(0, 1))
    handles = left.get_legend_handles_labels()[0] + right.get_legend_handles_labels()[0]
    # An opaque box: the line between two trainings runs behind the legend.
    left.legend(handles=handles, loc="lower center", facecolor="white", framealpha=1, edgecolor="none", fontsize=8)
    left.set_title(f"{steps} steps")
    with replacing(out) as partial:
        figure.savefig(partial, dpi=110, format="png")
