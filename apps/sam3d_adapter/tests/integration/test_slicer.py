"""The MONAI Label extension of 3D Slicer against the real server: its own client class, with the values its GUI sends.

Only 3D Slicer itself can run the extension's GUI (``MONAILabel.py``, which comes with MONAI Label). `Gui` does what
its functions do with the answers; each names its function.
"""

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import requests
import SimpleITK as sitk
import yaml

from tests.support.server import AppServer, start_server
from tests.support.slicer import CLIENT
from tests.support.small_app import copy_small_app, small_preset

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(400),
    # The client closes neither its connections nor the files it uploads.
    pytest.mark.filterwarnings("ignore:Exception ignored in. <(socket|_io):pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),
]

SHAPE = (48, 40, 24)
AFFINE = np.array([[-1.3, 0, 0, 31], [0, -0.9, 0, 20], [0, 0, 2.5, -30], [0, 0, 0, 1]], dtype=float)
CLICK, OFF_CLICK = [24, 20, 12], [2, 2, 2]
ANNOTATOR = "Dr. Roe"
DEADLINE_S = 200


class Gui:
    """What the extension does between its buttons and the server."""

    def __init__(self, url: str, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.client = CLIENT.MONAILabelClient(url, tmpdir=str(folder), client_id=ANNOTATOR)
        self.info: dict[str, Any] = self.client.info()

    def rows(self, section: str, name: str) -> dict[str, str]:
        """``updateConfigTable``: key -> kind of widget."""
        kinds = {}
        for key, value in self.info[section][name].get("config", {}).items():
            if isinstance(value, dict | list):
                # QComboBox.addItem takes text alone.
                assert value and all(isinstance(item, str) for item in value), (key, value)
                kinds[key] = "combo"
            else:
                assert isinstance(value, bool | int | float | str), (key, value)
                kinds[key] = "check" if isinstance(value, bool) else "text"
        return kinds

    def options(self, section: str, name: str, **edited: Any) -> dict[str, Any]:
        """``getParamsFromConfig``; ``invalidateConfigTable`` reads what is shown back, as the type that it had."""
        config = self.info[section][name].get("config", {})
        shown = {key: value[0] if isinstance(value, list) else value for key, value in config.items()}
        for key, value in edited.items():
            shown[key] = type(shown[key])(value) if value or isinstance(value, bool) else type(shown[key])()
        return shown

    def selected(self, types: Sequence[str]) -> str:
        """``updateSelector``: the first task of a type, or "" where there is none."""
        return next((name for name, model in self.info["models"].items() if model["type"] in types), "")

    def next_sample(self) -> dict[str, Any]:
        """``onNextSampleButton``."""
        strategy = next(iter(self.info["strategies"]))
        sample: dict[str, Any] = self.client.next_sample(strategy, self.options("strategies", strategy))
        return sample

    def auto_segment(self, image: str, session_id: str | None = None) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """``initSample`` and ``onClickSegmentation``: the voxels of each name, and the answer.

        Values that occur are paired, ascending, with names in the order of theirs.
        """
        # initSample selects the first task that has the first label, if it is of this type.
        first = next(
            (name for label in self.info["labels"] for name, m in self.info["models"].items() if label in m["labels"])
        )
        types = ("segmentation", "detection")
        model = first if self.info["models"][first]["type"] in types else self.selected(types)
        mask, answer = self._infer(model, image, self.options("models", model), session_id)
        labels = answer.get("label_names") or self.info["models"][model]["labels"]
        names = [key for key, _ in sorted(labels.items(), key=lambda item: item[1])]
        values = [value for value in np.unique(mask) if value]
        assert mask.shape == SHAPE and len(values) <= len(names)
        return {name: mask == value for name, value in zip(names, values, strict=False)}, answer

    def click(
        self, image: str, label: str, foreground: list, background: Sequence = (), *, session_id: str | None = None,
        roi: list | None = None, **edited: Any,
    ) -> tuple[np.ndarray, dict[str, Any]]:  # fmt: skip
        """``onClickDeepgrow``."""
        model = self.selected(("deepgrow", "deepedit"))
        params = {"label": label, "foreground": foreground, "background": list(background)}
        params |= {"label": label, **self.options("models", model, **edited), **({"roi": roi} if roi else {})}
        return self._infer(model, image, params | {"reset_state": True}, session_id)

    def _infer(self, model: str, image: str, params: dict[str, Any], session_id: str | None) -> tuple[Any, Any]:
        """``MONAILabelLogic.infer``, and ``updateSegmentationMask`` that reads the file."""
        params |= {"result_extension": ".nrrd", "result_dtype": "uint8"}
        file, answer = self.client.infer(model, image, params, None, None, session_id)
        mask = sitk.GetArrayFromImage(sitk.ReadImage(file)).transpose()
        Path(file).unlink()
        return mask, answer

    def save(self, image: str, mask: np.ndarray, names: Sequence[str], tag: str = "") -> dict[str, Any]:
        """``onSaveLabel``: ``idx`` counts all segments of the scene, of which "background" is not saved."""
        file = self.folder / "label.nii.gz"
        nib.save(nib.Nifti1Image(mask.astype(np.uint8), AFFINE), file)
        info = [{"name": name, "idx": place + 1} for place, name in enumerate(["background", *names]) if place]
        answer: dict[str, Any] = self.client.save_label(image, str(file), tag, {"label_info": info})
        return answer

    def train(self, name: str, **edited: Any) -> dict[str, Any]:
        """``onTraining``."""
        status: dict[str, Any] = self.client.train_start(name, self.options("trainers", name, **edited))
        return status

    def progress(self) -> tuple[str, float, float]:
        """``monitorTraining``: status, percent and accuracy."""
        status, self.info = self.client.train_status(False), self.client.info()
        stats = next(iter(self.info["train_stats"].values()))
        current = 0 if stats.get("total_time") else stats.get("epoch", 1)
        percent = max(1, 100 * current / stats.get("total_epochs", 1))
        dice = stats.get("best_metric", 0)
        assert f"{dice:.4f}"
        return status["status"], percent, dice

    def refused(self, call: Any, *arguments: Any, **keywords: Any) -> str:
        """What the dialog says in place of an answer."""
        with pytest.raises(CLIENT.MONAILabelClientException) as caught:
            call(*arguments, **keywords)
        return str(caught.value.msg)


def block(low: int = 14) -> np.ndarray:
    """A block around `CLICK`."""
    mask = np.zeros(SHAPE, np.uint8)
    mask[low:32, 12:28, 8:16] = 1
    return mask


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppServer]:
    folder = tmp_path_factory.mktemp("slicer")
    app = copy_small_app(folder / "app")
    # First by its name, and without weights.
    bare = small_preset(weights="weights/bare.safetensors") | {"label": "kidney tumor", "description": "Kidney tumour"}
    (app / "configs/bare.yaml").write_text(yaml.safe_dump(bare), encoding="utf-8")
    studies = folder / "studies"
    studies.mkdir()
    for number in range(5):
        # Of which random weights make a mask.
        image = np.random.default_rng(number).normal(40, 60, SHAPE)
        nib.save(nib.Nifti1Image(image.astype(np.int16), AFFINE), studies / f"case_{number}.nii.gz")
    # Z-scores, which no preset for CT can read.
    nib.save(nib.Nifti1Image(np.random.default_rng(9).normal(0, 1, SHAPE).astype(np.float32), AFFINE),
             studies / "z_scores.nii.gz")  # fmt: skip
    with start_server(app, studies, folder) as running:
        yield running


@pytest.fixture
def gui(server: AppServer) -> Gui:
    return Gui(server.url, server.folder / "slicer")


def test_what_is_preselected_can_be_used_and_every_option_is_a_widget(gui: Gui) -> None:
    assert not gui.info.get("config")
    assert gui.selected(("deepgrow", "deepedit")) == "test" and gui.info["labels"] == ["lesion", "kidney tumor"]
    assert list(gui.info["trainers"]) == ["test", "bare"]
    for section in ("models", "trainers"):
        *_, last = gui.info[section]
        assert (
            last == "bare" and "[not available, missing: bare.safetensors]" in gui.info[section]["bare"]["description"]
        )
    widgets = {"device": "combo", "threshold": "text", "refine": "check", "stop_at_warnings": "check"}
    assert gui.rows("models", "test") == widgets
    assert gui.rows("trainers", "test") == {
        "max_epochs": "text", "parent": "combo", "label_name": "text", "started_by": "text", "device": "combo",
        "tracking": "combo",
    }  # fmt: skip
    for section in ("models", "trainers", "strategies", "scoring"):
        for name in gui.info[section]:
            gui.rows(section, name)


def test_next_sample_with_default_settings(gui: Gui) -> None:
    sample = gui.next_sample()
    assert Path(sample["path"]).is_file() and sample["id"] in Path(sample["path"]).name
    gui.auto_segment(sample["id"])
    # Of an image for which nothing is saved, the answer is empty.
    segments, answer = gui.auto_segment("z_scores")
    assert segments == {}
    (warning,) = answer["warnings"]
    assert (
        warning.startswith("no-proposal: Nothing is saved for this image yet") and "Click on the structure" in warning
    )


@pytest.mark.parametrize(
    ("tag", "words"), [("original", "a mask that a task made before of "), ("draft", "draft by Dr. Roe")]
)
def test_what_was_saved_is_proposed(gui: Gui, tag: str, words: str) -> None:
    two = block()
    two[2:6, 2:6, 2:6] = 2
    drawn = two + 3 * (two == 0) * (np.indices(SHAPE)[0] > 44)
    image = f"case_{2 + (tag == 'draft')}"
    gui.save(image, drawn, ["lesion 1", "kidney tumor", "liver"], tag)
    segments, answer = gui.auto_segment(image)
    assert segments.keys() == {"lesion", "kidney tumor"}
    assert np.array_equal(segments["lesion"], two == 1) and np.array_equal(segments["kidney tumor"], two == 2)
    (warning,) = answer["warnings"]
    assert warning.startswith("proposal: ") and words in warning and "no task here is for it: liver" in warning


def test_a_mask_that_a_task_saved_itself_is_proposed(gui: Gui) -> None:
    """As a batch does it for many images."""
    mask, _ = gui.click("case_4", "lesion", [CLICK])
    gui.client.infer("test", "case_4", {"foreground": [CLICK], "save_label": True})
    segments, answer = gui.auto_segment("case_4")
    assert np.array_equal(segments.pop("lesion"), mask == 1) and not segments
    assert "a mask that a task made before" in answer["warnings"][0]


def test_a_label_that_was_rejected_is_proposed_again_with_the_reason(gui: Gui, server: AppServer) -> None:
    gui.save("case_1", block(20), ["lesion"])
    (label,) = requests.get(f"{server.url}/labels/?image=case_1", timeout=60).json()["labels"]
    review = {"label": label["id"], "decision": "reject", "by": "Dr. Poe", "comment": "The rim is missing."}
    assert requests.post(f"{server.url}/reviews/", json=review, timeout=60).status_code == 200
    segments, answer = gui.auto_segment("case_1")
    assert np.array_equal(segments.pop("lesion"), block(20) == 1) and not segments
    assert "label 'final' by Dr. Roe" in answer["warnings"][0]
    assert "which Dr. Poe rejected (The rim is missing.)" in answer["warnings"][0]


def test_the_proposal_is_no_model(gui: Gui) -> None:
    assert "reads no clicks" in gui.refused(gui.client.infer, "proposal", "case_0", {"foreground": [CLICK]})
    assert "nothing to save" in gui.refused(gui.client.infer, "proposal", "case_0", {"save_label": True})
    assert "case_9" in gui.refused(gui.client.infer, "proposal", "case_9", {})


def test_clicks_and_a_region(gui: Gui) -> None:
    mask, answer = gui.click("case_0", "lesion", [CLICK], [OFF_CLICK])
    assert mask[tuple(CLICK)] == 1 and mask[tuple(OFF_CLICK)] == 0 and set(np.unique(mask)) == {0, 1}
    assert answer["clicks"] == [CLICK] and answer["version"] == "shipped"
    # The user's own name for a segment, the number of an object, and emptied fields.
    for label in ("lesion 2", "my finding"):
        assert np.array_equal(gui.click("case_0", label, [CLICK], [OFF_CLICK], threshold="")[0], mask)
    boxed, answer = gui.click("case_0", "lesion", [CLICK], roi=[14, 31, 12, 27, 8, 15])
    assert boxed[tuple(CLICK)] == 1 and answer["box"] == [[14, 12, 8], [31, 27, 15]]


def test_a_click_under_the_label_of_another_task_is_refused_in_words(gui: Gui) -> None:
    for label in ("kidney tumor", "Kidney_tumor 2"):
        text = gui.refused(gui.click, "case_0", label, [CLICK])
        assert "Status: 422" in text and f"Clicks for '{label}'" in text and "'lesion' only" in text


def test_a_warning_reaches_who_sees_no_warnings(gui: Gui) -> None:
    text = gui.refused(gui.click, "z_scores", "lesion", [CLICK])
    assert "Status: 422" in text and "not-hu: " in text and "they look like z-scores" in text
    assert "untick 'stop_at_warnings' in Options" in text
    mask, answer = gui.click("z_scores", "lesion", [CLICK], stop_at_warnings=False)
    assert mask[tuple(CLICK)] == 1 and any(warning.startswith("not-hu: ") for warning in answer["warnings"])


def test_a_volume_that_the_server_has_not(gui: Gui, server: AppServer) -> None:
    """``File -> Add Data``: the volume is sent once, as a session."""
    file = server.folder / "own volume.nii.gz"
    file.write_bytes((server.folder / "studies/case_0.nii.gz").read_bytes())
    session = gui.client.create_session(str(file))["session_id"]
    assert gui.client.get_session(session)
    mask, _ = gui.click("own volume", "lesion", [CLICK], session_id=session)
    assert np.array_equal(mask, gui.click("case_0", "lesion", [CLICK])[0])
    segments, answer = gui.auto_segment("own volume", session_id=session)
    assert segments == {} and answer["warnings"][0].startswith("no-proposal: ")


def test_labels_are_submitted_and_a_training_is_watched_and_stopped(gui: Gui) -> None:
    for number in (0, 1):
        saved = gui.save(f"case_{number}", block(), ["lesion"])
        # Shown as the details of "Label-Mask saved into MONAI Label Server".
        assert json.dumps(saved)
    assert gui.client.info()["datastore"]["completed"] >= 2
    assert gui.next_sample()["id"] not in ("case_0", "case_1")
    text = gui.refused(gui.train, "bare")
    assert "Status: 503" in text and "bare.safetensors" in text
    assert "max_epochs" in gui.refused(gui.train, "test", max_epochs="-3")
    assert gui.train("test", max_epochs="", started_by=ANNOTATOR)["status"] in ("SUBMITTED", "RUNNING")
    assert "There is one running already of 'test'" in gui.refused(gui.train, "test")
    until, seen = time.monotonic() + DEADLINE_S, set()
    while "training" not in seen:
        status, percent, dice = gui.progress()
        (first, stats), *_ = gui.info["train_stats"].items()
        assert status in ("SUBMITTED", "RUNNING") and time.monotonic() < until, (status, stats)
        assert 1 <= percent <= 100 and dice == 0, stats
        if first == "test" and stats.get("stage"):
            assert stats["total_epochs"] == 10 and "total_time" not in stats
            assert percent == max(1, 10 * stats["epoch"])
        seen.add(stats.get("stage"))
    stopped = gui.client.train_stop()
    # onStopTraining reads the last line, and has an error of its own where there is none.
    assert stopped["status"] == "STOPPED" and stopped["details"][-1] == "Stopped."
    assert gui.client.train_status(True) is False
    status, percent, dice = gui.progress()
    assert (status, percent, dice) == ("STOPPED", 1, 0)
    stats = next(iter(gui.info["train_stats"].values()))
    assert stats["stage"].startswith("stopped") and stats["total_time"]


def test_nothing_is_stopped_where_nothing_runs(gui: Gui) -> None:
    assert not gui.client.train_stop()
