"""From a published checkpoint to a preset's file, by the one command; what does not fit is refused in words."""

import json
import logging
from pathlib import Path

import pytest
import torch
from sam2.modeling.sam2_base import SAM2Base

from lib.cli.convert import run
from lib.families.sam2 import FAMILY
from lib.families.sam2.network import load_network
from lib.files.checksums import file_sha256
from lib.models.checkpoint_error import CheckpointError

PRESET = """description: Slice by slice
label: lesion
model: {{family: sam2, size: {size}, weights: {weights}}}
slices: {{channels: same, stop_after: 3}}
intensity: {{mode: percentile, low: 0.5, high: 99.5}}
"""


class RunsCode:
    """Pickled, it would run a command when it is read."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('it ran')",)


@pytest.fixture
def app(size: str, tmp_path: Path) -> Path:
    (tmp_path / "app/configs").mkdir(parents=True)
    (tmp_path / "app/configs/slices.yaml").write_text(PRESET.format(size=size, weights="model/nano.safetensors"))
    return tmp_path / "app"


@pytest.fixture
def checkpoint(model: SAM2Base, tmp_path: Path) -> Path:
    torch.save({"model": model.state_dict()}, tmp_path / "sam2_nano.pt")
    return tmp_path / "sam2_nano.pt"


def test_every_tensor_arrives_and_the_file_says_where_it_is_from(
    app: Path, checkpoint: Path, size: str, model: SAM2Base, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert run(app, preset="slices", checkpoint=checkpoint) == 0
    loaded, report = load_network(size, app / "model/nano.safetensors")
    theirs = model.state_dict()
    assert loaded.state_dict().keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in loaded.state_dict().items())
    assert report.provenance["sha256"] == file_sha256(checkpoint) and report.version
    assert report.provenance["source"] == "https://example.org/sam2_nano.pt"
    assert "Licence: Apache-2.0" in caplog.text
    said = json.loads((app / "model/nano.conversion.json").read_text())
    assert set(said["keys"][0]["loaded"]) == set(theirs)
    assert run(app, preset="slices", checkpoint=checkpoint) == 1 and "--replace" in caplog.text


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"weights": {}}, "expected the tensors under 'model'"),
        ({"model": {"no_mem_embed": torch.zeros(1, 1, 64)}}, "keys missing"),
        ({"model": RunsCode()}, "nothing in the file was executed"),
    ],
)
def test_another_file_is_refused_and_nothing_is_written(
    app: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, content: object, words: str
) -> None:
    torch.save(content, tmp_path / "other.pt")
    assert run(app, preset="slices", checkpoint=tmp_path / "other.pt") == 1
    assert words in caplog.text and not (app / "model").exists()


def test_a_tensor_of_another_shape_or_without_a_number_is_refused(
    app: Path, tmp_path: Path, model: SAM2Base, caplog: pytest.LogCaptureFixture
) -> None:
    for value, words in ((torch.zeros(1, 1, 32), "has shape (1, 1, 32)"), (torch.full((1, 1, 64), torch.nan), "NaN")):
        torch.save({"model": {**model.state_dict(), "no_mem_embed": value}}, tmp_path / "odd.pt")
        assert run(app, preset="slices", checkpoint=tmp_path / "odd.pt") == 1
        assert words in caplog.text and not (app / "model").exists()


def test_without_weights_it_is_said_what_to_fetch(app: Path, size: str, caplog: pytest.LogCaptureFixture) -> None:
    said = FAMILY.how_to_supply("slices", size, ["nano.safetensors"])
    assert "https://example.org/sam2_nano.pt, licence Apache-2.0" in said and "sam3d convert --preset slices" in said
    assert run(app, preset="slices", checkpoint=None, base_only=True) == 1 and "has no base" in caplog.text
    with pytest.raises(CheckpointError, match="nano"):
        load_network(size, app / "model/nano.safetensors")


def test_never_into_the_folder_that_is_published(app: Path, checkpoint: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert run(app, preset="slices", checkpoint=checkpoint, out=app / "weights") == 1
    assert "is published with the app" in caplog.text and not (app / "weights").exists()
