"""A record's mask, computed once more."""

import contextlib
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lib.audit.machine import processor, software
from lib.models.checkpoint import CheckpointError
from lib.presets import Preset, PresetError, load_presets
from lib.prompts.reading import PromptError
from lib.registry.errors import RegistryError
from lib.registry.registry import DEFAULT_LEARNING_DIR, Registry
from lib.registry.versions import Versions
from lib.requests.label_maps import read_prompts, read_protected
from lib.requests.request import SERVER_KEYS_BY_SOURCE, Request
from lib.serving.devices import available_devices
from lib.serving.preset_segmenter import PresetSegmenter, SharedState
from lib.volumes.label_map import LabelMapError
from lib.volumes.mask_hash import mask_hash
from lib.volumes.memory import MemoryShortage
from lib.volumes.read import open_volume
from lib.volumes.volume import ImageError


class ReplayError(RuntimeError):
    """A record that cannot be replayed: what is missing."""


@dataclasses.dataclass(frozen=True)
class Replay:
    """What came of a replay.

    Attributes:
        mask: (i, j, k) uint8, computed now.
        affine: (4, 4), voxel index to RAS mm.
        mask_hash: of the mask computed now.
        is_equal: whether the record has the same.
        differences: what is not as it was recorded and may change a mask; a sentence each.
    """

    mask: NDArray[np.uint8]
    affine: NDArray[np.float64]
    mask_hash: str
    is_equal: bool
    differences: tuple[str, ...]


def replay(
    record: Mapping[str, Any],
    image: Path,
    app_dir: Path,
    *,
    learning_dir: Path | None = None,
    label_maps: Mapping[str, Path] | None = None,
) -> Replay:
    """Computes the mask of a record again, with the segmenter that gave it.

    Args:
        record: as ``AuditLog.find`` gives it.
        image: the file; its content is compared with the record's.
        app_dir: the app folder.
        learning_dir: as the server's ``--conf learning_dir``; None for its default.
        label_maps: files by source, ``"label"`` for what was saved on the server, ``"upload"`` for what was sent along;
            needed where the record's mask started from one or left out what belongs to others.

    Raises:
        ReplayError: preset or weights are not here, or others than recorded; another image or label map.
    """
    name = record["preset"]
    try:
        preset = load_presets(app_dir / "configs", (name,))[name]
    except PresetError as error:
        raise ReplayError(f"The record's preset cannot be used here: {error}") from error
    versions = Registry(app_dir / (learning_dir or DEFAULT_LEARNING_DIR)).of(
        name, preset.model.size, preset.model.family
    )
    device, differences = _device(record)
    if preset.sha256() != record["preset_hash"]:
        differences.append(f"configs/{name}.yaml was changed since.")
    sent = {**record["request"], "image": str(image), "device": device, **_label_maps(record, label_maps or {})}
    shared = SharedState.of(precision=record["precision"])
    try:
        served = PresetSegmenter(_with_recorded_weights(preset, record, versions), app_dir, shared).open(device)
        request = Request.read(sent, preset.label)
        volume = open_volume(image)
        prompts, _ = read_prompts(request, volume, preset.label, served.segmenter.capabilities, shared.volumes)
        protected = read_protected(request, volume, preset.label, prompts, shared.volumes)
        segmentation = served.segment(
            volume, prompts, request.options, protected=None if protected is None else protected.mask
        )
    except (CheckpointError, ImageError, LabelMapError, MemoryShortage, PromptError) as error:
        raise ReplayError(str(error)) from error
    if volume.content_key != record["image_hash"]:
        raise ReplayError(
            f"This is not the record's image: its content hash is {volume.content_key}, not {record['image_hash']}."
        )
    for what, used in (("start_mask", prompts.mask), ("protected", protected)):
        described = record.get("label_maps", {}).get(what)
        if described is not None and (used is None or used.hash != described["hash"]):
            raise ReplayError(
                f"This is not the record's label map ({what}): the mask in it has the hash "
                f"{None if used is None else used.hash}, not {described['hash']}."
            )
    if served.model_version != record["model_version"]:
        raise ReplayError(
            f"The weights of preset '{name}' have the version {served.model_version}; those of the record, "
            f"{record['model_version']}, are missing.{_what_became(record, versions)} Put them back where "
            f"configs/{name}.yaml says, or into the folder of versions (--learning-dir)."
        )
    digest = mask_hash(segmentation.mask)
    return Replay(segmentation.mask, volume.affine, digest, digest == record["mask_hash"], tuple(differences))


def _with_recorded_weights(preset: Preset, record: Mapping[str, Any], versions: Versions) -> Preset:
    """The preset, with the weights of the record in place of its own where they are kept as a version."""
    version = versions.find(record["model_version"])
    return preset if version is None else preset.with_weights(versions.weights(version.id))


def _label_maps(record: Mapping[str, Any], files: Mapping[str, Path]) -> dict[str, Any]:
    """What the request says of label maps: their files, and the values that were meant then."""
    used = record.get("label_maps", {})
    for what, described in used.items():
        if described["from"] not in files:
            option = "--saved-label" if described["from"] == "label" else "--uploaded-label"
            raise ReplayError(
                f"The record's mask depends on a label map ({what}), of which the record holds no more than the hash "
                f"{described['hash']} of the mask in it. Give the file with {option}."
            )
    request: dict[str, Any] = {SERVER_KEYS_BY_SOURCE[source]: str(path) for source, path in files.items()}
    if "start_mask" in used:
        request["start_value"] = used["start_mask"]["value"]
    if "protected" in used:
        request["protected_except"] = used["protected"]["except"]
    return request


def _device(record: Mapping[str, Any]) -> tuple[str, list[str]]:
    """The device to use, and how it and the software differ from the record's."""
    device, differences = record["device"], []
    if device not in available_devices():
        device = available_devices()[0]
        differences.append(f"Device {record['device']} ({record['processor']['kind']}) is not here; {device} was used.")
    if device == "cpu" and "threads" in record["processor"]:
        torch.set_num_threads(record["processor"]["threads"])
    kind = processor(device)["kind"]
    if device == record["device"] and kind != record["processor"]["kind"]:
        differences.append(f"The processor is {kind}, recorded was {record['processor']['kind']}.")
    for name, version in software().items():
        if version != record["software"].get(name):
            differences.append(f"{name} is {version}, recorded was {record['software'].get(name)}.")
    return device, differences


def _what_became(record: Mapping[str, Any], versions: Versions) -> str:
    with contextlib.suppress(RegistryError, OSError):
        for version in versions.pruned().values():
            if version.sha256 == record["model_version"]:
                return f" They were version {version.id}, whose weights were removed by pruning."
    return ""
