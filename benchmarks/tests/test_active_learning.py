"""Strategies of Next Sample compared in a small form: the real server, killed in the middle, goes on to the end."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from benchmarks.active_learning_table import estimate, total
from benchmarks.results import ROOT, Result
from benchmarks.simulation import read_lines
from lib.audit.log import AuditLog
from lib.learning.rehearsal import FIRST_SEED, KINDS
from lib.phantoms.data_set import save_volume
from lib.volumes.objects import volume_of_seed, write_training_volume
from lib.workflow.database import database_beside
from lib.workflow.served import FALLBACK, RANDOM, STRATEGY, Served, read_served
from tests.support.server import quiet_environment
from tests.support.small_app import copy_small_app

AFFINE, SIDE = np.diag([-1.0, -1.0, 1.0, 1.0]), 28
LABELS, POOL, HELD_BACK = 4, 10, 2


def block(seed: int, brightness: int) -> tuple[np.ndarray, np.ndarray]:
    """A bright block in noise, and its label."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((SIDE, SIDE, SIDE), np.uint8)
    labels[tuple(slice(low, low + 10) for low in rng.integers(5, 11, 3))] = 1
    return (brightness * labels + rng.normal(0, 10, labels.shape)).astype(np.int16), labels


def write_data(folder: Path, count: int, brightness: int) -> Path:
    for seed in range(count):
        for part, array in zip(("images", "labels"), block(seed, brightness), strict=True):
            save_volume(folder / part / f"{folder.name}_{seed}.nii.gz", array, AFFINE)
    return folder


def write_phantoms(folder: Path) -> None:
    """Small ones in place of those that a server makes, which takes a minute."""
    for kind in KINDS:
        for part, count in (("", max(one.trained for one in KINDS)), ("held_out", kind.held_out)):
            first = FIRST_SEED if not part else FIRST_SEED + max(one.trained for one in KINDS)
            (folder / kind.folder / part).mkdir(parents=True, exist_ok=True)
            for seed in range(first, first + count):
                image, labels = block(seed, 60)
                write_training_volume(volume_of_seed(folder / kind.folder / part, seed), image, AFFINE, labels=labels)


def served(run: Path) -> list[Served]:
    with database_beside(run / "studies").reading() as connection:
        return read_served(connection)


def notes(run: Path, what: str) -> list[dict[str, Any]]:
    return [line for line in read_lines(run / "notes.jsonl") if line["what"] == what]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Whatever a killed command left running in it is ended."""
    yield tmp_path
    for process in psutil.process_iter(["cmdline"]):
        if any(str(tmp_path) in word for word in process.info["cmdline"] or ()):
            process.kill()


def clicks(run: Path) -> int:
    return sum(len(line["dice"]) for line in notes(run, "label"))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_strategies_one_of_them_killed_in_the_middle(folder: Path) -> None:
    out, results, picture = folder / "out", folder / "results", folder / "curves.png"
    write_phantoms(out / "rare" / "phantoms")
    (folder / "unseen.txt").write_text("odd_0\n")
    command = [
        *(sys.executable, "-m", "benchmarks.active_learning", "--preset", "test", "--pools", "rare"),
        *("--app", copy_small_app(folder / "app"), "--out", out, "--result", results, "--picture", picture),
        *("--data", write_data(folder / "even", POOL + HELD_BACK, 60)),
        *("--rare", write_data(folder / "odd", 2, 200), "--unseen", folder / "unseen.txt"),
        *("--strategies", "random,coverage", "--seeds", 1, "--labels", LABELS, "--epochs", 1),
        *("--pool", POOL, "--held-back", HELD_BACK),
    ]
    env = os.environ | quiet_environment(folder / "caches") | {"OMP_NUM_THREADS": "1"}
    began: dict[str, Any] = {"args": list(map(str, command)), "cwd": ROOT, "env": env, "text": True}
    first, second = (out / "rare" / name / "seed_1" for name in ("random", "coverage"))
    with subprocess.Popen(**began, stderr=subprocess.DEVNULL) as process:
        while len(notes(first, "label")) < 2:
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    before = (first / "notes.jsonl").read_text()
    done = subprocess.run(**began, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert (first / "notes.jsonl").read_text().startswith(before[: before.rindex("\n") + 1]), "nothing is done again"
    check_run(first, "random", {RANDOM})
    check_run(second, "coverage", {STRATEGY, RANDOM, FALLBACK})
    # Of the one that nobody killed: each click was one request.
    asked = [record for record in AuditLog(second / "audit", 2**20).records() if "request" in record]
    assert len(asked) == clicks(second)
    check_tables(results, {"random": first, "coverage": second})
    assert picture.stat().st_size > 1000
    again = subprocess.run(**began, capture_output=True)
    assert again.returncode == 0 and again.stdout == done.stdout, "all is done, and no server is started"


def check_run(run: Path, strategy: str, arms: set[str]) -> None:
    """Each case was served once and labelled once, and a training followed."""
    labels = notes(run, "label")
    images = [line["image"] for line in labels]
    assert len(images) == len(set(images)) == LABELS
    submitted = sorted(path.name.removesuffix(".nii.gz") for path in (run / "studies/labels/final").glob("*.nii.gz"))
    assert submitted == sorted(images)
    given = served(run)
    assert [(one.image, one.arm) for one in given] == [(line["image"], line["arm"]) for line in labels]
    assert {one.strategy for one in given} == {strategy} and {one.arm for one in given} <= arms
    assert strategy == "random" or STRATEGY in {one.arm for one in given}
    assert all(1 <= len(line["dice"]) <= 10 for line in labels)
    begun, trained = notes(run, "round")
    assert (begun["labels"], trained["labels"]) == (0, LABELS)
    # So few labels have too few validation patients among them to publish anything.
    assert trained["served"] == "shipped" != trained["newest"]


def check_tables(results: Path, runs: dict[str, Path]) -> None:
    """All rows are there, with all clicks."""
    tables = {path.stem: Result(**json.loads(path.read_text())) for path in results.glob("*.json")}
    rows = tables["active_learning"].rows
    assert [(row["held back"], row["labels"], row["strategy"]) for row in rows] == [
        (dataset, labels, strategy)
        for dataset in ("even", "odd")
        for labels, strategy in ((0, "none yet"), *((LABELS, name) for name in runs))
    ]
    for row in rows:
        if row["labels"]:
            spent = row["clicks"]
            assert isinstance(spent, list) and spent[0] == clicks(runs[str(row["strategy"])])
            assert row["published"] == "0 of 1"
    differences = tables["active_learning_differences"].rows
    assert [(row["held back"], row["strategy"]) for row in differences] == [("even", "coverage"), ("odd", "coverage")]


def test_intervals_know_of_seeds_and_patients() -> None:
    patients = np.linspace(-0.1, 0.1, 21)
    mean, low, high = estimate(0.5 + patients[None])
    assert mean == 0.5 and 0.45 < low < 0.5 < high < 0.55
    # Seeds that differ while patients do not.
    mean, low, high = estimate(np.array([[0.4] * 5, [0.5] * 5, [0.6] * 5]))
    assert (mean, low, high) == (0.5, 0.4, 0.6)
    assert total([np.array([10] * 4), np.array([8] * 4)]) == [36.0, 32.0, 40.0]
    assert total([np.array([10] * 4)], [np.array([7] * 4)]) == [12.0, 12.0, 12.0]
