"""Makes the shipped weights by a recipe: volumes, training, weights, curve, manifests. Finished parts are kept."""

import hashlib
import json
import logging
import os
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from lib.files.atomic_write import replacing
from lib.files.checksums import file_sha256
from lib.files.lock import file_lock, locked
from lib.presets import DEFAULT_FAMILY, load_preset, load_presets
from lib.pretraining.plan import MADE_FILE, Machine, agree, read_device, shorter_lengths
from lib.pretraining.pretrain import CONFIGS, LOG_S, Pretraining
from lib.pretraining.recipe import Recipe, check_data
from lib.pretraining.sources import Generated, Labelled, RecipeError
from lib.pretraining.spawning import ProcessFailedError, free_port, join_as, run_together
from lib.regions.data_set import RegionsError
from lib.segmenters import families
from lib.segmenters.contract import PretrainedFamily
from lib.synthesis.label_maps import LabelMapError
from lib.training.data_sets import DataSetError, case_name, labels_of
from lib.training.distributed import joined_processes
from lib.training.micro_batching import MemoryShortageError
from lib.training.train import TrainingConfig
from lib.version import __version__
from lib.volumes.objects import volume_of_seed
from lib.volumes.read import read_volume
from lib.volumes.volume import ImageError

DEFAULT_SIZE = "tiny"
"""That of the weights that ship."""
LOG_FILE = "training.log"
REFUSED = (
    RegionsError,
    LabelMapError,
    RecipeError,
    DataSetError,
    ImageError,
    MemoryShortageError,
    ProcessFailedError,
    OSError,
)
"""Errors that a user sees as one sentence."""
_ORPHANS_S = 60.0
"""Seconds to wait for processes of a killed command, which end by themselves within a step."""

_PROGRESS_LOG_S = 20.0
_HELD_OUT = {"dice": ("tab:red", "Dice, one click, held out"), "dice_5": ("tab:blue", "Dice, five clicks, held out")}
"""Of the picture: key of a point, colour, legend."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Made:
    """Finished weights.

    Attributes:
        files: As the family names them, the trained part last; each is bound to those before.
        manifests: Preset, and manifest of the held-out cases, for each source.
    """

    files: tuple[Path, ...]
    manifests: tuple[tuple[str, Path], ...]

    def commands(self) -> list[str]:
        """Commands that evaluate them on the held-out cases of each source."""
        *base, weights = (_quoted(file) for file in self.files)
        given = " ".join([*(f"BASE={file}" for file in base), f"MODEL={weights}"])
        return [
            f"make evaluate PRESET={preset} MANIFEST={_quoted(manifest)} {given} "
            f"OUT={_quoted(manifest.with_name(f'evaluation_{manifest.stem}'))}"
            for preset, manifest in self.manifests
        ]


def pretrained_sizes() -> dict[str, PretrainedFamily]:
    """The family of each size that can be made here."""
    found = [family for family in families().values() if isinstance(family, PretrainedFamily)]
    return {size: family for family in found for size in family.pretrained_sizes}


def make_weights(
    recipe: Recipe,
    data: Path,
    held_out: Path,
    out: Path,
    device: str | None = None,
    parent: tuple[Path, Path] | None = None,
    size: str = DEFAULT_SIZE,
) -> Made:
    """Makes the weights, or finishes what an earlier, stopped command began.

    Args:
        recipe: To follow.
        data: Folder of the volumes.
        held_out: Text file with the names of the cases that are never trained on.
        out: Folder of all results.
        device: ``cpu`` or ``cuda``; None for the GPU where there is one, or the device it began on.
        parent: Base and weights to start from; None to start from scratch.
        size: Of the network, one of `pretrained_sizes`.

    Raises:
        RecipeError: An argument does not fit; raised before anything is made where possible.
        ProcessFailedError, DataSetError, OSError: While it is made.
    """
    out = out.resolve()
    if size not in (sizes := pretrained_sizes()):
        raise RecipeError(f"No weights of size '{size}' can be made; choose from: {', '.join(sorted(sizes))}.")
    if device is not None:
        read_device(device)
    cases = check_data(recipe, data, _names(held_out))
    facts: dict[str, object] = {
        "data_sha256": _data_sha256(recipe, data, _names(held_out)),
        "held_out": {"file": held_out.name, "sha256": file_sha256(held_out)},
        "parent": None if parent is None else [file_sha256(file) for file in parent],
        # Plans of before there was a choice have none.
        "size": None if size == DEFAULT_SIZE else size,
    }
    out.mkdir(parents=True, exist_ok=True)
    lock = file_lock(out / "make_weights.lock", 0)
    with locked(lock, RecipeError(f"Another command is making weights in {out}.")):
        machine = agree(out, recipe, facts, device)
        log_to(out / LOG_FILE, logging.INFO)
        provenance = _provenance(recipe, cases, machine) | facts
        if shorter := shorter_lengths(out):
            provenance["begun_for"] = shorter
        training = _training(recipe, data, held_out, out, machine, provenance, parent)
        *frozen, _ = sizes[size].files
        files = tuple(out / f"{size}_{part}.safetensors" for part in (*frozen, recipe.name))
        made = Made(files, _manifests(recipe, data, held_out, out, sizes[size].name, size))
        if _is_made(made):
            logger.info("The weights in %s are made; nothing is left to do.", out)
            return made
        cores = len(os.sched_getaffinity(0))
        for source in recipe.generated:
            make_volumes(source, out, data, _names(held_out), min(cores, 8))
        samples, log = machine.processes * machine.batch, out / LOG_FILE
        logger.info("Training %s, %d sample(s) a step: %s. The log is %s.", size, samples, machine.describe(), log)
        run_together(_train, (size, training, machine, free_port()), machine.processes, refused=REFUSED)
        _finish(made, recipe, out / f"{size}_curve.json")
    return made


def _training(
    recipe: Recipe,
    data: Path,
    held_out: Path,
    out: Path,
    machine: Machine,
    provenance: Mapping[str, object],
    parent: tuple[Path, Path] | None = None,
) -> Pretraining:
    choices = {
        source: source.choice(data.resolve() if isinstance(source, Labelled) else out) for source in recipe.sources
    }
    return Pretraining(
        data_sets=tuple(choice for source, choice in choices.items() if source.share),
        validation=tuple(
            choice for source, choice in choices.items() if isinstance(source, Labelled) or not source.share
        ),
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
        parent=parent,
        name=recipe.name,
        provenance=provenance,
    )


def _provenance(
    recipe: Recipe, cases: Mapping[str, tuple[list[str], list[str]]], machine: Machine
) -> dict[str, object]:
    return {
        "data": [
            *(f"{len(trained)} of {folder}" for folder, (trained, _) in cases.items() if trained),
            *(
                f"{len(source.seeds)} {source.name}, made from {', '.join(source.inputs) or 'nothing'}"
                for source in recipe.generated
                if source.share
            ),
            "sources and licences: NOTICE",
        ],
        "licence": recipe.licence,
        "recipe": recipe.to_dict(),
        "machine": vars(machine),
        "version": __version__,
    }


def _train(number: int, size: str, training: Pretraining, machine: Machine, port: int) -> None:
    log_to(training.out / LOG_FILE, logging.WARNING if number else logging.INFO)
    torch.set_num_threads(1)
    join_as(number, machine.processes, port)
    # Processes of a command that was just killed may still run and must not write any more.
    lock = file_lock(training.out / f"training_{number}.lock", _ORPHANS_S)
    with (
        locked(lock, RecipeError(f"A process of an earlier command is still training in {training.out}.")),
        joined_processes(machine.device) as device,
    ):
        pretrained_sizes()[size].pretrain(size, training, device)


def _finish(made: Made, recipe: Recipe, curve: Path) -> None:
    names = " and ".join(map(str, made.files))
    size = sum(file.stat().st_size for file in made.files)
    if size > recipe.most_bytes:
        raise RecipeError(
            f"{names} have {size / 1e6:.1f} MB together; at most {recipe.most_bytes / 1e6:g} MB "
            "are expected of weights that ship."
        )
    draw_curves([curve], curve.with_suffix(".png"))
    with replacing(curve.with_name(MADE_FILE)) as partial:
        partial.write_text(json.dumps({file.name: file_sha256(file) for file in made.files}, indent=1) + "\n")
    logger.info("%s: %.1f MB together.", names, size / 1e6)


def _is_made(made: Made) -> bool:
    """Whether the files are the finished ones."""
    path = made.files[-1].parent / MADE_FILE
    if not path.exists():
        return False
    try:
        held = json.loads(path.read_text())
        return bool(held == {file.name: file_sha256(file) for file in made.files})
    except (OSError, ValueError):
        return False


def _manifests(
    recipe: Recipe, data: Path, held_out: Path, out: Path, family: str = DEFAULT_FAMILY, size: str = DEFAULT_SIZE
) -> tuple[tuple[str, Path], ...]:
    """Writes a manifest of the held-out cases of each source, for the evaluation; the preset is one of the family."""
    presets = load_presets(CONFIGS).values()
    own = {one.modality: one.name for one in presets if (one.model.family, one.model.size) == (family, size)}
    manifests = []
    for source in recipe.labelled:
        data_set = source.choice(data.resolve()).open(_names(held_out), validation=True)
        entries = [entry for file in data_set.files for entry in _entries(file, source)]
        path = out / f"{source.name}_held_out.json"
        with replacing(path) as partial:
            partial.write_text(json.dumps({"cases": entries}, indent=1) + "\n", encoding="utf-8")
        preset = load_preset(CONFIGS / f"{source.preset}.yaml")
        if preset.model.family == family:
            manifests.append((preset.name, path))
        elif preset.modality in own:
            manifests.append((own[preset.modality], path))
    return tuple(manifests)


def _entries(image: Path, source: Labelled) -> list[dict[str, object]]:
    """A case of the evaluation for each object of an image."""
    name, labels = case_name(image), labels_of(image)
    common: dict[str, object] = {
        "image": str(image),
        "label": str(labels),
        "patient": name,
        "dataset": source.name,
        "split": "held_out",
    }
    if not source.labels_are_objects:
        return [common | {"case": name}]
    values = np.unique(read_volume(labels).voxels.numpy())
    return [common | {"case": f"{name}_{value}", "label_value": int(value)} for value in values if value]


def _names(held_out: Path) -> frozenset[str]:
    if not held_out.is_file():
        raise RecipeError(f"The list of held-out cases {held_out} is no file; expected names, one a line.")
    return frozenset(held_out.read_text(encoding="utf-8").split())


def _data_sha256(recipe: Recipe, data: Path, held_out: frozenset[str]) -> dict[str, str]:
    """sha256 over all files that a source reads, with their names, by source."""
    found = {}
    for source in recipe.sources:
        digest = hashlib.sha256()
        for file in source.read(data, held_out):
            digest.update(f"{file.parent.name}/{file.name} {file_sha256(file)}\n".encode())
        found[source.name] = digest.hexdigest()
    return found


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


def make_volumes(source: Generated, out: Path, data: Path, held_out: frozenset[str], processes: int) -> None:
    """Makes the missing volumes of a source on several processes.

    Args:
        source: What to make.
        out: Folder of results. No other command may write into it.
        data: Folder of the data.
        held_out: Cases that nothing is made from.
        processes: Most processes.

    Raises:
        ProcessFailedError: The disk is full, an input cannot be read, or the like.
    """
    folder = out / source.name
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob("*.partial"):
        left.unlink()
    missing = [seed for seed in source.seeds if not volume_of_seed(folder, seed).exists()]
    if not missing:
        return
    processes = min(processes, len(missing))
    logger.info("Making %d volumes in %s, in %d processes.", len(missing), folder, processes)
    work = (source, out, data, held_out, missing, processes)
    run_together(_make_some, work, processes, refused=REFUSED, on_wait=_MakingProgress(folder, missing))


def _make_some(
    number: int,
    source: Generated,
    out: Path,
    data: Path,
    held_out: frozenset[str],
    seeds: Sequence[int],
    processes: int,
) -> None:
    source.make(out, data, held_out, seeds[number::processes])


class _MakingProgress:
    """Logs from time to time how many volumes are there."""

    def __init__(self, folder: Path, seeds: Sequence[int]) -> None:
        self._folder, self._seeds = folder, seeds
        self._began = self._logged = time.monotonic()

    def __call__(self) -> None:
        now = time.monotonic()
        if now - self._logged < _PROGRESS_LOG_S:
            return
        self._logged = now
        done = sum(volume_of_seed(self._folder, seed).exists() for seed in self._seeds)
        if done:
            left = (now - self._began) / done * (len(self._seeds) - done) / 60
            logger.info("%d of %d volumes, about %.1f min left", done, len(self._seeds), left)


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
