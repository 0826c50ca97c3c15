"""Processes that save, replace, delete and restore labels and add images, killed at random moments.

The process says what it is about to do and what it has done; so what has to be there afterwards is known, save for the
one change that the kill met, of which either state is right.
"""

import json
import multiprocessing
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from lib.host.studies_datastore import StudiesDatastore
from lib.studies.folder import StudiesFolder
from tests.support.studies_site import content, seen, write_studies

KILLS = 220
IMAGES = 4
LONGEST_S = 0.25
ACTIONS = ("save", "save", "save", "delete", "restore", "image", "show")


def work(studies: Path, folder: Path, seed: int, ready: Any) -> None:
    """Changes without end, through the data store that the server has."""
    chance = random.Random(seed)
    store = StudiesDatastore(str(studies), auto_reload=True)
    log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    ready.set()
    for number in range(10**6):
        image, action = f"image_{chance.randrange(IMAGES)}", chance.choice(ACTIONS)
        text, ending = f"{seed}-{number}", chance.choice((".nii.gz", ".nrrd"))
        labels = store.json()["objects"][image]["labels"]
        history = [change.id for change in store.folder.history(image) if store.folder.former(change)]
        if (action == "delete" and "final" not in labels) or (action == "restore" and not history):
            continue
        chosen = chance.choice(history) if action == "restore" else ""
        plan = {"action": action, "image": image, "text": text, "change": chosen}
        os.write(log, (json.dumps(plan) + "\n").encode())
        if action == "save":
            (folder / f"label{ending}").write_bytes(content(text))
            store.save_label(image, str(folder / f"label{ending}"), "final", {"label_info": [text]})
        elif action == "delete":
            store.remove_label(image, "final")
        elif action == "restore":
            store.folder.restore_label(image, "final", chosen, store_by())
        elif action == "image":
            (folder / "new.nii.gz").write_bytes(content(f"image {text}"))
            store.add_image(f"new_{text}", str(folder / "new.nii.gz"), {"from": text})
        else:
            store.update_image_info(image, {"strategy": {"random": {"ts": number}}})
        os.write(log, b'"done"\n')


def store_by() -> Any:
    from lib.studies.label_changes import By

    return By("somebody")


def read_log(path: Path) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """Changes that were done, and the one that was on its way."""
    done: list[dict[str, Any]] = []
    under_way = None
    for line in path.read_text().splitlines() if path.exists() else []:
        entry = json.loads(line)
        if entry == "done":
            assert under_way is not None
            done.append(under_way)
            under_way = None
        else:
            under_way = entry
    path.unlink(missing_ok=True)
    return done, under_way


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_nothing_is_lost_or_torn_by_kills_at_random_moments(tmp_path: Path) -> None:
    studies, folder = write_studies(tmp_path / "studies", IMAGES), tmp_path / "work"
    folder.mkdir()
    chance, context = random.Random(0), multiprocessing.get_context("fork")
    labels: dict[str, str | None] = {f"image_{number}": None for number in range(IMAGES)}
    former: list[str] = []
    met: dict[str, int] = {}
    for kill in range(KILLS):
        ready = context.Event()
        process = context.Process(target=work, args=(studies, folder, kill, ready))
        process.start()
        assert ready.wait(60)
        time.sleep(chance.uniform(0, LONGEST_S))  # the moment of the kill
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        done, under_way = read_log(folder / "log")
        found = seen(studies)
        texts = text_by_change(studies)
        for change in done:
            labels, former = after(change, labels, former, texts)
        either = [(labels, former)]
        if under_way is not None:
            met[under_way["action"]] = met.get(under_way["action"], 0) + 1
            either.append(after(under_way, labels, former, texts))
        state = {name: text for name, text in found["labels"].items()}
        assert (state, found["former"]) in [(one, sorted(all_)) for one, all_ in either], f"kill {kill}: {under_way}"
        labels, former = state, found["former"]
    print("kills:", KILLS, "met:", met)
    assert {"save", "delete", "restore", "image"} <= met.keys()


def text_by_change(studies: Path) -> dict[str, str]:
    """Text of the label before each change."""
    folder = StudiesFolder(studies)
    return {change.id: change.old["info"]["label_info"][0] for change in folder.history() if change.old}


def after(
    change: dict[str, Any], labels: dict[str, str | None], former: list[str], texts: dict[str, str]
) -> tuple[dict[str, str | None], list[str]]:
    """Labels and former labels after a change."""
    image, now, then = change["image"], dict(labels), list(former)
    if change["action"] in ("save", "delete", "restore"):
        if (before := now[image]) is not None:
            then.append(before)
        now[image] = {"save": change["text"], "delete": None, "restore": texts.get(change["change"])}[change["action"]]
    elif change["action"] == "image":
        now[f"new_{change['text']}"] = None
    return now, then
