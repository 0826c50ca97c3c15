"""Converts a published checkpoint and SAM's file into the base and the weights of a preset; reports every key."""

import contextlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError

from lib.files.atomic_write import replacing
from lib.files.checksums import file_sha256
from lib.models.build import build_model
from lib.models.checkpoint import load_base, parameter_shapes, save_base, save_trained
from lib.models.checkpoint_error import CheckpointError
from lib.models.loading import create_interaction
from lib.models.reference_checkpoint import ReferenceState, load_reference_state, read_reference_checkpoint
from lib.models.safetensors_file import check_tensors
from lib.models.sam3d import Sam3dAdapter
from lib.models.sam_checkpoint import load_sam_checkpoint
from lib.models.trainable import frozen_names
from lib.version import __version__

REPOSITORY = "github.com/med-air/3DSAM-adapter"
NO_LICENCE = (
    "none: the authors of 3DSAM-adapter publish their checkpoints without a licence. For your own use; do not pass "
    "this file on. This project never publishes it."
)
"""Stated in every converted file and at every conversion."""


@dataclass(frozen=True)
class Target:
    """The files to make.

    Attributes:
        preset: Name, for the report.
        size: Model size.
        base: File of the frozen part; where its name ends in ``.pth``, SAM's own file is put there as it is.
        weights: File of the trained part.
    """

    preset: str
    size: str
    base: Path
    weights: Path


@dataclass(frozen=True)
class KeyReport:
    """The keys of one file.

    Attributes:
        source: Name of the file.
        loaded: Key -> parameter and file, e.g. ``"image_encoder.depth_embed, weights"``.
        created: Parameter that the file lacks -> the rule that created it.
        ignored: Key -> the reason.
    """

    source: str
    loaded: Mapping[str, str]
    created: Mapping[str, str] = field(default_factory=dict)
    ignored: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, object]:
        """Plain values."""
        return {
            "source": self.source,
            "loaded": dict(self.loaded),
            "created": dict(self.created),
            "ignored": dict(self.ignored),
        }

    def lines(self) -> list[str]:
        """Counts, with each rule and reason once."""
        places = Counter(place.rsplit(", ", 1)[-1] for place in self.loaded.values())
        found = [f"{self.source}:"]
        found += [f"  {count:4d} keys loaded: {place}" for place, count in places.items()]
        found += [f"  {count:4d} created: {rule}" for rule, count in Counter(self.created.values()).items()]
        found += [f"  {count:4d} keys ignored: {reason}" for reason, count in Counter(self.ignored.values()).items()]
        return found


@dataclass(frozen=True)
class Conversion:
    """A finished conversion.

    Attributes:
        preset: Whose files.
        written: Kind of file -> the written file.
        kept: Kind of file -> the existing file that fits.
        keys: One report for each file that was read.
        provenance: As stored in the weights (in the base, where there are no weights).
    """

    preset: str
    written: Mapping[str, Path]
    kept: Mapping[str, Path]
    keys: tuple[KeyReport, ...]
    provenance: Mapping[str, object]

    def text(self) -> str:
        """For the terminal."""
        lines = [line for report in self.keys for line in report.lines()]
        lines += [f"{what} written: {path}" for what, path in self.written.items()]
        lines += [f"{what} was there and fits: {path}" for what, path in self.kept.items()]
        return "\n".join([*lines, f"Licence: {self.provenance['licence']}"])

    def write(self, path: Path) -> None:
        """Writes it as JSON with every key, atomically."""
        content = {
            "preset": self.preset,
            "written": {what: file.name for what, file in self.written.items()},
            "kept": {what: file.name for what, file in self.kept.items()},
            "provenance": dict(self.provenance),
            "keys": [report.to_dict() for report in self.keys],
        }
        with replacing(path) as partial:
            partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class _Base:
    """The base in a model: provenance (plain JSON values), and SAM's file where that was read."""

    provenance: Mapping[str, object]
    sam: Path | None
    keys: KeyReport | None


def convert_checkpoint(
    checkpoint: Path, target: Target, sam_file: Callable[[], Path], *, replace: bool = False
) -> Conversion:
    """Makes the two files of a preset from a checkpoint of the authors.

    An existing base is kept; otherwise it is made from SAM's file. The checkpoint's copy of the frozen tensors must
    equal it bit by bit. Nothing is written before all files are read and checked.

    Args:
        checkpoint: ``last.pth.tar`` or ``best.pth.tar``.
        target: What to make.
        sam_file: Returns the verified SAM file of the size; called only if needed.
        replace: Whether existing weights may be replaced.

    Raises:
        CheckpointError: A file is wrong, does not fit the other, is there already, or cannot be written.
    """
    require_free(target.weights, replace)
    # Check everything here before asking for SAM's file, which may mean a long download.
    state = read_reference_checkpoint(checkpoint)
    check_tensors(state.tensors, parameter_shapes(target.size), checkpoint, size=target.size)
    require_writable(target.base, target.weights)
    model = build_model(target.size)
    base = _load_base(model, target, sam_file)
    _require_same_base(model, state, checkpoint, str(base.provenance.get("file", target.base.name)))
    load_reference_state(model, state, checkpoint)
    provenance = {
        "source": f"3DSAM-adapter checkpoint of its authors ({REPOSITORY})",
        "file": checkpoint.name,
        "sha256": file_sha256(checkpoint),
        "training": dict(state.training),
        "licence": NO_LICENCE,
        "base": dict(base.provenance),
        "preset": target.preset,
        "converted_by": f"sam3d_adapter {__version__}",
    }
    if base.sam:
        _write_base(model, target.base, base)
    with writing(target.weights):
        save_trained(model, target.weights, provenance=provenance)
    files = {"base": target.base, "weights": target.weights}
    kept = {} if base.sam else {"base": files.pop("base")}
    keys = (_checkpoint_keys(model, state, checkpoint), *([base.keys] if base.keys else []))
    conversion = Conversion(target.preset, files, kept, keys, provenance)
    report = target.weights.with_suffix(".conversion.json")
    with writing(report):
        conversion.write(report)
    return conversion


def convert_base(target: Target, sam_file: Callable[[], Path]) -> Conversion:
    """Makes only the base of a preset, to train on.

    Raises:
        CheckpointError: As `convert_checkpoint`.
    """
    require_writable(target.base)
    model = build_model(target.size)
    base = _load_base(model, target, sam_file)
    if base.sam:
        _write_base(model, target.base, base)
    written, kept = ({"base": target.base}, {}) if base.sam else ({}, {"base": target.base})
    return Conversion(target.preset, written, kept, (base.keys,) if base.keys else (), base.provenance)


def _load_base(model: Sam3dAdapter, target: Target, sam_file: Callable[[], Path]) -> _Base:
    if target.base.exists():
        try:
            report = load_base(model, target.base)
        except CheckpointError as error:
            raise CheckpointError(f"{error} To have the base made anew, remove the file.") from error
        provenance = report.provenance or _sam_provenance(target.base)
        return _Base({"licence": "not stated in the file", **provenance}, None, None)
    sam = sam_file()
    report = load_sam_checkpoint(model, sam)
    frozen = frozen_names(model)
    trained = {name: "SAM's value only starts what is trained" for name in report.loaded if name not in frozen}
    keys = KeyReport(
        sam.name,
        {name: f"{name}, base" for name in report.loaded if name in frozen},
        {name: rule for name, rule in report.created.items() if name in frozen},
        {**report.ignored, **trained},
    )
    return _Base(_sam_provenance(sam), sam, keys)


def _sam_provenance(path: Path) -> dict[str, object]:
    return {
        "source": "Segment Anything, image encoder (github.com/facebookresearch/segment-anything)",
        "file": path.name,
        "sha256": file_sha256(path),
        "licence": "Apache-2.0",
    }


def _require_same_base(model: Sam3dAdapter, state: ReferenceState, checkpoint: Path, base: str) -> None:
    different: dict[str, float] = {}
    for name in sorted(frozen_names(model)):
        ours, theirs = model.get_parameter(name).detach(), state.tensors[name].to(torch.float32)
        if not torch.equal(ours, theirs):
            different[state.keys[name]] = (ours - theirs).abs().max().item()
    if different:
        worst = max(different, key=lambda key: different[key])
        raise CheckpointError(
            f"{checkpoint}: {len(different)} of its {len(frozen_names(model))} frozen tensors differ from the base "
            f"{base}, most of all '{worst}' (by {different[worst]:.3g}). Expected equal ones, since 3DSAM-adapter "
            "leaves SAM's tensors as they are: the checkpoint was trained on another base or altered. Use the authors' "
            "own file."
        )


def _checkpoint_keys(model: Sam3dAdapter, state: ReferenceState, checkpoint: Path) -> KeyReport:
    frozen = frozen_names(model)
    places = {state.keys[n]: f"{n}, {'equal to the base' if n in frozen else 'weights'}" for n in state.tensors}
    return KeyReport(checkpoint.name, places, create_interaction(model), state.ignored)


def _write_base(model: Sam3dAdapter, path: Path, base: _Base) -> None:
    assert base.sam is not None
    with writing(path):
        if path.suffix == ".pth":
            with replacing(path) as partial:
                shutil.copyfile(base.sam, partial)
        else:
            save_base(model, path, provenance=base.provenance)


def require_free(weights: Path, replace: bool) -> None:
    """Raises CheckpointError where a file is there that may not be replaced."""
    if weights.exists() and not replace:
        raise CheckpointError(
            f"{weights}: is there already. To put a converted checkpoint in its place, add --replace; to write "
            "elsewhere, --out."
        )


def require_writable(*paths: Path) -> None:
    """Makes the folders of files; raises CheckpointError where nothing can be written there."""
    for folder in {path.parent for path in paths}:
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise CheckpointError(f"{folder}: cannot be written. Give a folder of your own with --out.")


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns what goes wrong while a file is written into a CheckpointError."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{path}: cannot be written ({error}). What was there is unchanged. Make space, or give another folder "
            "with --out."
        ) from error
