"""The goldens on disk: readable JSON for all that is text and numbers, packed bits for the masks."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from tests.golden.observe import Observed, machine

FOLDER = Path(__file__).parent / "recorded"
_INNERMOST = re.compile(r"([\[{])\n\s+([^\[\]{}\n]*(?:\n[^\[\]{}\n]*){0,30}?)\n\s+([\]}])")


def write(observed: Observed, folder: Path = FOLDER) -> None:
    """Replace what is recorded there."""
    folder.mkdir(exist_ok=True)
    for kind, answers in {"machine": machine(), **observed.answers}.items():
        (folder / f"{kind}.json").write_text(_readable(answers), encoding="utf-8")
    packed: dict[str, Any] = {name: np.packbits(mask) for name, mask in observed.masks.items()}
    np.savez_compressed(folder / "masks.npz", **{name.replace("/", "|"): bits for name, bits in packed.items()})


def read(folder: Path = FOLDER) -> Observed:
    """What was recorded."""
    kinds = ("info", "others", "masks", "bfloat16", "refusals")
    answers = {kind: json.loads((folder / f"{kind}.json").read_text(encoding="utf-8")) for kind in kinds}
    masks = {}
    with np.load(folder / "masks.npz") as packed:
        for key in packed.files:
            kind, name = key.split("|")
            shape = answers[kind][name]["mask"]["shape"]
            masks[f"{kind}/{name}"] = np.unpackbits(packed[key], count=int(np.prod(shape))).reshape(shape).astype(bool)
    return Observed(answers, masks)


def recorded_machine(folder: Path = FOLDER) -> dict[str, Any]:
    """On which it was recorded; see ``observe.machine``."""
    return dict(json.loads((folder / "machine.json").read_text(encoding="utf-8")))


def _readable(value: Any) -> str:
    """JSON, one entry a line, but for short lists and objects that hold no others."""

    def one_line(match: re.Match[str]) -> str:
        inner = re.sub(r"\n\s+", " ", match[2])
        return f"{match[1]}{inner}{match[3]}" if len(inner) < 110 else match[0]

    return _INNERMOST.sub(one_line, json.dumps(value, indent=1, ensure_ascii=False)) + "\n"
