"""Answers of the real server are recorded, and recorded masks can be computed again."""

import gzip
import json
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from lib.version import __version__
from lib.volumes.mask_hash import mask_hash
from tests.support.program import sam3d
from tests.support.server import AppServer, start_server
from tests.support.small_app import copy_small_app
from tests.support.weights import write_test_weights

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    # MONAI Label's client closes neither its connections nor the files it uploads.
    pytest.mark.filterwarnings("ignore:Exception ignored in. <(socket|_io):pytest.PytestUnraisableExceptionWarning"),
]
NAME = "Mustermann_Erika_19700101"
CLICK = [12, 10, 8]
AFFINE = np.diag([-1.0, 1.2, 2.0, 1.0])


def write_studies(folder: Path) -> Path:
    folder.mkdir()
    for seed, name in enumerate((NAME, "other")):
        voxels = np.random.default_rng(seed).normal(40, 60, (24, 20, 16)).astype(np.int16)
        nib.save(nib.Nifti1Image(voxels, AFFINE), folder / f"{name}.nii.gz")
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppServer]:
    folder = tmp_path_factory.mktemp("site")
    app, studies = copy_small_app(folder / "app"), write_studies(folder / "studies")
    with start_server(app, studies, folder / "server", timeout_s=300) as running:
        yield running


def click(server: AppServer, image: str = NAME, **more: Any) -> tuple[Path, dict[str, Any]]:
    params = {"foreground": [CLICK], "result_extension": ".nii.gz", "patient": NAME} | more
    file, answer = server.client.infer("test", image, params)
    return Path(file), answer


def records(server: AppServer) -> list[dict[str, Any]]:
    files = sorted((server.app_dir / "logs" / "audit").glob("*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def replay(server: AppServer, record_id: str, *arguments: object) -> tuple[int, str]:
    done = sam3d("replay", record_id, *arguments, app=server.app_dir, cwd=server.folder)
    return done.returncode, done.stdout + done.stderr


def studies(server: AppServer) -> Path:
    return server.app_dir.parent / "studies"


def test_an_answer_is_recorded_without_the_patient(server: AppServer) -> None:
    file, answer = click(server, threshold=0.4, background=[[1, 1, 1]])
    record = records(server)[-1]
    assert answer["audit_id"] == record["id"]
    for key in ("image_hash", "mask_hash", "mask_voxels", "model_version", "precision", "device", "latency_ms"):
        assert record[key] == answer[key], key
    assert record["mask_hash"] == mask_hash(nib.load(file).dataobj)
    assert record["request"]["foreground"] == [CLICK] and record["request"]["background"] == [[1, 1, 1]]
    assert record["request"]["threshold"] == 0.4
    assert record["user"] is None and record["preset"] == "test"
    assert record["software"]["sam3d_adapter"] == __version__
    folder = server.app_dir / "logs" / "audit"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for path in folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert NAME not in path.read_text() and str(studies(server)) not in path.read_text()


def test_one_image_under_two_names_is_one_content(server: AppServer, tmp_path: Path) -> None:
    _, answer = click(server)
    first = records(server)[-1]
    shutil.copy(studies(server) / f"{NAME}.nii.gz", tmp_path / "post_from_mitk.nii.gz")
    _, uploaded = server.client.infer("test", "", {"foreground": [CLICK]}, file=str(tmp_path / "post_from_mitk.nii.gz"))
    second = records(server)[-1]
    assert uploaded["encodes"] == 0
    assert (second["image_hash"], second["mask_hash"]) == (first["image_hash"], first["mask_hash"])
    assert first["image_id_hash"] is not None and second["image_id_hash"] is None


def test_a_refused_request_leaves_no_record(server: AppServer) -> None:
    click(server)
    before = len(records(server))
    with pytest.raises(Exception, match="422"):
        click(server, foreground=[[-1, 0, 0]])
    assert len(records(server)) == before


def test_replay_gives_the_recorded_mask(server: AppServer, tmp_path: Path) -> None:
    file, answer = click(server, foreground=[CLICK, [14, 9, 8]], threshold=0.45)
    assert answer["mask_voxels"] > 0
    status, said = replay(server, answer["audit_id"], "--studies", studies(server), "--out", tmp_path / "mask.nii.gz")
    assert status == 0 and said.splitlines()[-1] == "equal", said
    assert said.count(answer["mask_hash"]) == 2 and "Not as recorded" not in said
    assert len(said.splitlines()) == 3 and NAME not in said  # what the host says of a request is kept out
    again, first = nib.load(tmp_path / "mask.nii.gz"), nib.load(file)
    np.testing.assert_array_equal(np.asarray(again.dataobj), np.asarray(first.dataobj))
    np.testing.assert_allclose(again.affine, first.affine)


def test_replay_says_what_it_lacks(server: AppServer, tmp_path: Path) -> None:
    _, answer = click(server)
    record_id = answer["audit_id"]
    status, said = replay(server, record_id, "--studies", tmp_path)
    assert status == 2 and f"No image below {tmp_path} has the content {answer['image_hash']}" in said
    status, said = replay(server, record_id, "--image", studies(server) / "other.nii.gz")
    assert status == 2 and "not the record's image" in said
    status, said = replay(server, "20260101T000000-000000000000", "--studies", studies(server))
    assert status == 2 and "no record" in said


def copy_of_the_app(server: AppServer, tmp_path: Path) -> Path:
    return Path(shutil.copytree(server.app_dir, tmp_path / "app"))


def replay_in(app: Path, record_id: str, image: Path) -> tuple[int, str]:
    done = sam3d("replay", record_id, "--image", image, app=app)
    return done.returncode, done.stdout + done.stderr


def test_replay_with_other_weights_names_the_missing_ones(server: AppServer, tmp_path: Path) -> None:
    _, answer = click(server)
    app = copy_of_the_app(server, tmp_path)
    write_test_weights(app / "weights", seed=1)
    status, said = replay_in(app, answer["audit_id"], studies(server) / f"{NAME}.nii.gz")
    assert status == 2 and answer["model_version"] in said and "missing" in said


def test_replay_tells_another_mask_apart_and_a_changed_preset(server: AppServer, tmp_path: Path) -> None:
    _, answer = click(server)
    app = copy_of_the_app(server, tmp_path)
    preset = app / "configs" / "test.yaml"
    preset.write_text(preset.read_text().replace("spacing_mm: 1.0", "spacing_mm: 2.0"))
    status, said = replay_in(app, answer["audit_id"], studies(server) / f"{NAME}.nii.gz")
    assert status == 1 and said.splitlines()[-1] == "different" and "configs/test.yaml was changed" in said


def test_an_image_kept_elsewhere_under_another_name_is_found(server: AppServer, tmp_path: Path) -> None:
    """As an archive may hold it: unpacked, renamed, deeper."""
    _, answer = click(server)
    (tmp_path / "archive" / "2026").mkdir(parents=True)
    with gzip.open(studies(server) / f"{NAME}.nii.gz") as packed:
        (tmp_path / "archive" / "2026" / "0001.nii").write_bytes(packed.read())
    status, said = replay(server, answer["audit_id"], "--studies", tmp_path / "archive")
    assert status == 0, said


def test_where_nothing_can_be_recorded_the_mask_comes_with_a_warning(server: AppServer) -> None:
    file, answer = click(server)
    folder = server.app_dir / "logs" / "audit"
    folder.rename(folder.with_name("kept"))
    folder.write_text("in the way")
    try:
        again, without = click(server)
    finally:
        folder.unlink()
        folder.with_name("kept").rename(folder)
    assert without["audit_id"] is None and without["mask_hash"] == answer["mask_hash"]
    assert any("could not be recorded" in warning for warning in without["warnings"])
    np.testing.assert_array_equal(np.asarray(nib.load(again).dataobj), np.asarray(nib.load(file).dataobj))
    assert "An answer was not recorded." in server.log_path.read_text()
    assert click(server)[1]["audit_id"]
