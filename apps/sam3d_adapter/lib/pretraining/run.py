"""Follow a recipe: phantoms, training, weights, and what is needed to measure them. What is done is not done again."""

import contextlib
import hashlib
import json
import logging
import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from lib.files.atomic_write import replacing
from lib.files.checksums import file_sha256
from lib.files.lock import wait_for_lock
from lib.pretraining.curve_picture import draw_curves
from lib.pretraining.phantom_sets import make_pool
from lib.pretraining.plan import MADE_FILE, Machine, agree, read_device, shorter_lengths
from lib.pretraining.pretrain import TOLD_S, Pretraining, pretrain
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
"""What a user is told in one sentence."""
_ORPHANS_S = 60.0
"""To wait for processes of a killed command, which end by themselves within a step."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Made:
    """Weights that are there.

    Attributes:
        base: The frozen part.
        weights: The trained part, bound to that base.
        manifests: Preset, and list of the held-out cases of one modality.
    """

    base: Path
    weights: Path
    manifests: tuple[tuple[str, Path], ...]

    def commands(self) -> list[str]:
        """What measures them on the held-out cases of each modality."""
        return [
            f"make evaluate PRESET={preset} MANIFEST={_quoted(manifest)} BASE={_quoted(self.base)} "
            f"MODEL={_quoted(self.weights)} OUT={_quoted(manifest.with_name(f'evaluation_{manifest.stem}'))}"
            for preset, manifest in self.manifests
        ]


def make_weights(recipe: Recipe, data: Path, held_out: Path, out: Path, device: str | None = None) -> Made:
    """Make them, or what an earlier, stopped command left to do.

    Args:
        recipe: How.
        data: Folder of the patients' volumes.
        held_out: Text file with the names of the cases that are never trained on.
        out: Folder of everything that is made.
        device: ``cpu`` or ``cuda``; None for the GPU where there is one, or what it was begun on.

    Raises:
        RecipeError: Something that was given does not fit; before anything is made, where that can be known.
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
    with locked(out / "make_weights.lock", 0.0, f"Another command is making weights in {out}."):
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
            make_pool(folder, seeds, min(cores, 8))
        regions, log = machine.processes * machine.batch, out / LOG_FILE
        logger.info("Training %s, %d region(s) a step: %s. The log is %s.", training.size, regions, machine.told(), log)
        run_together(_train, (training, machine, free_port()), machine.processes, refused=REFUSED)
        _finish(made, recipe, training)
    return made


def _phantoms(recipe: Recipe, out: Path) -> dict[Path, range]:
    return {out / "phantoms/train": recipe.phantoms, out / "phantoms/held_out": recipe.held_out_phantoms}


def _training(
    recipe: Recipe, data: Path, held_out: Path, out: Path, machine: Machine, provenance: Mapping[str, object]
) -> Pretraining:
    phantoms, held_out_phantoms = (recipe.phantom_choice(*pool) for pool in _phantoms(recipe, out).items())
    patients = tuple(part.choice(data.resolve()) for part in recipe.patients)
    return Pretraining(
        pools=(phantoms, *patients),
        validation=(*patients, held_out_phantoms),
        held_out=_names(held_out),
        config=TrainingConfig(
            minutes=recipe.minutes,
            steps=recipe.steps,
            peak_lr=recipe.peak_lr,
            report_s=recipe.report_s,
            log_s=TOLD_S,
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
        "recipe": recipe.told(),
        "machine": vars(machine),
        "version": __version__,
    }


def _train(number: int, training: Pretraining, machine: Machine, port: int) -> None:
    log_to(training.out / LOG_FILE, logging.WARNING if number else logging.INFO)
    torch.set_num_threads(1)
    join_as(number, machine.processes, port)
    lock = training.out / f"training_{number}.lock"
    # Of a command that was killed a moment ago there may still be processes, which must not write any more.
    with (
        locked(lock, _ORPHANS_S, f"A process of an earlier command is still training in {training.out}."),
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
    """Whether both files are those that were finished."""
    path = made.base.parent / MADE_FILE
    if not path.exists():
        return False
    try:
        held = json.loads(path.read_text())
        return bool(held == {file.name: file_sha256(file) for file in (made.base, made.weights)})
    except (OSError, ValueError):
        return False


def _manifests(recipe: Recipe, data: Path, held_out: Path, out: Path) -> tuple[tuple[str, Path], ...]:
    """For the evaluation: the held-out cases of each modality."""
    manifests = []
    for part in recipe.patients:
        choice = part.choice(data.resolve())
        pool = choice.open(_names(held_out), validation=True)
        entries = [
            {"image": str(file), "label": str(labels_of(file)), "case": case_name(file), "patient": case_name(file),
             "dataset": part.folder, "split": "held_out"}
            for file in pool.files
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
    """Of all images that have labels, and of these, with their names."""
    digest = hashlib.sha256()
    for image in volume_files(folder):
        for file in (image, labels_of(image)):
            digest.update(f"{file.parent.name}/{file.name} {file_sha256(file)}\n".encode())
    return digest.hexdigest()


def log_to(path: Path, level: int) -> None:
    """Tell the terminal, and a file that goes on where it ended."""
    logging.basicConfig(
        level=level,
        format="%(asctime)s %(message)s",
        handlers=[logging.StreamHandler(), logging.FileHandler(path, encoding="utf-8")],
        force=True,
    )


@contextlib.contextmanager
def locked(path: Path, timeout_s: float, refusal: str) -> Iterator[None]:
    """Alone with what the file stands for.

    Raises:
        RecipeError: Another process has it; the text is ``refusal``.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if not wait_for_lock(fd, timeout_s):
            raise RecipeError(refusal)
        yield
    finally:
        os.close(fd)


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
