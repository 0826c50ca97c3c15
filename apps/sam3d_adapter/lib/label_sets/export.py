"""Submitted labels -> a folder that other programs read: all of it, or nothing."""

import gzip
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from lib.annotations.submitted import MAX_OBJECTS, Skipped, SubmittedError, content_sha256
from lib.files.atomic_write import replacing, sync_folder, write_synced
from lib.files.checksums import file_sha256
from lib.files.folders import remove_leftovers
from lib.geometry.axes import Array
from lib.label_sets.chosen_cases import ChosenCase
from lib.label_sets.layouts import Content, Layout, LayoutError, require_name, values_of
from lib.label_sets.names import Names
from lib.version import __version__
from lib.volumes.memory import MemoryShortage
from lib.volumes.read import read_volume
from lib.volumes.volume import ImageError

logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"
FORMAT = 1
PROGRAM = "sam3d_adapter"
NOTICE = (
    "For research only. Headers hold positions alone; what the voxels show, such as a face or burnt-in text, was not "
    "taken away."
)
_NIFTI_TYPES = ("u1", "i1", "u2", "i2", "u4", "i4", "f4", "f8")


@dataclass(frozen=True)
class Exported:
    """A set that was written.

    Attributes:
        cases: that are in it.
        skipped: labels that are not, and why.
        values: by structure its voxel value; empty where it differs between cases.
        manifest_sha256: of the manifest, which has the hashes of all files.
        key: the file that says who is who, outside of the set; None where names were kept.
    """

    cases: tuple[ChosenCase, ...]
    skipped: tuple[Skipped, ...]
    values: dict[str, int]
    manifest_sha256: str
    key: Path | None


def key_file(out: Path) -> Path:
    """Beside a set, what says whom its pseudonyms stand for."""
    return out.with_name(f"{out.name}.key.json")


def export(cases: Sequence[ChosenCase], layout_name: str, layout: Layout, out: Path, names: Names) -> Exported:
    """Writes a set, and beside it the file that maps its pseudonyms back.

    Args:
        cases: to be written.
        layout_name: as users call the layout.
        layout: of the folder.
        out: the folder; there is none yet.
        names: what cases, patients and readers are called in it.

    Raises:
        FileExistsError: there is something already.
        LayoutError: the cases cannot be laid out so, or none of them can be read.
        OSError: nothing was written.
    """
    require_name(layout, out.name)
    key = key_file(out) if names.are_pseudonyms else None
    for path in (out, key):
        if path is not None and os.path.lexists(path):
            raise FileExistsError(f"{path} exists already. Name another folder, or move it away first.")
    modalities = sorted({case.modality for case in cases if case.modality})
    if layout.is_one_task and len(modalities) > 1:
        raise LayoutError(
            f"The images are {' and '.join(modalities)}, and such a set holds one modality. Choose one with --preset."
        )
    values = values_of([name for case in cases for name in case.structures]) if layout.is_one_task else {}
    if len(values) > MAX_OBJECTS:
        raise LayoutError(f"The labels hold {len(values)} structures; at most {MAX_OBJECTS} are expected.")
    with _new_folder(out) as partial:
        entries, written, skipped = [], [], []
        for case in cases:
            try:
                entries.append(_write_case(case, layout, partial, names, values))
                written.append(case)
            except FileNotFoundError:
                skipped.append(Skipped(case.case.image_id, "its file, or that of its image, does not exist any more"))
            except (SubmittedError, ImageError, MemoryShortage) as error:
                skipped.append(Skipped(case.case.image_id, str(error).rstrip(".")))
        if not entries:
            raise LayoutError(" ".join(["No label can be exported.", *(one.sentence for one in skipped[:5])]))
        for further in layout.folders:
            (partial / further).mkdir()
        entries.sort(key=lambda entry: entry["case"])
        _write_files(partial, entries, values, modalities[0] if modalities else None, layout, out.name)
        manifest = {
            "format": FORMAT,
            "made_by": {"program": PROGRAM, "version": __version__},
            "layout": layout_name,
            "pseudonymised": names.are_pseudonyms,
            "notice": NOTICE,
            "labels": values or None,
            "cases": entries,
        }
        _write_json(partial / MANIFEST, manifest)
        sha256 = file_sha256(partial / MANIFEST)
        # Before the folder has its name: a set whose pseudonyms nobody can map back would be there otherwise.
        if key is not None:
            _write_key(key, written, names, sha256)
    return Exported(tuple(written), tuple(skipped), values, sha256, key)


def write_nifti(path: Path, voxels: np.ndarray, affine: Array) -> None:
    """Writes a volume with a header that says where it lies, and nothing else; equal volumes are equal files.

    Args:
        path: ``.nii.gz``, in a folder that may have to be made.
        voxels: (i, j, k).
        affine: (4, 4), voxel index to RAS mm.
    """
    path.parent.mkdir(exist_ok=True)
    if voxels.dtype.str[1:] not in _NIFTI_TYPES:
        voxels = voxels.astype(np.uint8 if voxels.dtype.kind == "b" else np.float32)
    image = nib.Nifti1Image(voxels, affine)
    # Both, for programs differ in which they read.
    image.set_qform(affine, code=1)
    image.set_sform(affine, code=1)
    image.header.set_xyzt_units("mm")
    with path.open("wb") as file:
        with gzip.GzipFile("", "wb", 6, file, mtime=0) as packed:
            image.to_stream(packed)
        file.flush()
        os.fsync(file.fileno())


def _write_case(case: ChosenCase, layout: Layout, folder: Path, names: Names, values: dict[str, int]) -> dict[str, Any]:
    """Writes image and label; its entry in the manifest."""
    own = values or {name: number for number, name in enumerate(case.case.names, start=1)}
    name = names.case(case.case.image_id)
    files = {"image": layout.image.format(case=name), "label": layout.label.format(case=name)}
    paths = [folder / file for file in files.values()]
    try:
        if layout.write is not None:
            layout.write(case, names, *paths)
        else:
            _write_nifti(case, own, *paths, by_structure=layout.is_one_task)
    except BaseException:
        remove_leftovers(path for path in paths if path.exists())
        raise
    entry: dict[str, Any] = {
        "case": name,
        "patient": names.patient(case.case.patient.name),
        "modality": case.modality,
        **files,
        **{f"{kind}_sha256": content_sha256(folder / file) for kind, file in files.items()},
        "segments": {drawn: own[drawn] for drawn in (case.structures if layout.is_one_task else case.case.names)},
        "tag": case.label.tag,
        "state": case.state,
        "drawn_by": names.reader(case.drawn_by),
        "accepted_by": names.reader(case.accepted_by),
        "made_with": case.made_with,
    }
    if not names.are_pseudonyms:
        entry["saved_at"] = datetime.fromtimestamp(case.case.saved_at, UTC).isoformat(timespec="seconds")
    return entry


def _write_nifti(case: ChosenCase, values: Mapping[str, int], image: Path, label: Path, *, by_structure: bool) -> None:
    labels, volume = case.read_labels(values, by_structure=by_structure), read_volume(case.case.image)
    if tuple(volume.voxels.shape) != case.case.shape:
        raise SubmittedError("its image was replaced in the meantime")
    write_nifti(image, volume.voxels.numpy(), case.case.affine)
    write_nifti(label, labels, case.case.affine)


def _write_files(
    folder: Path,
    entries: Sequence[dict[str, Any]],
    values: dict[str, int],
    modality: str | None,
    layout: Layout,
    name: str,
) -> None:
    """Writes what the layout says of the whole set."""
    content = Content(
        name=name,
        modality=modality,
        values=values,
        files={entry["case"]: (entry["image"], entry["label"]) for entry in entries},
        patients={entry["case"]: entry["patient"] for entry in entries},
    )
    for file, further in layout.files(content).items():
        _write_json(folder / file, further)


def _write_key(path: Path, cases: Sequence[ChosenCase], names: Names, manifest_sha256: str) -> None:
    content = {
        "format": FORMAT,
        "manifest_sha256": manifest_sha256,
        "readers": names.readers,
        "cases": {
            names.case(one.case.image_id): {
                "image": one.case.image_id,
                "patient": one.case.patient.name,
                "label": one.label.id,
                "tag": one.label.tag,
                "label_sha256": one.case.label_sha256,
                "image_sha256": one.case.image_sha256,
            }
            for one in cases
        },
    }
    with replacing(path) as partial:
        partial.touch(mode=0o600)
        partial.write_text(json.dumps(content, indent=1, sort_keys=True), encoding="utf-8")


def _write_json(path: Path, content: Any) -> None:
    write_synced(path, (json.dumps(content, indent=1) + "\n").encode())


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """A folder to fill, which gets its name when it is whole; a killed process leaves ``.<name>.<random>.partial``."""
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".partial", dir=out.parent))
    try:
        yield partial
        for folder in (*(path for path in partial.iterdir() if path.is_dir()), partial):
            sync_folder(folder)
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    sync_folder(out.parent)
