"""The loop of learning, as a hospital goes round it: click, submit labels, fine-tune, and click on what was learned."""

import contextlib
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from monailabel.client import MONAILabelClient
from monailabel.client.client import MONAILabelClientException

from demo.client import Answer, send_clicks
from demo.picture import draw_change
from demo.progress import Progress
from demo.ring_lesions import RingLesion, make_ring_lesion
from demo.study import DemoError, Study, deepest_voxel, dice
from lib.phantoms.data_set import save_volume

PATIENTS = 20
"""Labels that are submitted: 12 are trained on, and 8 patients decide whether the new version is served."""
EPOCHS = 3
WINDOW = (-60, 140)
"""Black and white of the pictures, HU."""
_POLL_S = 2.0
_NO_NEWS_S = 600.0


@dataclass(frozen=True)
class Round:
    """What a round of the loop brought.

    Attributes:
        study: a new patient with the structure that was learned.
        before: answer to one click before it.
        after: answer to the same click after it.
        truth: what was clicked on.
        stats: of the training, as viewers see them.
    """

    study: Study
    before: Answer
    after: Answer
    truth: np.ndarray
    stats: dict[str, Any]


def go_round(url: str, preset: str, folder: Path, picture: Path) -> Round:
    """Submits labels of a kind of lesion that the model does not know, has it learn them, and clicks on a new patient.

    Args:
        url: the server's.
        preset: name of its task.
        folder: takes files that need not stay.
        picture: of the two answers.

    Raises:
        DemoError: the server refuses something, or the training fails.
    """
    client = MONAILabelClient(url, tmpdir=str(folder))
    patient = make_ring_lesion(PATIENTS)
    study = _upload(client, folder, patient, PATIENTS)
    print("\nThe loop: this hospital outlines lesions together with their bright rim, which the model does not know.")
    with Progress("Click on a new patient"):
        before = send_clicks(url, study, preset, [study.click], folder)
    print(f"  Dice {dice(before.mask, patient.truth):.3f} with version {before.version}")
    with Progress(f"Submitting labels of {PATIENTS} other patients"):
        for number in range(PATIENTS):
            other = make_ring_lesion(number)
            label = folder / f"label_{number}.nii.gz"
            save_volume(label, other.truth.astype(np.uint8), other.affine)
            named = {"label_info": [{"name": "lesion", "idx": 1}]}
            client.save_label(_upload(client, folder, other, number).image_id, str(label), params=named)
    stats = _train(client, preset)
    for sentence in stats.get("reasons", ()):
        print(f"  {sentence}")
    with Progress("The same click again"):
        after = send_clicks(url, study, preset, [study.click], folder)
    one, two = dice(before.mask, patient.truth), dice(after.mask, patient.truth)
    print(f"  Dice {two:.3f} with version {after.version}, {one:.3f} before")
    draw_change(
        picture,
        image=study.image,
        affine=study.affine,
        click=np.array(study.click),
        masks=[
            (f"one click before: Dice {one:.2f} (version {before.version})", before.mask),
            (f"the same click after: Dice {two:.2f} (version {after.version})", after.mask),
        ],
        truth=patient.truth,
        window=WINDOW,
        title=f"Learned from {PATIENTS} submitted labels",
    )
    return Round(study, before, after, patient.truth, stats)


def _upload(client: MONAILabelClient, folder: Path, patient: RingLesion, number: int) -> Study:
    image_id = f"patient_{number:02d}"
    path = folder / f"{image_id}.nii.gz"
    save_volume(path, patient.image, patient.affine)
    with _said(f"uploading {image_id}"):
        client.upload_image(str(path), image_id)
    click = deepest_voxel(patient.truth, patient.affine)
    return Study(folder, image_id, patient.image, patient.affine, click, patient.truth, "a lesion with a bright rim")


def _train(client: MONAILabelClient, preset: str) -> dict[str, Any]:
    """Starts the training and watches it as a viewer does, until it has ended."""
    with _said("starting the training"):
        client.train_start(preset, {"max_epochs": EPOCHS, "started_by": "demo"})
    began = told = time.monotonic()
    shown = ""
    while True:
        time.sleep(_POLL_S)
        with _said("asking how far the training is"):
            status = client.train_status(False)["status"]
            stats: dict[str, Any] = client.info()["train_stats"].get(preset, {})
        line = _line(stats)
        if line != shown:
            told, shown = time.monotonic(), line
            end = "" if sys.stdout.isatty() else "\n"
            print(f"\rTraining ({time.monotonic() - began:3.0f} s): {line:<70}", end=end, flush=True)
        if status in ("DONE", "ERROR", "STOPPED"):
            print(f"\rTraining ended after {time.monotonic() - began:.0f} s: {status.lower():<60}")
            if status != "DONE":
                raise DemoError(f"The training did not end well: {'; '.join(stats.get('reasons', ()))}")
            return stats
        if time.monotonic() - told > _NO_NEWS_S:
            raise DemoError("The training says nothing any more; look into the server's log.")


def _line(stats: dict[str, Any]) -> str:
    line = str(stats.get("stage", "starting"))
    if stats.get("total_epochs"):
        line += f", epoch {stats['epoch']} of {stats['total_epochs']}"
    if stats.get("dice"):
        line += ", validation Dice " + " / ".join(f"{value:.2f}" for value in stats["dice"].values())
    if stats.get("seconds_left"):
        line += f", {stats['seconds_left']:.0f} s left"
    return line


@contextlib.contextmanager
def _said(what: str) -> Iterator[None]:
    try:
        yield
    except MONAILabelClientException as error:
        raise DemoError(f"The server refused {what}: {error.msg}") from error
