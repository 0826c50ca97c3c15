"""Nothing of a request stays in the temporary folder, which is for the server alone."""

import os
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import monailabel
import pytest
from fastapi.background import BackgroundTasks
from fastapi.responses import FileResponse
from monailabel.endpoints import infer

from lib.host.uploads import temporary_files
from lib.host.uploads.temporary_files import ENDPOINTS, NAMING, NotingTempfile, clean_up_after, sweep

APP = Path(__file__).parents[3]
MONAILABEL = Path(monailabel.__file__).parent
NAMING_ELSEWHERE = {
    # What the server is started with, what a training or another process does.
    *("utils/others/generic.py", "tasks/train/basic_train.py", "client/client.py"),
    # No image of ours goes through them: refused, or for other kinds of images and networks.
    *("endpoints/model.py", "endpoints/wsi_infer.py", "datastore/cvat.py", "sam2/infer.py"),
    *("utils/others/detection.py", "utils/others/pathology.py"),
}
SERVE = """
import os, sys, tempfile
from monailabel.endpoints import infer
from lib.host.uploads.temporary_files import use_private_temp_folder
before, of_all = infer.run_inference, tempfile.NamedTemporaryFile
folder = use_private_temp_folder()
assert use_private_temp_folder() == folder and infer.run_inference.__wrapped__ is before
assert tempfile.NamedTemporaryFile is of_all
open(infer.tempfile.NamedTemporaryFile(suffix=".nii.gz").name, "w").close()
print(folder, oct(os.stat(folder).st_mode & 0o777), tempfile.gettempdir(), len(os.listdir(folder)), flush=True)
if sys.argv[1] == "die":
    os.kill(os.getpid(), 9)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(infer, "tempfile", NotingTempfile())
    return tmp_path


def named(suffix: str = ".nii") -> Path:
    """A file as MONAI Label makes it."""
    path = Path(infer.tempfile.NamedTemporaryFile(suffix=suffix).name)
    path.write_text("image")
    return path


def test_after_an_error_everything_is_gone_at_once(folder: Path) -> None:
    def endpoint(tasks: BackgroundTasks, what: str) -> None:
        named()
        Path(infer.tempfile.NamedTemporaryFile().name).mkdir()
        raise ValueError(what)

    with pytest.raises(ValueError, match="text"):
        clean_up_after(endpoint)(BackgroundTasks(), what="text")
    assert list(folder.iterdir()) == []


def test_after_an_answer_the_rest_goes_when_it_was_sent(folder: Path) -> None:
    def endpoint(tasks: BackgroundTasks) -> Path:
        named()
        return named(".dcm")

    tasks = BackgroundTasks()
    answer = clean_up_after(endpoint)(tasks)
    assert answer.read_text() == "image" and len(list(folder.iterdir())) == 2
    for task in tasks.tasks:
        task.func(*task.args)
    assert list(folder.iterdir()) == []


def test_a_file_that_is_sent_goes_when_it_was_sent(folder: Path) -> None:
    response = clean_up_after(lambda limit: FileResponse(named(".zip")))(3)
    assert len(list(folder.iterdir())) == 1
    for task in response.background.tasks:
        task.func(*task.args)
    assert list(folder.iterdir()) == []


def test_files_of_others_stay(folder: Path) -> None:
    mine = named()
    with pytest.raises(ValueError, match="x"):
        clean_up_after(lambda tasks: (_ for _ in ()).throw(ValueError("x")))(BackgroundTasks())
    assert mine.exists()


def test_what_others_name_meanwhile_stays(folder: Path) -> None:
    def endpoint(tasks: BackgroundTasks) -> None:
        with tempfile.NamedTemporaryFile(delete=False) as file:
            pass
        raise ValueError(file.name)

    with pytest.raises(ValueError, match=str(folder)) as error:
        clean_up_after(endpoint)(BackgroundTasks())
    assert Path(str(error.value)).exists()


def test_the_functions_of_the_host_are_there() -> None:
    for module, name in ENDPOINTS:
        assert callable(getattr(module, name))


def test_no_module_of_the_host_that_names_files_is_forgotten() -> None:
    naming = {path for path in MONAILABEL.rglob("*.py") if "tempfile.NamedTemporaryFile(" in path.read_text()}
    named = {str(path.relative_to(MONAILABEL)) for path in naming - {Path(module.__file__) for module in NAMING}}
    assert named == NAMING_ELSEWHERE
    # All of them have it as a module: another import of it would not be seen.
    assert not [path for path in MONAILABEL.rglob("*.py") if "from tempfile" in path.read_text()]


def test_sweep_takes_what_is_old(folder: Path) -> None:
    old, new = named(), named()
    os.utime(old, (time.time() - 3601,) * 2)
    sweep(folder)
    assert not old.exists() and new.exists()
    sweep(folder / "gone")
    assert stat.S_IMODE((folder / "gone").stat().st_mode) == 0o700


def serve(tmp: Path, how: str) -> list[str]:
    env = {**os.environ, "TMPDIR": str(tmp)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SERVE, how],
        cwd=APP,
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout, done.stderr
    return done.stdout.splitlines()[-1].split()


@pytest.mark.slow
def test_the_servers_folder_is_private_and_goes_with_it(tmp_path: Path) -> None:
    killed, mode, used, count = serve(tmp_path, "die")
    assert mode == "0o700" and used == killed and count == "1"
    assert Path(killed).parent == tmp_path and Path(killed).exists()
    (tmp_path / f"{temporary_files._PREFIX}{os.getpid()}-of_the_living").mkdir()
    serve(tmp_path, "end")
    assert [path.name for path in tmp_path.glob("sam3d*")] == [f"{temporary_files._PREFIX}{os.getpid()}-of_the_living"]
