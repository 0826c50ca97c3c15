"""A real Ray cluster of two machines, each a process here, of which workers are killed."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import psutil
import pytest
from click.testing import CliRunner

from lib.evaluation.cases import from_folders
from lib.evaluation.evaluate import Evaluation, evaluate
from lib.evaluation.evaluated_segmenter import SegmenterChoice
from lib.evaluation.ledger import read_records
from lib.evaluation.record import TIMES
from lib.presets import load_preset
from lib.registry.version import SHIPPED
from lib.workers.choice import WorkerChoice
from lib.workers.each_case import WorkerLost, WorkersError
from lib.workflow.database import database_beside
from lib.workflow.scores import WHOLE, read_scores
from sam3d.__main__ import main
from tests.support.one_thread import one_thread  # noqa: F401
from tests.support.program import REPOSITORY, sam3d
from tests.support.small_app import copy_small_app

pytestmark = [
    # Found, not imported: Ray looks at its variables when it is imported.
    pytest.mark.skipif(not importlib.util.find_spec("ray"), reason="Ray is not installed: pip install ray"),
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray", "ignore::ResourceWarning"),
]
SHAPE = (100, 100, 90)


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """Address of two machines with one core each; they and whoever asks them know one token."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", "0" * 64)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_niceness", "0")
        from ray.cluster_utils import Cluster

        machine = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
        found = Cluster(initialize_head=True, head_node_args=machine | {"include_dashboard": False})
        try:
            found.add_node(**machine)
            yield found.address
        finally:
            found.shutdown()


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_small_app(tmp_path_factory.mktemp("workers") / "app")


def workers_at(title: str) -> list[psutil.Process]:
    """Ray names its processes by what they do."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if (process.info["cmdline"] or [""])[0] == title:
            found.append(process)
    return found


def wait_for(find: Callable[[], Any]) -> Any:
    end = time.monotonic() + 400
    while time.monotonic() < end:
        if found := find():
            return found
        time.sleep(0.005)
    raise AssertionError("it did not happen")


def scores(studies: Path) -> dict[str, tuple[str, bytes]]:
    with database_beside(studies).reading() as connection:
        (version,) = {row[0] for row in connection.execute("SELECT version FROM scores")}
        found = read_scores(connection, "test", version)[WHOLE]
    return {name: (one.content, one.numbers) for name, one in found.items()}


def test_a_worker_that_is_killed_costs_no_score(
    cluster: str, app: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("killed", "alone"):
        (tmp_path / name).mkdir()
    for number in range(8):
        noise = np.random.default_rng(number).normal(40, 60, SHAPE).astype(np.int16)
        nib.save(nib.Nifti1Image(noise, np.eye(4)), tmp_path / f"killed/case_{number}.nii.gz")
        os.link(tmp_path / f"killed/case_{number}.nii.gz", tmp_path / f"alone/case_{number}.nii.gz")
    (tmp_path / "killed/torn.nii.gz").write_bytes(b"no image")
    line = ["score", "--preset", "test", "--device", "cpu", "--studies"]
    command = [sys.executable, "-m", "sam3d", "--app", app, *line, tmp_path / "killed"]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(
        [*map(str, command), "--workers", "2", "--cluster", cluster],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as run:  # fmt: skip
        assert run.stdout is not None and run.stderr is not None
        first = run.stdout.readline()
        victim = wait_for(lambda: workers_at("ray::CaseWorker.work"))[0]
        assert victim.nice() >= 10, "users' clicks come first"
        victim.send_signal(signal.SIGKILL)
        rest, said = run.stdout.read(), run.stderr.read()
    lines = sorted((first + rest).splitlines())
    assert lines == ["8 scored, 0 up to date, 1 without a score", *(f"case_{n}: scored" for n in range(8)),
                     "torn: failed"]  # fmt: skip
    assert run.returncode == 1 and said.count("A worker was lost") == 1
    # In this process, which has one thread as a worker has; its priority would stay low.
    monkeypatch.setattr(os, "nice", lambda by: by)
    done = CliRunner().invoke(main, ["--app", str(app), *line, str(tmp_path / "alone")])
    assert done.exit_code == 0, done.output
    alone = scores(tmp_path / "alone")
    assert {name: one for name, one in scores(tmp_path / "killed").items() if name != "torn"} == alone
    assert len(alone) == 8 and all(features for _, features in alone.values())


def test_an_evaluation_gives_the_same_records(cluster: str, app: Path, tmp_path: Path) -> None:
    inside = ((np.indices((36, 32, 24)) - np.array([18, 16, 12])[:, None, None, None]) ** 2).sum(0) <= 49
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
    for number in range(3):
        noise = np.random.default_rng(number).normal(40, 10, inside.shape) + 60 * inside
        nib.save(nib.Nifti1Image(noise.astype(np.int16), np.eye(4)), tmp_path / f"images/p{number}.nii.gz")
        nib.save(nib.Nifti1Image(inside.astype(np.uint8), np.eye(4)), tmp_path / f"labels/p{number}.nii.gz")
    sources = from_folders(tmp_path / "images")
    choice = SegmenterChoice(app, load_preset(app / "configs/test.yaml"), "cpu")
    out, modes = tmp_path / "alone", ("centre", "jitter")
    evaluate(Evaluation(choice, sources, out, modes, (42,), timeout_s=90.0, version=SHIPPED))
    done = sam3d(
        *(
            "evaluate",
            "--images",
            tmp_path / "images",
            "--preset",
            "test",
            "--device",
            "cpu",
            "--out",
            tmp_path / "ray",
        ),
        *("--modes", "centre,jitter", "--seeds", "42", "--workers", 2, "--cluster", cluster),
        app=app,
    )
    assert done.returncode == 0, done.stderr
    alone, ray = (
        [{key: value for key, value in record.items() if key not in TIMES} for record in read_records(tmp_path / out)]
        for out in ("alone", "ray")
    )
    assert alone == ray and len(ray) == 6
    assert (tmp_path / "ray/worst_1.png").read_bytes() == (tmp_path / "alone/worst_1.png").read_bytes()


def test_a_case_that_kills_its_workers_costs_itself(cluster: str) -> None:
    def square(tool: int, case: int) -> int:
        if case == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        if case == 4:
            raise LookupError("no such case")
        return tool * case**2

    with WorkerChoice(2, cluster).start(lambda: 10) as workers:
        done: dict[int, Future[int]] = dict(workers.each(square, range(6)))
        again = dict(workers.each(square, [7, 8]))
    assert {case: one.result() for case, one in done.items() if case not in (3, 4)} == {0: 0, 1: 10, 2: 40, 5: 250}
    assert isinstance(done[3].exception(), WorkerLost)
    with pytest.raises(LookupError, match="no such case") as raised:
        done[4].result()
    assert "in square" in raised.value.__notes__[0], "where it happened"
    assert {case: one.result() for case, one in again.items()} == {7: 490, 8: 640}


def test_a_machine_that_lacks_something_is_named_and_not_used(
    cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choice = WorkerChoice(2, cluster)
    missing = tmp_path / "studies"
    with (
        pytest.raises(WorkersError, match=f"cannot be used: there is no folder {missing}"),
        choice.reading(missing).start(lambda: 10) as workers,
    ):
        list(workers.each(max, [1]))
    monkeypatch.setattr("lib.workers.on_ray.release", lambda _: {"torch": "0.4"})
    with pytest.raises(WorkersError, match="they have torch .* in place of 0.4"), choice.start(lambda: 10) as workers:
        list(workers.each(max, [1]))
