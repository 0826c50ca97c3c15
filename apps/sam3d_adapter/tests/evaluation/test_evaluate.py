"""An evaluation from files to figures, through the segmenter that serves users, with random weights."""

import dataclasses
import hashlib
import json
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from benchmarks.baselines import distance_mm
from lib.evaluation.cases import DataError, from_folders
from lib.evaluation.evaluate import FOREGROUND_ONLY, NO_BASELINES, Evaluation, evaluate
from lib.evaluation.evaluated_segmenter import EvaluatedSegmenter, SegmenterChoice
from lib.evaluation.ledger import LedgerError, read_records
from lib.evaluation.measure import MeasureVersion
from lib.evaluation.record import TIMES
from lib.evaluation.simulated_user import SimulatedClick, deepest_error
from lib.infers.click_segmentation import ClickSegmentation
from lib.presets import PresetError, load_preset
from lib.workers.choice import WorkerChoice
from tests.support.small_app import copy_small_app
from tests.support.weights import write_test_weights

SHAPE, SPACING = (40, 36, 24), (1.0, 1.0, 1.5)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_small_app(tmp_path_factory.mktemp("evaluate") / "app", ("test", "unet"))


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def save(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values, np.diag([*SPACING, 1.0])), path)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rng = np.random.default_rng(2)
    for number, centre in enumerate([(20, 18, 12), (10, 20, 10)]):
        truth = distance_mm(SHAPE, SPACING, centre) <= 7
        save(tmp_path / f"data/images/p{number}.nii", (60 * truth + rng.normal(40, 10, SHAPE)).astype(np.int16))
        save(tmp_path / f"data/labels/p{number}.nii", truth.astype(np.uint8))
    return tmp_path / "data"


def evaluation(app: Path, data: Path, out: Path, preset: str = "test", **more: object) -> Evaluation:
    choice = SegmenterChoice(app, load_preset(app / f"configs/{preset}.yaml"), "cpu", "fp32")
    values = {"modes": ("centre",), "seeds": (42,), "timeout_s": 90.0, **more}
    return Evaluation(choice=choice, sources=from_folders(data / "images"), out=out, **values)  # type: ignore[arg-type]


def fingerprint(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def scores(out: Path) -> list[dict]:
    """The records without what differs from run to run."""
    return [{key: value for key, value in record.items() if key not in TIMES} for record in read_records(out)]


@pytest.mark.slow
def test_what_another_release_measured_is_measured_anew(app: Path, data: Path, tmp_path: Path) -> None:
    """Of a training that was stopped while it measured, before the server was brought up to date."""
    preset, out = load_preset(app / "configs/test.yaml"), tmp_path / "out"
    weights = app / preset.model.file("weights")
    measure = MeasureVersion(preset, app, "cpu", "fp32")
    first = measure(weights, from_folders(data / "images"), out)
    settings = json.loads((out / "settings.json").read_text())
    (out / "settings.json").write_text(json.dumps({**settings, "commit": "of an older release"}))
    (out / "cases.jsonl").write_text(json.dumps({**first[0], "dice": [2.0] * 10}) + "\n")
    again = measure(weights, from_folders(data / "images"), out)
    assert [one["dice"] for one in again] == [one["dice"] for one in first]
    assert json.loads((out / "settings.json").read_text()) == settings


def test_a_run_leaves_its_folder_and_nothing_else(
    app: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # Other tests run beside this one and have temporary folders of their own.
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    before = fingerprint(data) | fingerprint(app)
    summary = evaluate(evaluation(app, data, tmp_path / "out"))
    assert [record for record in caplog.records if record.name.startswith("monailabel")] == []
    assert (fingerprint(data) | fingerprint(app)) == before and not (app / "logs").exists()
    assert list((tmp_path / "tmp").iterdir()) == []
    assert summary["n"] == 2 and summary["notes"] == [FOREGROUND_ONLY] and set(summary["left_out"].values()) == {0}
    assert summary["first_click_s"]["n"] == 2 and summary["latency_ms"]["cold_start"]["n"] == 3
    assert summary == json.loads((tmp_path / "out/summary.json").read_text())
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"cases.jsonl", "settings.json", "summary.json", "summary.md", "dice_per_click.png",
                     "worst_1.png", "worst_2.png"}  # fmt: skip
    assert set(summary["blind"]) == {"ball", "centred_ellipsoid", "ellipsoid_in_box", "filled_box"}
    protocol = summary["protocol"]
    hashes = protocol["model"]["weights_sha256"], protocol["data_sha256"], protocol["split_sha256"]
    assert [len(one) for one in hashes] == [64] * 3
    # Weights of a file are those of no version.
    assert protocol["model"]["version"] is None
    assert (tmp_path / "out/summary.md").read_text().startswith("# Evaluation of test\n")
    first, second = read_records(tmp_path / "out")
    assert set(first["model"]) == {"id", "sha256"}
    assert (first["case"], first["patient"], first["dataset"]) == ("p0", "p0", "data")
    deepest = list(deepest_error(np.asarray(nib.load(data / "labels/p0.nii").dataobj) > 0, seed=42) or ())
    assert first["clicks"][0] == {"step": 1, "ijk": deepest, "intended_ijk": deepest, "positive": True}
    assert len(first["dice"]) == len(second["request_ms"]) == 10


def test_no_name_of_a_case_costs_the_figures(app: Path, data: Path, tmp_path: Path) -> None:
    """matplotlib takes what stands between two $ for a formula."""
    for kind in ("images", "labels"):
        (data / kind / "p0.nii").rename(data / kind / "a$x^$b_{.nii")
    summary = evaluate(evaluation(app, data, tmp_path / "out"))
    assert summary["cases"] == 2 and (tmp_path / "out/worst_1.png").exists() and (tmp_path / "out/worst_2.png").exists()


def test_a_picture_that_fails_costs_no_figure(app: Path, data: Path, tmp_path: Path, monkeypatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no room")

    monkeypatch.setattr("lib.evaluation.evaluate.draw_case", fail)
    summary = evaluate(evaluation(app, data, tmp_path / "out"))
    assert [one["picture"] for one in summary["worst"]] == [None, None]
    assert (tmp_path / "out/summary.json").exists()


def test_a_stopped_run_goes_on_and_gives_the_same(app: Path, data: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("lib.evaluation.evaluate.draw_case", lambda *_: None)
    monkeypatch.setattr("lib.evaluation.evaluate.write_report", lambda *_: None)
    wanted = evaluation(app, data, tmp_path / "out", modes=("centre", "jitter"))
    evaluate(wanted)
    whole = scores(tmp_path / "out")
    lines = (tmp_path / "out/cases.jsonl").read_text().splitlines(keepends=True)
    assert len(lines) == 4
    (tmp_path / "out/cases.jsonl").write_text("".join(lines[:2]) + lines[2][:50])
    evaluate(wanted)
    assert scores(tmp_path / "out") == whole
    # All is there: no task is asked, but for the pictures.
    monkeypatch.setattr("lib.evaluation.run.play_interaction", None)
    evaluate(wanted)
    assert scores(tmp_path / "out") == whole


@pytest.mark.slow  # starts two processes that import everything
def test_jobs_change_no_score(app: Path, data: Path, tmp_path: Path) -> None:
    modes = ("centre", "random", "jitter", "paper-3")
    for jobs in (1, 2):
        workers = WorkerChoice(jobs, with_ray=False)
        evaluate(evaluation(app, data, tmp_path / str(jobs), "unet", workers=workers, modes=modes, seeds=(42, 43)))
    assert scores(tmp_path / "1") == scores(tmp_path / "2")
    assert (tmp_path / "1/dice_per_click.png").read_bytes() == (tmp_path / "2/dice_per_click.png").read_bytes()


def test_other_weights_do_not_mix(app: Path, data: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("lib.evaluation.evaluate.draw_case", lambda *_: None)
    monkeypatch.setattr("lib.evaluation.evaluate.write_report", lambda *_: None)
    first = evaluation(app, data, tmp_path / "out")
    evaluate(first)
    _, weights = write_test_weights(tmp_path / "other", seed=0)
    same = first.choice.preset.with_weights(weights)
    evaluate(dataclasses.replace(first, choice=dataclasses.replace(first.choice, preset=same)))
    with pytest.raises(LedgerError, match="timeout_s"):
        evaluate(dataclasses.replace(first, timeout_s=5.0))
    unet = evaluation(app, data, tmp_path / "out", "unet")
    with pytest.raises(LedgerError, match="weights_sha256 was"):
        evaluate(unet)


def test_weights_come_with_their_own_base_where_there_is_one(app: Path, tmp_path: Path) -> None:
    base, weights = write_test_weights(tmp_path / "other", seed=3)
    preset = load_preset(app / "configs/test.yaml")
    assert preset.with_weights(weights).model.files == (preset.model.file("base"), str(weights))
    own = preset.with_weights(weights, base)
    assert own.model.files == (str(base), str(weights))
    EvaluatedSegmenter(SegmenterChoice(app, own, "cpu", "fp32")).start()
    with pytest.raises(PresetError, match="a family that has none"):
        load_preset(app / "configs/unet.yaml").with_weights(weights, base)


def test_what_cannot_be_read_fails_and_the_rest_goes_on(app: Path, data: Path, tmp_path: Path) -> None:
    whole = data / "images/p0.nii"
    whole.write_bytes(whole.read_bytes()[:400])
    save(data / "images/p2.nii", np.ones(SHAPE, np.int16))
    save(data / "labels/p2.nii", np.zeros(SHAPE, np.uint8))
    one = evaluation(app, data, tmp_path / "out")
    preset = dataclasses.replace(one.choice.preset, image_free=None)
    logging.getLogger("lib.evaluation.evaluate").setLevel(logging.ERROR)
    summary = evaluate(dataclasses.replace(one, choice=dataclasses.replace(one.choice, preset=preset)))
    assert summary["cases"] == 2 and summary["failed_cases"] == ["p0"] and summary["left_out"]["empty"] == 1
    assert summary["blind"] is None and NO_BASELINES in summary["notes"]
    assert any("p0" in note and "cannot be read" in note for note in summary["notes"])
    failed, fine = read_records(tmp_path / "out")
    assert failed["failed"] == [True] * 10 and failed["dice"] == [0.0] * 10 and not any(fine["failed"])


def test_the_folder_of_the_data_is_not_written_to(app: Path, data: Path) -> None:
    for out in (data / "images", data / "labels/run"):
        with pytest.raises(DataError, match="choose one outside"):
            evaluate(evaluation(app, data, out))


def test_the_segmenter_answers_as_it_does_for_users(app: Path, data: Path) -> None:
    choice = SegmenterChoice(app, load_preset(app / "configs/unet.yaml"), "cpu", "fp32")
    segmenter = choice()
    clicks = [SimulatedClick((20, 18, 12), (20, 18, 12), True), SimulatedClick((30, 18, 12), (30, 18, 12), False)]
    answer = segmenter(data / "images/p0.nii", clicks)
    request = {"image": str(data / "images/p0.nii"), "foreground": [[20, 18, 12]], "background": [[30, 18, 12]]}
    served = ClickSegmentation(choice.preset_segmenter(), app)
    file, params = served({**request, "device": "cpu", "result_extension": ".nii.gz"})
    mask = np.asarray(nib.load(file).dataobj) > 0
    Path(file).unlink()
    assert answer.mask.shape == SHAPE and np.array_equal(answer.mask, mask)
    assert answer.mask.sum() == params["mask_voxels"] > 0 and answer.encodes == params["encodes"] == 1
    assert answer.encode_ms >= 0 and answer.click_ms > 0  # this network encodes nothing


def test_a_first_click_pays_for_its_region_whoever_clicked_there_before(app: Path, data: Path) -> None:
    task = EvaluatedSegmenter(SegmenterChoice(app, load_preset(app / "configs/test.yaml"), "cpu", "fp32"))
    clicks = [SimulatedClick((20, 18, 12), (20, 18, 12), True), SimulatedClick((22, 18, 12), (22, 18, 12), True)]
    interaction = [task(data / "images/p0.nii", clicks[:n]).encodes for n in (1, 2, 1, 2)]
    assert interaction == [1, 0, 1, 0]
