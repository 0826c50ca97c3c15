"""Files of torch.save from strangers: read, or refused in words; never executed."""

import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.models.checkpoint import read_safetensors
from lib.models.checkpoint_error import CheckpointError
from lib.models.reference_checkpoint import read_reference_checkpoint
from lib.models.torch_file import read_torch_file
from tests.support.weights import write_test_weights
from tests.support.wrong_files import ANY_FILE, RAN, Hostile, HostileEval


@pytest.mark.parametrize("name", [name for name in ANY_FILE if not name.startswith("foreign")])
def test_refused_in_one_line(name: str, tmp_path: Path) -> None:
    path = tmp_path / "file.pth"
    torch.save({"a": torch.ones(1000)}, path)
    ANY_FILE[name](path)
    with pytest.raises(CheckpointError) as caught:
        read_torch_file(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "Expected" in message and "\n" not in message and "\x1b" not in message
    assert not RAN.exists()


@pytest.mark.parametrize("hostile", [Hostile, HostileEval])
def test_the_hostile_files_do_run_where_they_are_trusted(hostile: type) -> None:
    pickle.loads(pickle.dumps(hostile()))
    RAN.rmdir()  # an error if it is not there


def test_names_the_code_that_a_file_asks_for(tmp_path: Path) -> None:
    torch.save({"a": Hostile()}, tmp_path / "file.pth")
    with pytest.raises(CheckpointError, match="mkdir.*nothing in the file was executed"):
        read_torch_file(tmp_path / "file.pth")


def test_numpy_scalars_are_admitted_in_one_kind_of_file_only(tmp_path: Path) -> None:
    path = tmp_path / "file.pth"
    torch.save({"best_val_loss": np.float64(0.5)}, path)
    before = set(torch.serialization.get_safe_globals())
    with pytest.raises(CheckpointError, match="found.*best_val_loss"):  # read, and then found to be no checkpoint
        read_reference_checkpoint(path)
    with pytest.raises(CheckpointError, match="numpy"):
        read_torch_file(path)
    assert set(torch.serialization.get_safe_globals()) == before


@pytest.mark.parametrize("scalar", [np.float64(0.5), np.float32(0.5)])
def test_scalars_of_the_training_keep_their_value(tmp_path: Path, scalar: np.floating) -> None:
    path = tmp_path / "file.pth"
    entries = {"encoder_dict": {}, "decoder_dict": {}, "feature_dict": [{}]}
    torch.save(entries | {"best_val_loss": scalar, "epoch": 3}, path)
    assert read_reference_checkpoint(path).training == {"best_val_loss": 0.5, "epoch": 3.0}


def test_scalars_under_the_name_that_numpy_2_gives_them(tmp_path: Path) -> None:
    written, path = tmp_path / "numpy1.pth", tmp_path / "numpy2.pth"
    entries = {"encoder_dict": {}, "decoder_dict": {}, "feature_dict": [{}], "best_val_loss": np.float64(0.5)}
    torch.save(entries, written)
    with zipfile.ZipFile(written) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name.endswith("data.pkl"):
                old, new = (b"cnumpy.core.multiarray\n", b"cnumpy._core.multiarray\n")
                assert old in content or new in content
                content = content.replace(old, new)
            target.writestr(name, content)
    assert read_reference_checkpoint(path).training == {"best_val_loss": 0.5}


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("whole")
    for form, is_zip in (("zip", True), ("old", False)):
        torch.save({"a": torch.ones(50), "b": [1, 2.0, "c"]}, folder / form, _use_new_zipfile_serialization=is_zip)
    _, weights = write_test_weights(folder)
    return {"zip": (folder / "zip").read_bytes(), "old": (folder / "old").read_bytes(), "own": weights.read_bytes()}


@pytest.mark.parametrize("form", ["zip", "old", "own"])
@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data())
def test_damage_anywhere_is_a_checkpoint_error_or_harmless(
    form: str, contents: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray(contents[form])
    # Most of our own file is numbers, where any byte is as good as another: look at the header.
    last = len(content) - 1 if form != "own" else int.from_bytes(content[:8], "little")
    if data.draw(st.booleans(), label="cut"):
        del content[data.draw(st.integers(0, last), label="at") :]
    else:
        content[data.draw(st.integers(0, last), label="place")] ^= data.draw(st.integers(1, 255), label="bits")
    path = tmp_path_factory.mktemp("damaged") / "file"
    path.write_bytes(content)
    try:
        if form == "own":
            read_safetensors(path, kind="trained", size="test")
        else:
            read_torch_file(path)
    except CheckpointError as error:
        assert str(path) in str(error)
