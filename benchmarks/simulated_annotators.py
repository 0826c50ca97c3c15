"""Annotators who know the truth, at work on a running server: they ask Next Sample, click, and submit a label."""

import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import requests
from monailabel.client import MONAILabelClient

from benchmarks.learning_loop import submit
from demo.client import send_clicks
from demo.study import Study
from lib.activelearning.background import PREDICTED_DICE
from lib.evaluation.cases import Source
from lib.evaluation.metrics import dice
from lib.evaluation.simulated_user import MAX_CLICKS, Mask, SimulatedUser
from lib.geometry.axes import spacing_of
from lib.volumes.read import read_volume
from lib.workflow.database import database_beside
from lib.workflow.served import read_served

ENOUGH = 0.9
"""Dice at which an annotator stops clicking."""
ANNOTATORS = ("annotator-1", "annotator-2", "annotator-3")
"""What each sends as ``client_id``, as 3D Slicer's plug-in does. They take turns."""
SEED = 42
"""Of ties between places to click on."""
_POLL_S, _SCORED_S = 0.5, 3600.0


class Annotators:
    """The annotators of one server.

    Args:
        url: Of the server.
        preset: Name of the infer task.
        studies: Folder of images.
        cases: Image and truth by image id.
        folder: Takes what is fetched and sent.
    """

    def __init__(self, url: str, preset: str, studies: Path, cases: Mapping[str, Source], folder: Path) -> None:
        self._url, self._preset, self._cases, self._folder = url, preset, cases, folder
        self._database = database_beside(studies)

    def click_next(self, labelled: Collection[str]) -> dict[str, Any]:
        """Asks for the next case, unless one is open still, and clicks until the mask is good or clicks run out.

        Args:
            labelled: Image ids that were labelled before.

        Returns:
            Image id, what it is of, the arm that chose it, the annotator, the version that answered, and the Dice after
            each click.

        Raises:
            RuntimeError: Next Sample gives no case.
        """
        annotator = ANNOTATORS[len(labelled) % len(ANNOTATORS)]
        if not (given := self._open_case(labelled)):
            self._wait_for_scores()
            self._client(annotator).next_sample("random", {})
            if not (given := self._open_case(labelled)):
                raise RuntimeError(f"Next Sample gives no case after {len(labelled)} of {len(self._cases)} labels.")
        image, arm = given
        version, scores = self._click(image, annotator)
        case = self._cases[image]
        facts = {"image": image, "dataset": case.dataset, "case": case.name, "arm": arm, "annotator": annotator}
        return {**facts, "version": version, "dice": scores}

    def submit(self, image: str, annotator: str) -> None:
        """The truth as the final label, for people finish with the brush; nothing where the server has a label."""
        client = self._client(annotator)
        if "final" not in client.datastore()["objects"][image]["labels"]:
            submit(client, image, None, self._cases[image].label, self._folder)

    def _client(self, annotator: str) -> MONAILabelClient:
        return MONAILabelClient(self._url, tmpdir=str(self._folder), client_id=annotator)

    def _open_case(self, labelled: Collection[str]) -> tuple[str, str] | None:
        """The case that was given and has no label yet, and the arm that chose it."""
        with self._database.reading() as connection:
            given = [(one.image, one.arm) for one in read_served(connection) if one.image not in labelled]
        return given[-1] if given else None

    def _wait_for_scores(self) -> None:
        """People take minutes for a case, and scores are up to date by then."""
        deadline = time.monotonic() + _SCORED_S
        while _is_scoring(requests.get(f"{self._url}/scoring/", params={"all": True}, timeout=60)):
            if time.monotonic() > deadline:
                raise RuntimeError(f"The server has been scoring images for {_SCORED_S:.0f} s. See its log.")
            time.sleep(_POLL_S)

    def _click(self, image: str, annotator: str) -> tuple[str, list[float]]:
        """The version that answered, and Dice after each click; the first one lies in the middle of the structure."""
        case = self._cases[image]
        truth, spacing = truth_of(case)
        user = SimulatedUser(truth, spacing, "centre", SEED, case.name)
        clicks, scores = user.first_clicks(), []
        volume = read_volume(case.image)
        study = Study(self._folder, image, np.asarray(volume.voxels), volume.affine, clicks[0].ijk, truth, image)
        while True:
            on, off = ([click.ijk for click in clicks if click.positive is sign] for sign in (True, False))
            answer = send_clicks(self._url, study, self._preset, on, self._folder, off, annotator)
            scores.append(round(dice(answer.mask, truth), 4))
            click = user.correct(answer.mask, len(clicks) + 1)
            if scores[-1] >= ENOUGH or len(clicks) == MAX_CLICKS or click is None:
                return answer.version, scores
            clicks.append(click)


def truth_of(case: Source) -> tuple[Mask, list[float]]:
    """The structure (i, j, k) bool, and the spacing along i, j, k in mm."""
    label = read_volume(case.label)
    return np.asarray(label.voxels) > 0, spacing_of(label.affine).tolist()


def _is_scoring(answer: requests.Response) -> bool:
    if answer.status_code == 404:
        return False
    answer.raise_for_status()
    # What answers are worth is learned in the same way, and chooses no case.
    return any(
        task["status"] in ("SUBMITTED", "RUNNING") and task["request"].get("method") != PREDICTED_DICE
        for task in answer.json()
    )
