"""What an earlier release kept as one flat file."""

import json
import shutil
from pathlib import Path

import pytest

from lib.files.checksums import file_sha256
from lib.registry.registry import Registry
from lib.registry.version import Facts
from lib.registry.versions import Versions


@pytest.fixture
def flat(tmp_path: Path, write_weights) -> Path:
    folder = tmp_path / "learning"
    folder.mkdir()
    shutil.copy(write_weights(1), folder / "ct.safetensors")
    facts = {"format": 1, "size": "tiny", "started_by": "Dr. Jones", "metrics": {"dice": 0.6}}
    (folder / "ct.json").write_text(json.dumps(facts | {"sha256": file_sha256(folder / "ct.safetensors")}))
    return folder


def of(folder: Path, preset: str = "ct", size: str = "tiny") -> Versions:
    return Registry(folder).of(preset, size)


def test_it_becomes_the_version_that_is_served(flat: Path) -> None:
    versions = of(flat)
    assert versions.served() is None  # a reader changes nothing
    versions.prepare()
    served = of(flat).served()
    assert served is not None and served.sha256 == file_sha256(flat / "ct.safetensors")
    assert served.started_by == "Dr. Jones" and served.metrics == {"dice": 0.6} and served.origin == {"format": 1}
    assert not (flat / "ct.json").exists() and (flat / "ct.json.upgraded").exists()
    versions.prepare()
    assert len(of(flat).history()) == 1
    assert versions.roll_back("me") == "shipped"
    of(flat).prepare()
    assert of(flat).served() is None


def test_the_first_change_takes_it_over_as_well(flat: Path, write_weights) -> None:
    versions = of(flat)
    added = versions.add(write_weights(2), Facts("me"))
    assert added.number == 2 and versions.served().number == 1  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "facts",
    [
        "{}",
        '{"format": 7}',
        '{"format": "1"}',
        "[1]",
        "{torn",
        '{"format": 1, "size": "vit_b"}',
        '{"format": 1, "sha256": "00"}',
    ],
)
def test_what_is_no_such_file_is_left_alone(flat: Path, facts: str) -> None:
    (flat / "ct.json").write_text(facts)
    of(flat).prepare()
    assert of(flat).ids() == [] and of(flat).served() is None and (flat / "ct.json").read_text() == facts


def test_damaged_weights_are_left_alone(flat: Path, caplog: pytest.LogCaptureFixture) -> None:
    (flat / "ct.json").write_text('{"format": 1}')
    (flat / "ct.safetensors").write_bytes(b"torn")
    of(flat).prepare()
    assert of(flat).ids() == [] and of(flat).served() is None
    assert "not taken over" in caplog.text


def test_weights_that_a_preset_names_are_no_version(tmp_path: Path, write_weights) -> None:
    shutil.copy(write_weights(1), tmp_path / "kits.safetensors")  # as sam3d convert leaves them, without a JSON
    of(tmp_path, "kits").prepare()
    assert list(tmp_path.iterdir()) == [tmp_path / "kits.safetensors"] or of(tmp_path, "kits").ids() == []


def test_other_presets_are_not_touched(flat: Path) -> None:
    of(flat, "mr").prepare()
    assert (flat / "ct.json").exists() and of(flat, "mr").ids() == []
