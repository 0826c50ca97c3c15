"""``make weights`` as users give it: killed twice, it goes on; what it prints works; once more, it
trains nothing; for longer, it goes on."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest
import yaml

from lib.files.checksums import file_sha256
from lib.models.checkpoint import load_model
from lib.presets import load_preset
from lib.pretraining.recipe import STRUCTURES
from lib.segmenters import families
from lib.segmenters.frozen_store import FrozenStore
from tests.support.block_volumes import KEPT, write_data
from tests.support.server import APP_DIR

REPOSITORY = APP_DIR.parents[1]
MAKE = ("make", "--no-print-directory", "-C", str(REPOSITORY), f"VENV={sys.prefix}", "-o", f"{sys.prefix}/.installed")
STEPS = 5


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small volumes and label maps in every folder that the recipe reads."""
    folder = tmp_path_factory.mktemp("data")
    write_data(folder)
    return folder


@contextmanager
def started(command: tuple[str, ...], log: Path) -> Iterator[psutil.Process]:
    """The command's own process, below make."""
    with log.open("w") as file:
        make = subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True)
    try:
        yield wait_for(lambda: own_process(make.pid), 120, log)
    finally:
        if make.poll() is None:
            os.killpg(make.pid, signal.SIGKILL)
        make.wait()


def own_process(make: int) -> psutil.Process | None:
    below = [psutil.Process(make), *psutil.Process(make).children(recursive=True)]
    return next((process for process in below if is_script(process)), None)


def is_script(process: psutil.Process) -> bool:
    try:
        line = process.cmdline()
    except psutil.Error:  # what make started for a moment is over
        return False
    return line[1:4] == ["-m", "sam3d", "weights"]


def wait_for(value: Callable, timeout_s: float, log: Path):
    """What a function gives, once that is something."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if found := value():
            return found
        time.sleep(0.02)
    raise AssertionError(log.read_text())


def kill_when(ready: Callable[[], object], command: tuple[str, ...], log: Path) -> None:
    """End the command's own process alone, as hard as can be; those that it started end by themselves."""
    with started(command, log) as process:
        wait_for(lambda: ready() or not process.is_running(), 900, log)
        assert ready(), log.read_text()
        others = process.children(recursive=True)
        process.kill()
        assert others and not psutil.wait_procs(others, timeout=60)[1]


def call(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=900)


def times(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_make_weights(data: Path, tmp_path: Path) -> None:
    out, log = tmp_path / "out", tmp_path / "log"
    command = (*MAKE, "weights", f"DATA={data}", f"OUT={out}", "DEVICE=cpu", "TRIAL=1", f"STEPS={STEPS}")

    kill_when(lambda: list(out.glob("phantoms/*.npz")), command, log)
    assert not list(out.glob("*.safetensors"))
    phantoms = times(out / "phantoms")
    kill_when(lambda: (out / "tiny_state.pt").exists(), command, log)  # what is resumed from; the curve comes before
    assert {path: at for path, at in times(out / "phantoms").items() if path in phantoms and path.endswith(".npz")} == {
        path: at for path, at in phantoms.items() if path.endswith(".npz")
    }
    assert not list(out.glob("*.safetensors"))

    done = call(*command)
    assert done.returncode == 0, done.stderr
    assert "Resuming at step" in done.stderr and "Traceback" not in done.stderr
    steps = [point["step"] for point in json.loads((out / "tiny_curve.json").read_text())]
    assert steps == list(range(1, STEPS + 1))
    assert len(list(out.glob("phantoms/*.npz"))) == 2 and len(list(out.glob("phantoms_held_out/*.npz"))) == 2
    assert not list(out.rglob("*.partial")) and (out / "tiny_curve.png").read_bytes().startswith(b"\x89PNG")

    base, weights = out / "tiny_base.safetensors", out / "tiny_structures.safetensors"
    assert base.stat().st_size + weights.stat().st_size <= 10_000_000
    _, report = load_model(size="tiny", base=base, weights=weights)
    assert report.created == {} and report.provenance["steps"] == STEPS
    assert report.provenance["data"][:2] == ["2 of sts_ct", "2 of sts_mr_t1"]
    assert "2 synthetic_mr, made from labelmaps_trunk/labels" in " ".join(report.provenance["data"])
    held_out = REPOSITORY / "benchmarks/held_out.txt"
    assert report.provenance["held_out"] == {"file": held_out.name, "sha256": file_sha256(held_out)}
    assert {"licence", "seed", "minutes", "recipe", "data_sha256", "curve", "machine"} <= report.provenance.keys()

    before = times(out)
    again = call(*command)
    assert again.returncode == 0 and "nothing is left to do" in again.stderr and again.stdout == done.stdout
    written = {path for path, at in times(out).items() if before.get(path) != at}
    assert {Path(path).name for path in written} <= {"training.log", *(f.name for f in out.glob("*_held_out.json"))}
    weights.unlink()
    assert call(*command).returncode == 0 and load_model(size="tiny", base=base, weights=weights)
    assert [point["step"] for point in json.loads((out / "tiny_curve.json").read_text())] == steps

    other = call(*MAKE, "weights", f"DATA={data}", f"OUT={out}", "MINUTES=40")
    assert other.returncode != 0 and "begun with other values of" in other.stderr and "minutes" in other.stderr
    assert "Traceback" not in other.stderr
    first = file_sha256(weights)
    longer = call(*command[:-1], f"STEPS={STEPS + 2}")
    assert longer.returncode == 0 and f"Resuming at step {STEPS}" in longer.stderr, longer.stderr
    assert file_sha256(weights) != first
    provenance = load_model(size="tiny", base=base, weights=weights)[1].provenance
    assert provenance["steps"] == STEPS + 2 and provenance["begun_for"] == [{"minutes": None, "steps": STEPS}]
    assert [point["step"] for point in json.loads((out / "tiny_curve.json").read_text())] == [
        *steps,
        STEPS + 1,
        STEPS + 2,
    ]
    measure(done.stdout, out, base, weights, data)
    serve(tmp_path / "app", base, weights)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_weights_of_another_family(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_made(out)  # volumes that are there are not made again
    command = (*MAKE, "weights", f"DATA={data}", f"OUT={out}", "DEVICE=cpu", "TRIAL=1", "STEPS=1", "SIZE=micro")
    done = call(*command)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == str(out / "micro_structures.safetensors")
    assert done.stdout.count("make evaluate PRESET=sam2_micro ") == 3 and "BASE=" not in done.stdout
    model = load_preset(APP_DIR / "configs/sam2_micro.yaml").model
    files = {"weights": out / "micro_structures.safetensors"}
    _, report = families()[model.family].load(model.size, files, "cpu", FrozenStore())
    assert report.provenance["steps"] == 1 and report.provenance["data"][0] == "2 of sts_ct"
    again = call(*command)
    assert again.returncode == 0 and "nothing is left to do" in again.stderr
    other = call(*command[:-1])
    assert other.returncode != 0 and "begun with other values of size" in other.stderr


def write_made(out: Path) -> None:
    """Two small volumes of each source that is made."""
    labels = np.zeros((48, 48, 48), np.uint8)
    labels[16:32, 16:32, 16:32] = 1
    image = (40 * labels + np.random.default_rng(0).normal(20, 5, labels.shape)).astype(np.float32)
    for source in STRUCTURES.generated:
        (out / source.name).mkdir(parents=True)
        for seed in source.seeds[:2]:
            np.savez(out / source.name / f"{seed:06d}.npz", image=image, labels=labels, affine=np.eye(4))


def measure(printed: str, out: Path, base: Path, weights: Path, data: Path) -> None:
    """The first of the commands that were printed, letter by letter; without its base the same is refused."""
    lines = [line.strip() for line in printed.splitlines() if line.startswith("  make evaluate ")]
    assert len(lines) == 7
    _, *words = shlex.split(lines[0])
    refused = call(*MAKE, *(word for word in words if not word.startswith("BASE=")))
    assert refused.returncode != 0 and "trained on the base" in refused.stderr and "Traceback" not in refused.stderr
    done = call(*MAKE, *words)
    assert done.returncode == 0, done.stderr
    summary = json.loads(next(out.glob("*/summary.json")).read_text())
    assert summary["n"] == len(KEPT) and summary["protocol"]["model"]["weights_sha256"] == file_sha256(weights)
    cases = [json.loads(line)["case"] for line in next(out.glob("*/cases.jsonl")).read_text().splitlines()]
    assert set(cases) == set(KEPT)


def serve(app: Path, base: Path, weights: Path) -> None:
    """A copy of a preset that names both files, as the guide says."""
    (app / "configs").mkdir(parents=True)
    (app / "weights").mkdir()
    for name, file in (("mine_base", base), ("mine", weights)):
        (app / "weights" / f"{name}.safetensors").write_bytes(file.read_bytes())
    preset = yaml.safe_load((APP_DIR / "configs/ct.yaml").read_text())
    preset["model"] |= {"base": "weights/mine_base.safetensors", "weights": "weights/mine.safetensors"}
    (app / "configs/mine.yaml").write_text(yaml.safe_dump(preset))
    model = load_preset(app / "configs/mine.yaml").model
    family = families()[model.family]
    files = {key: app / model.file(key) for key in family.files}
    _, report = family.load(model.size, files, "cpu", FrozenStore())
    assert report.version == file_sha256(weights)
