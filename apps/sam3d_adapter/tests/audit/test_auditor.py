"""Answers are written down, and reach the user even if that fails."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from lib.annotations.real_clicks import answers_on
from lib.audit.auditor import Auditor
from lib.audit.log import AuditLog
from lib.presets import load_preset
from lib.studies.label_changes import By, LabelChange
from sam3d.__main__ import main
from tests.support.server import APP_DIR

PRESET = load_preset(Path(__file__).parents[2] / "configs" / "ct.yaml")


REQUEST = {"foreground": [[1, 2, 3]], "threshold": 0.4}


def result() -> dict[str, Any]:
    answer = {
        "preset": "ct", "model_version": "a" * 64, "version": "shipped", "precision": "fp32", "device": "cpu",
        "image_hash": "b" * 64, "mask_hash": "c" * 64, "mask_voxels": 7, "latency_ms": {"total": 12.5},
        "warnings": ["Look."], "request": REQUEST, "start_mask": None, "protected": {"hash": "d" * 64},
    }  # fmt: skip
    return {"file": "/tmp/mask.nrrd", "params": answer}


def test_what_is_recorded(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit", 2**20)
    answered = Auditor(log, {"ct": PRESET}).record("Mustermann_Erika", result(), "dr_house")
    record = log.find(answered["params"]["audit_id"])
    assert set(record) == {
        "id", "time", "user", "image_id_hash", "image_hash", "preset", "preset_hash", "model_version", "version",
        "precision", "device", "processor", "request", "mask_hash", "mask_voxels", "latency_ms", "software",
        "label_maps",
    }  # fmt: skip
    assert record["user"] == "dr_house" and record["latency_ms"] == {"total": 12.5}
    assert record["request"] == REQUEST and record["label_maps"] == {"protected": {"hash": "d" * 64}}
    assert record["image_id_hash"] == log.name_hash("Mustermann_Erika")
    assert record["time"].endswith("+00:00") and record["processor"]["threads"] >= 1
    assert "Mustermann" not in json.dumps(record)
    assert answered["params"]["warnings"] == ["Look."] and answered["file"] == "/tmp/mask.nrrd"
    assert "request" not in answered["params"]  # a client is not sent its own words


def test_uploads_have_no_id(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit", 2**20)
    answered = Auditor(log, {"ct": PRESET}).record("/tmp/tmpabcdefgh.nii.gz", result(), None)
    record = log.find(answered["params"]["audit_id"])
    assert record["image_id_hash"] is None and record["user"] is None


def broken_by_file(folder: Path) -> None:
    folder.write_text("")


def broken_by_mode(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o777)


def broken_by_dangling_link(folder: Path) -> None:
    folder.symlink_to(folder / "nowhere")


@pytest.mark.parametrize("spoil", [broken_by_file, broken_by_mode, broken_by_dangling_link])
def test_the_mask_is_not_lost_with_the_record(tmp_path: Path, spoil: Any, caplog: pytest.LogCaptureFixture) -> None:
    spoil(tmp_path / "audit")
    answered = Auditor(AuditLog(tmp_path / "audit", 2**20), {"ct": PRESET}).record("a", result(), None)
    assert answered["file"] == "/tmp/mask.nrrd" and answered["params"]["audit_id"] is None
    warnings = answered["params"]["warnings"]
    assert len(warnings) == 2 and "could not be recorded" in warnings[1] and str(tmp_path) not in warnings[1]
    assert "was not recorded" in caplog.text and "request" not in answered["params"]


def test_an_answer_without_what_belongs_into_a_record_is_given_all_the_same(tmp_path: Path) -> None:
    incomplete = {"file": None, "params": {"preset": "ct"}}
    answered = Auditor(AuditLog(tmp_path / "audit", 2**20), {"ct": PRESET}).record("a", incomplete, None)
    assert answered["params"]["audit_id"] is None and answered["params"]["warnings"]


CHANGE = LabelChange(
    "20260131T120000.000000Z-abc", "overwrite", "Mustermann_Erika", "final", "2026-01-31T12:00:00.000+00:00",
    "dr_house", "10.0.0.7", {"sha256": "b" * 64, "info": {"label_info": ["Erika's"]}}, {"sha256": "a" * 64, "info": {}},
)  # fmt: skip


def test_what_is_recorded_of_a_label(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit", 2**20)
    auditor = Auditor(log, {})
    auditor.record_label(CHANGE)
    auditor.record_export([("Mustermann_Erika", "b" * 64)], By(None, "10.0.0.8"), "c" * 64)
    changed, exported = log.records()
    hashed = log.name_hash("Mustermann_Erika")
    assert changed.pop("id") != exported.pop("id") and exported.pop("time").endswith("+00:00")
    assert changed == {
        "time": CHANGE.at, "user": "dr_house", "address": "10.0.0.7", "label": "overwrite", "change": CHANGE.id,
        "image_id_hash": hashed, "tag": "final", "sha256": "b" * 64, "sha256_before": "a" * 64,
    }  # fmt: skip
    assert exported == {
        "user": None, "address": "10.0.0.8", "label": "export", "archive_sha256": "c" * 64,
        "labels": [{"image_id_hash": hashed, "sha256": "b" * 64}],
    }  # fmt: skip


def test_a_label_stays_that_cannot_be_recorded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    broken_by_mode(tmp_path / "audit")
    Auditor(AuditLog(tmp_path / "audit", 2**20), {}).record_label(CHANGE)
    assert "not recorded" in caplog.text


def test_a_record_of_a_label_is_neither_a_click_nor_replayed(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit", 2**20)
    auditor = Auditor(log, {"ct": PRESET})
    auditor.record_label(CHANGE)
    assert answers_on(log, ["Mustermann_Erika"]) == {}
    auditor.record("Mustermann_Erika", result(), None)
    (answer,) = answers_on(log, ["Mustermann_Erika"])["Mustermann_Erika"]
    assert answer.preset == "ct" and answer.foreground == ((1, 2, 3),)
    words = ["replay", next(log.records())["id"], "--image", str(tmp_path), "--audit-dir", str(tmp_path / "audit")]
    assert CliRunner().invoke(main, ["--app", str(APP_DIR), *words]).exit_code == 2
