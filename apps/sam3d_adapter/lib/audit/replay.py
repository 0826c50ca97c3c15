"""A record's mask, computed once more."""

import contextlib
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from fastapi import HTTPException

from lib.audit.machine import processor, software
from lib.audit.record import preset_hash
from lib.configs.task_config import Sam3dAdapterConfig
from lib.evaluation.evaluated_task import with_weights
from lib.host.log.request_log import request_log_off
from lib.infers.options import available_devices
from lib.presets import Preset, PresetError
from lib.prompts.regions import HOST_LABEL_KEYS_BY_SOURCE
from lib.registry.errors import RegistryError


class ReplayError(RuntimeError):
    """A record that cannot be replayed: what is missing."""


@dataclasses.dataclass(frozen=True)
class Replay:
    """What came of a replay.

    Attributes:
        mask_hash: of the mask computed now.
        is_equal: whether the record has the same.
        file: the mask, in a temporary file that is the caller's to remove.
        differences: what is not as it was recorded and may change a mask; a sentence each.
    """

    mask_hash: str
    is_equal: bool
    file: Path
    differences: tuple[str, ...]


def replay(
    record: Mapping[str, Any],
    image: Path,
    app_dir: Path,
    *,
    extension: str = ".nii.gz",
    learning_dir: Path | None = None,
    label_maps: Mapping[str, Path] | None = None,
) -> Replay:
    """Computes the mask of a record again, by the task that gave it.

    Args:
        record: as ``AuditLog.find`` gives it.
        image: the file; its content is compared with the record's.
        app_dir: the app folder.
        extension: of the mask's file, one of ``lib.infers.options.RESULT_EXTENSIONS``.
        learning_dir: as the server's ``--conf learning_dir``; None for its default.
        label_maps: files by source, ``"label"`` for what was saved on the server, ``"upload"`` for what was sent along;
            needed where the record's mask started from one or left out what belongs to others.

    Raises:
        ReplayError: preset or weights are not here, or others than recorded; another image or label map.
    """
    conf = {"models": record["preset"], "precision": record["precision"]}
    if learning_dir is not None:
        conf["learning_dir"] = str(learning_dir)
    try:
        config = Sam3dAdapterConfig(app_dir, conf)
    except PresetError as error:
        raise ReplayError(f"The record's preset cannot be used here: {error}") from error
    device, differences = _device(record)
    if preset_hash(config.presets[record["preset"]]) != record["preset_hash"]:
        differences.append(f"configs/{record['preset']}.yaml was changed since.")
    request = {**record["request"], "image": str(image), "device": device, "result_extension": extension}
    request |= _label_maps(record, label_maps or {})
    try:
        with request_log_off():
            file, answer = config.infer(_preset(record, config))(request)
    except HTTPException as error:
        raise ReplayError(str(error.detail)) from error
    assert file is not None  # the writer is never skipped
    problem = _other_inputs(record, answer, config)
    if problem:
        Path(file).unlink()
        raise ReplayError(problem)
    return Replay(answer["mask_hash"], answer["mask_hash"] == record["mask_hash"], Path(file), tuple(differences))


def _preset(record: Mapping[str, Any], config: Sam3dAdapterConfig) -> Preset:
    """The record's preset, with the weights of the record in place of its own where they are kept as a version."""
    preset = config.presets[record["preset"]]
    versions = config.versions(preset.name)
    version = versions.find(record["model_version"])
    return preset if version is None else with_weights(preset, versions.weights(version.id))


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
    request: dict[str, Any] = {HOST_LABEL_KEYS_BY_SOURCE[source]: str(path) for source, path in files.items()}
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


def _other_inputs(record: Mapping[str, Any], answer: Mapping[str, Any], config: Sam3dAdapterConfig) -> str | None:
    if answer["image_hash"] != record["image_hash"]:
        return (
            f"This is not the record's image: its content hash is {answer['image_hash']}, not {record['image_hash']}."
        )
    for what, described in record.get("label_maps", {}).items():
        if answer[what]["hash"] != described["hash"]:
            return (
                f"This is not the record's label map ({what}): the mask in it has the hash {answer[what]['hash']}, not "
                f"{described['hash']}."
            )
    if answer["model_version"] != record["model_version"]:
        return (
            f"The weights of preset '{record['preset']}' have the version {answer['model_version']}; those of the "
            f"record, {record['model_version']}, are missing.{_what_became(record, config)} Put them back where "
            f"configs/{record['preset']}.yaml says, or into the folder of versions (--learning-dir)."
        )
    return None


def _what_became(record: Mapping[str, Any], config: Sam3dAdapterConfig) -> str:
    with contextlib.suppress(RegistryError, OSError):
        for version in config.versions(record["preset"]).pruned().values():
            if version.sha256 == record["model_version"]:
                return f" They were version {version.id}, whose weights were removed by pruning."
    return ""
