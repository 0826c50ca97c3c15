"""Strategies of Next Sample compared in a small form: the real server, killed in the middle, goes on to the end."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.active_learning_table import estimate, total
from benchmarks.results import ROOT, Result
from benchmarks.simulation import read_lines
from lib.audit.log import AuditLog
from lib.learning.rehearsal import FIRST_SEED, KINDS
from lib.phantoms.data_set import save_volume
from lib.volumes.objects import volume_of_seed, write_training_volume
from lib.workflow.database import database_beside
from lib.workflow.served import RANDOM, STRATEGY, Served, read_served
from tests.support.server import quiet_environment
from tests.support.small_app import copy_small_app

AFFINE, SIDE = np.diag([-1.0, -1.0, 1.0, 1.0]), 28
LABELS, POOL, HELD_BACK = 4, 10, 2
TIME_S = 500


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


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_strategies_one_of_them_killed_in_the_middle(tmp_path: Path) -> None:
    out, results, picture = tmp_path / "out", tmp_path / "results", tmp_path / "curves.png"
    write_phantoms(out / "rare" / "phantoms")
    (tmp_path / "unseen.txt").write_text("odd_0\n")
    command = [
        *(sys.executable, "-m", "benchmarks.active_learning", "--preset", "test"),
        *("--app", copy_small_app(tmp_path / "app"), "--out", out, "--result", results, "--picture", picture),
        *("--data", write_data(tmp_path / "even", POOL + HELD_BACK, 60)),
        *("--rare", write_data(tmp_path / "odd", 2, 200), "--unseen", tmp_path / "unseen.txt", "--pools", "rare"),
        *("--strategies", "random,coverage", "--seeds", 1, "--labels", LABELS, "--epochs", 1),
        *("--pool", POOL, "--held-back", HELD_BACK),
    ]
    env = os.environ | quiet_environment(tmp_path / "caches") | {"OMP_NUM_THREADS": "1"}
    began = {"args": list(map(str, command)), "cwd": ROOT, "env": env, "text": True}
    first, second = (out / "rare" / name / "seed_1" for name in ("random", "coverage"))
    with subprocess.Popen(**began, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + TIME_S
        while len(notes(first, "label")) < 2:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    before = (first / "notes.jsonl").read_text()
    done = subprocess.run(**began, capture_output=True, timeout=TIME_S)
    assert done.returncode == 0, done.stderr
    assert (first / "notes.jsonl").read_text().startswith(before[: before.rindex("\n") + 1]), "nothing is done again"
    for run in (first, second):
        labels = notes(run, "label")
        images = [line["image"] for line in labels]
        assert len(images) == len(set(images)) == LABELS
        assert sorted(path.name for path in (run / "studies/labels/final").glob("*.nii.gz")) == sorted(
            f"{image}.nii.gz" for image in images
        )
        assert [(one.image, one.arm) for one in served(run)] == [(line["image"], line["arm"]) for line in labels]
        assert all(1 <= len(line["dice"]) <= 10 for line in labels)
        assert [line["labels"] for line in notes(run, "round")] == [0, LABELS]
        # With so few labels there are too few validation patients to publish anything.
        assert notes(run, "round")[1]["served"] == "shipped" != notes(run, "round")[1]["newest"]
    assert {one.arm for one in served(first)} == {RANDOM}
    assert STRATEGY in {one.arm for one in served(second)}
    assert {one.strategy for one in served(second)} == {"coverage"}
    asked = [record for record in AuditLog(second / "audit", 2**20).records() if "request" in record]
    assert len(asked) == sum(len(line["dice"]) for line in notes(second, "label"))
    tables = {path.stem: Result(**json.loads(path.read_text())) for path in results.glob("*.json")}
    rows = tables["active_learning"].rows
    assert [(row["held back"], row["labels"], row["strategy"]) for row in rows] == [
        (dataset, labels, strategy)
        for dataset in ("even", "odd")
        for labels, strategy in ((0, "none yet"), (LABELS, "random"), (LABELS, "coverage"))
    ]
    for row in rows:
        if row["labels"]:
            run = first if row["strategy"] == "random" else second
            clicks = row["clicks"]
            assert isinstance(clicks, list) and clicks[0] == sum(len(line["dice"]) for line in notes(run, "label"))
            assert row["published"] == "0 of 1"
    assert len(tables["active_learning_differences"].rows) == 2 and picture.stat().st_size > 1000
    again = subprocess.run(**began, capture_output=True, timeout=TIME_S)
    assert again.returncode == 0 and again.stdout == done.stdout, "all is done: no server is started"


def test_intervals_know_of_seeds_and_patients() -> None:
    patients = np.linspace(-0.1, 0.1, 21)
    mean, low, high = estimate(0.5 + patients[None])
    assert mean == 0.5 and 0.45 < low < 0.5 < high < 0.55
    # Seeds that differ while patients do not.
    mean, low, high = estimate(np.array([[0.4] * 5, [0.5] * 5, [0.6] * 5]))
    assert (mean, low, high) == (0.5, 0.4, 0.6)
    assert total([np.array([10] * 4), np.array([8] * 4)]) == [36.0, 32.0, 40.0]
    assert total([np.array([10] * 4)], [np.array([7] * 4)]) == [12.0, 12.0, 12.0]
