"""One run of `benchmarks.active_learning`: a server with a strategy, whose pool is labelled, learned from, measured.

What is finished is noted at once, so a run that was killed goes on: with the case that was given and not labelled, the
training that was begun, the case that was not measured yet.
"""

import contextlib
import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import requests
from monailabel.client import MONAILabelClient

from benchmarks.learning_loop import train
from benchmarks.simulated_annotators import SEED, Annotators, truth_of
from lib.evaluation.cases import Source
from lib.evaluation.evaluated_segmenter import SegmenterChoice
from lib.evaluation.interaction import play_interaction
from lib.evaluation.simulated_user import SimulatedUser
from lib.files.checksums import file_sha256
from lib.host.process.launch import running_server
from lib.presets import Preset, load_preset
from lib.registry.registry import Registry
from lib.registry.version import SHIPPED

CLICKS = 5
"""On each case that was held back, the first in the middle of the structure."""


class Pool(NamedTuple):
    """Cases to choose from, and those that all versions are measured on.

    Attributes:
        name: For tables.
        cases: That Next Sample may give.
        held_back: That nobody labels.
    """

    name: str
    cases: Sequence[Source]
    held_back: Sequence[Source]


class Plan(NamedTuple):
    """What all runs share.

    Attributes:
        app: The app folder.
        preset: Name of the task.
        labels: Numbers of labels after which the server trains, ascending.
        epochs: Of one training.
    """

    app: Path
    preset: str
    labels: Sequence[int]
    epochs: int


class Notes:
    """What is finished, a line each.

    Args:
        file: JSON lines; made with its folder where there is none.
    """

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._file, self.lines = file, read_lines(file)
        # A line that a killed run left unfinished is dropped.
        file.write_text("".join(json.dumps(line) + "\n" for line in self.lines), encoding="utf-8")

    def add(self, **line: Any) -> None:
        """Keeps a line."""
        self.lines.append(line)
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def of(self, what: str) -> list[dict[str, Any]]:
        """The lines of one kind."""
        return [line for line in self.lines if line["what"] == what]


def read_lines(file: Path) -> list[dict[str, Any]]:
    """The whole lines of a file; none where there is no file."""
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


@dataclass(frozen=True)
class Simulation:
    """A pool, a strategy and a seed.

    The seed gives the cases their ids, in whose order Next Sample draws. It is also that of the split into training and
    validation patients, and of the trainings.

    Attributes:
        plan: Of all runs.
        pool: Of the run.
        strategy: ``--conf strategy``.
        seed: Of the run.
        folder: Of the run.
        shared: Takes what all runs of a pool share: scores by weights, and the phantoms that trainings rehearse.
    """

    plan: Plan
    pool: Pool
    strategy: str
    seed: int
    folder: Path
    shared: Path

    def __call__(self) -> None:
        """Does what is not done yet.

        Raises:
            ValueError: The folder holds a run with other settings.
            RuntimeError: Next Sample gives no case, or a training makes no version.
        """
        notes = Notes(self.folder / "notes.jsonl")
        self._require_same(notes)
        self._end_leftover()
        if not notes.of("round"):
            notes.add(what="round", labels=0, **self._weights(SHIPPED, SHIPPED))
        for line in notes.of("round"):
            self._measure(line)
        if {line["labels"] for line in notes.of("round")} >= set(self.plan.labels):
            return
        self._prepare()
        with running_server(
            self.plan.app, self._studies, log_path=self.folder / "server.log", conf=self._conf()
        ) as server:
            self._go_on(server.url, notes)

    def _go_on(self, url: str, notes: Notes) -> None:
        (self.folder / "sent").mkdir(exist_ok=True)
        annotators = Annotators(url, self.plan.preset, self._studies, self._cases, self.folder / "sent")
        if labels := notes.of("label"):
            # It may have been killed between the note and the label.
            annotators.submit(labels[-1]["image"], labels[-1]["annotator"])
        for number in self.plan.labels:
            while len(labels := notes.of("label")) < number:
                notes.add(what="label", **annotators.click_next([line["image"] for line in labels]))
                annotators.submit(notes.lines[-1]["image"], notes.lines[-1]["annotator"])
            if number not in {line["labels"] for line in notes.of("round")}:
                notes.add(what="round", labels=number, **self._weights(*self._train(url, number)))
                self._measure(notes.lines[-1])

    def _require_same(self, notes: Notes) -> None:
        """Later numbers of labels may be added, and more cases held back."""
        cases = json.dumps([[case.dataset, case.name] for case in self.pool.cases])
        settings = {
            "pool": self.pool.name, "cases": hashlib.sha256(cases.encode()).hexdigest(), "strategy": self.strategy,
            "seed": self.seed, "preset": self.plan.preset, "epochs": self.plan.epochs,
        }  # fmt: skip
        if not notes.of("settings"):
            notes.add(what="settings", **settings)
        first = {**notes.of("settings")[0]}
        del first["what"]
        trained = [line["labels"] for line in notes.of("round")][1:]
        if first != settings or trained != list(self.plan.labels)[: len(trained)]:
            raise ValueError(f"{self.folder} holds a run with {first}, trained after {trained} labels. Choose another.")

    def _end_leftover(self) -> None:
        """Ends the server of a run that was killed."""
        found = [p for p in psutil.process_iter(["cmdline"]) if str(self._studies) in (p.info["cmdline"] or ())]
        for process in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(found, timeout=30)

    def _prepare(self) -> None:
        """Fills the folders of the server."""
        partial = self.folder / "studies.partial"
        if not self._studies.exists():
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            for image, case in self._cases.items():
                shutil.copyfile(case.image, partial / f"{image}.nii.gz")
            partial.rename(self._studies)
        learning, phantoms = self.folder / "learning", self.shared / "phantoms"
        for folder in (learning, phantoms):
            folder.mkdir(parents=True, exist_ok=True)
        # Made once, for they are the same on every server.
        if not (learning / "replay").exists():
            (learning / "replay").symlink_to(phantoms.resolve())
        # Otherwise drawn by each server: patients would be split differently each time.
        key = learning / "splits.key"
        if not key.exists():
            key.write_text(hashlib.sha256(f"split {self.seed}".encode()).hexdigest(), encoding="utf-8")

    def _conf(self) -> dict[str, str]:
        folders = {f"{name}_dir": str(self.folder / name) for name in ("learning", "audit")}
        return {"models": self.plan.preset, "strategy": self.strategy, **folders}

    @property
    def _studies(self) -> Path:
        return self.folder / "studies"

    @cached_property
    def _cases(self) -> dict[str, Source]:
        """By image id."""
        order = np.random.default_rng(self.seed).permutation(len(self.pool.cases))
        return {f"case_{number:03d}": self.pool.cases[index] for number, index in enumerate(order)}

    def _train(self, url: str, labels: int) -> tuple[str, str]:
        """The version that a training on so many labels made, and the one that is served then."""
        started_by = f"{labels} labels"
        for _ in range(2):
            found = requests.get(f"{url}/versions/{self.plan.preset}", timeout=60).json()
            made = [version["id"] for version in found["versions"] if version["started_by"] == started_by]
            if made:
                return made[-1], found["served"]
            client = MONAILabelClient(url, tmpdir=str(self.folder))
            stats = train(client, self.plan.preset, self.plan.epochs, started_by=started_by, seed=self.seed)
        raise RuntimeError(f"The training on {started_by} made no version: {stats}. See {self.folder / 'server.log'}.")

    def _weights(self, newest: str, served: str) -> dict[str, Any]:
        """The two versions, and the checksums of their weights."""
        found = {"newest": newest, "served": served}
        return {**found, **{f"{role}_sha256": file_sha256(self._file(version)) for role, version in found.items()}}

    def _file(self, version: str) -> Path:
        """Of the weights of a version."""
        preset = self._preset
        if version == SHIPPED:
            return self.plan.app / preset.model.files[-1]
        versions = Registry(self.folder / "learning").of(preset.name, preset.model.size, preset.model.family)
        return versions.weights(version)

    @cached_property
    def _preset(self) -> Preset:
        return load_preset(self.plan.app / "configs" / f"{self.plan.preset}.yaml")

    def _measure(self, line: Mapping[str, Any]) -> None:
        """Clicks on the cases that were held back with both versions of a round, unless these weights were measured."""
        for role in ("served", "newest"):
            kept = Notes(scores_file(self.shared, line[f"{role}_sha256"]))
            done = {(one["dataset"], one["case"]) for one in kept.lines}
            open_cases = [case for case in self.pool.held_back if (case.dataset, case.name) not in done]
            weights = self._file(line[role]).resolve()
            segment = SegmenterChoice(self.plan.app, self._preset.with_weights(weights), "cpu")()
            for case in open_cases:
                truth, spacing = truth_of(case)
                user = SimulatedUser(truth, spacing, "centre", SEED, case.name)
                trace = play_interaction(segment, case.image, truth, spacing, user, CLICKS)
                kept.add(dataset=case.dataset, case=case.name, dice=[round(score, 4) for score in trace.dice])


def scores_file(shared: Path, sha256: str) -> Path:
    """Where the scores of some weights on the cases that were held back stand."""
    return shared / "scores" / f"{sha256[:16]}.jsonl"
