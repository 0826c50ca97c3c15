"""The plan of a training, written to its folder: the same command resumes it, another one is refused."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
import torch

from lib.files.atomic_write import replacing
from lib.models.precision import resolve_precision
from lib.pretraining.recipe import Recipe
from lib.pretraining.sources import RecipeError

PLAN_FILE, MADE_FILE = "plan.json", "made.json"
"""The plan, and the sha256 of the finished weights."""
LENGTHS = ("minutes", "steps")
"""Fields of a recipe; a longer training resumes a shorter one."""
MOST_PROCESSES, MOST_WORKERS = 8, 12
"""Most processes that train on a CPU or draw samples for a GPU; more of them wait for each other."""
CPU_BATCH, GPU_BATCH = 2, 16
"""Regions of a step for each process that trains."""
_PROCESS_BYTES = 3 * 2**30
"""Memory of a process. Volumes that are made are mapped, so the system drops their pages when memory is short."""


@dataclass(frozen=True)
class Machine:
    """How a training uses the machine on which it began; it resumes in the same way on another one.

    Attributes:
        device: ``cpu`` or ``cuda``.
        processes: Number that train together, one thread each.
        batch: Regions of a step, for each of them.
        workers: Number of processes that draw samples, for each of them.
        precision: ``bf16`` or ``fp32``.
    """

    device: str
    processes: int
    batch: int
    workers: int
    precision: str

    def describe(self) -> str:
        """For the log."""
        return f"{self.device}, {self.precision}, {self.processes} process(es), {self.workers} more that draw"

    @classmethod
    def here(cls, device: str, recipe: Recipe) -> "Machine":
        """As many processes as there are cores, and memory for each."""
        cores = len(os.sched_getaffinity(0))
        room = max(1, psutil.virtual_memory().available // _PROCESS_BYTES)
        is_reduced = resolve_precision(recipe.precision, torch.device(device)) is torch.bfloat16
        precision = "bf16" if is_reduced else "fp32"
        if device == "cuda":
            return cls(device, 1, GPU_BATCH, min(max(1, cores - 1), MOST_WORKERS, room), precision)
        return cls(device, min(cores, MOST_PROCESSES, room), CPU_BATCH, 0, precision)


def read_device(text: str | None) -> str:
    """The device to train on.

    Args:
        text: As given by the user; None for the GPU where there is one.

    Raises:
        RecipeError: There is no such device.
    """
    has_gpu = torch.cuda.is_available()
    if text is None:
        return "cuda" if has_gpu else "cpu"
    if text not in ("cpu", "cuda"):
        raise RecipeError(f"DEVICE={text} is unknown; choose from: cpu, cuda.")
    if text == "cuda" and not has_gpu:
        raise RecipeError("DEVICE=cuda was given, but PyTorch sees no GPU on this machine; give DEVICE=cpu.")
    return text


def agree(out: Path, recipe: Recipe, data: Mapping[str, object], device: str | None) -> Machine:
    """Writes the plan, or checks that it equals the one in the folder; a longer training may resume a shorter one.

    A finished training that is made longer is unfinished again; its learning rate follows the longer cosine.

    Args:
        out: Existing folder of the weights.
        recipe: Of the training.
        data: Identifies the volumes and the held-out cases: plain JSON values.
        device: As given by the user; None to resume as before.

    Returns:
        How to use the machine, as decided when the training began.

    Raises:
        RecipeError: The folder belongs to another training, or to a longer one.
    """
    asked: dict[str, object] = {"recipe": recipe.to_dict(), **data}
    path = out / PLAN_FILE
    if not path.exists():
        if others := sorted(file.name for file in out.glob("*_state.pt")):
            raise RecipeError(f"OUT={out} holds {others[0]} of another training; choose another folder.")
        machine = Machine.here(read_device(device), recipe)
        with replacing(path) as partial:
            partial.write_text(json.dumps(asked | {"machine": asdict(machine)}, indent=1) + "\n", encoding="utf-8")
        return machine
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        machine = Machine(**held["machine"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecipeError(f"{path} cannot be read ({error}); choose another OUT.") from error
    others = [key for key in asked if held.get(key) != asked[key] and key != "recipe"]
    begun = dict(held.get("recipe") or {})
    is_longer = _is_longer(recipe, begun)
    different = [key for key, value in recipe.to_dict().items() if begun.get(key) != value]
    others += [key for key in different if not (is_longer and key in LENGTHS)]
    if device not in (None, machine.device):
        others.append("device")
    if others:
        raise RecipeError(
            f"OUT={out} was begun with other values of {', '.join(others)} (see {PLAN_FILE} there); give the same to "
            "go on, more minutes or steps to train for longer, or another OUT."
        )
    read_device(machine.device)
    if is_longer:
        # In this order: if killed in between, the shorter training is finished once more.
        (out / MADE_FILE).unlink(missing_ok=True)
        before = [*held.get("shorter", []), {key: begun[key] for key in LENGTHS}]
        with replacing(path) as partial:
            partial.write_text(json.dumps(held | {"recipe": recipe.to_dict(), "shorter": before}, indent=1) + "\n")
    return machine


def shorter_lengths(out: Path) -> list[dict[str, object]]:
    """Earlier lengths of a training that was made longer: minutes and steps each time."""
    return list(json.loads((out / PLAN_FILE).read_text(encoding="utf-8")).get("shorter", []))


def _is_longer(recipe: Recipe, begun: Mapping[str, object]) -> bool:
    """Whether the recipe is longer, in the unit with which the training began."""
    pairs = [(getattr(recipe, key), begun.get(key)) for key in LENGTHS]
    if any((asked is None) != (held is None) for asked, held in pairs):
        return False
    given = [(asked, held) for asked, held in pairs if asked is not None]
    return all(asked >= held for asked, held in given) and any(asked > held for asked, held in given)
