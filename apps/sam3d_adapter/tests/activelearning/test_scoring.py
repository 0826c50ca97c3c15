"""Scoring: once for each image and version of the weights, and a bad image costs itself alone."""

import os
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monailabel.datastore.local import LocalDatastore

from lib.activelearning.first_clicks import CLICKS, FirstClicks
from lib.activelearning.scoring import CaseScoring, NoFeatures
from lib.files.checksums import file_sha256
from lib.host.workflow import Workflow
from lib.learning.pool_quality import read_pool_quality
from lib.presets import load_preset
from lib.registry.registry import Registry
from lib.registry.version import SHIPPED
from lib.serving.predicted_dice import Calibration, Line, calibration_file, calibration_key, to_json
from lib.serving.preset_segmenter import PresetSegmenter, SharedState
from lib.workflow.scores import WHOLE, Score, read_scores, scores_of_image
from tests.support.one_thread import one_thread  # noqa: F401
from tests.support.small_app import copy_small_app
from tests.support.weights import write_test_weights

pytestmark = pytest.mark.slow

NAMES = ("one", "two")


class Site:
    """An app of the test size and a folder of images; one of them has four axes."""

    def __init__(self, folder: Path) -> None:
        self.app = copy_small_app(folder / "app", ("test", "unet"))
        self.images = folder / "images"
        self.images.mkdir()
        for seed, name in enumerate(NAMES):
            self.write(name, seed)
        nib.save(nib.Nifti1Image(np.zeros((8, 8, 8, 2), np.int16), np.eye(4)), self.images / "four_d.nii.gz")
        self.versions = Registry(folder / "learning").of("test", "test", "sam3d_adapter")
        self.workflow, self.said = Workflow(folder / "learning"), dict[str, str]()

    def write(self, name: str, seed: int) -> None:
        noise = np.random.default_rng(seed).normal(40, 60, (20, 18, 16)).astype(np.int16)
        nib.save(nib.Nifti1Image(noise, np.eye(4)), self.images / f"{name}.nii.gz")

    @property
    def store(self) -> LocalDatastore:
        return LocalDatastore(str(self.images))

    def submit(self, *names: str, structure: str = "lesion") -> None:
        """Labels with a block around the middle; images of these names are written."""
        block = np.zeros((20, 18, 16), np.uint8)
        block[8:13, 7:12, 6:11] = 1
        for name in names:
            self.write(name, 99)
            file = self.images.parent / "label.nii.gz"
            nib.save(nib.Nifti1Image(block, np.eye(4)), file)
            self.store.save_label(name, str(file), "final", {"label_info": [{"name": structure, "idx": 1}]})

    def run(self, *presets: str, clicks: bool = False) -> dict[str, str]:
        """What became of each image; its own process would do it, at low priority."""
        shared, names = SharedState.of(), presets or ("test",)
        segmenters = {
            name: PresetSegmenter(load_preset(self.app / f"configs/{name}.yaml"), self.app, shared, self.versions)
            for name in names
        }
        said: dict[str, str] = {}
        scoring = CaseScoring(segmenters, self.workflow, features=True, clicks=clicks)
        counts = scoring({"device": "cpu"}, self.store, said.__setitem__)
        assert sorted(said.values()) == sorted(what for what, count in counts.items() for _ in range(count))
        return said

    def clicks(self, structure: str = "lesion") -> dict[str, Score]:
        """By image id, of the weights that are there."""
        version = file_sha256(self.app / "weights/test_weights.safetensors")
        with self.workflow.database(self.store).reading() as connection:
            return read_scores(connection, "test", version).get(structure, {})

    def score(self, name: str) -> Score:
        with self.workflow.database(self.store).reading() as connection:
            (found,) = scores_of_image(connection, "test", name).values()
        assert found.structure == WHOLE
        return found


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    # For the process of the tests it would last.
    monkeypatch.setattr(os, "nice", lambda by: by)
    return Site(tmp_path)


def test_each_image_once_and_a_bad_one_costs_itself(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    assert site.run() == {"four_d": "failed", "one": "scored", "two": "scored"}
    assert caplog.text.count("cannot be scored") == 1 and "four_d" not in caplog.text
    scores = [site.score(name) for name in NAMES]
    lengths = {len(score.numbers) for score in scores}
    assert len(lengths) == 1 and scores[0].numbers != scores[1].numbers and site.score("four_d").numbers == b""
    assert site.run() == {"four_d": "failed", "one": "up_to_date", "two": "up_to_date"}
    assert caplog.text.count("cannot be scored") == 1, "it is not read again"
    assert [site.score(name) for name in NAMES] == scores


def test_an_image_that_was_replaced_is_scored_anew_and_one_that_was_copied_is_not(site: Site) -> None:
    site.run()
    before = [site.score(name) for name in NAMES]
    site.write("one", 5)
    copied = site.images / "copy.nii.gz"
    shutil.copyfile(site.images / "two.nii.gz", copied)
    copied.replace(site.images / "two.nii.gz")
    assert site.run() == {"four_d": "failed", "one": "scored", "two": "up_to_date"}
    after = [site.score(name) for name in NAMES]
    assert after[0].content != before[0].content and after[0].numbers != before[0].numbers
    assert after[1].file != before[1].file and after[1].numbers == before[1].numbers
    assert (after[1].content, after[1].at) == (before[1].content, before[1].at)


def test_other_weights_make_all_scores_stale(site: Site) -> None:
    site.run()
    before = site.score("one")
    write_test_weights(site.app / "weights", seed=1)
    assert site.run() == {"four_d": "failed", "one": "scored", "two": "scored"}
    after = site.score("one")
    assert after.content == before.content and after.version != before.version and after.numbers != before.numbers


def test_what_was_kept_before_a_stop_stays(site: Site) -> None:
    (site.images / "two.nii.gz").rename(site.images.parent / "two.nii.gz")
    site.run()
    (site.images.parent / "two.nii.gz").rename(site.images / "two.nii.gz")
    assert site.run() == {"four_d": "failed", "one": "up_to_date", "two": "scored"}


def test_a_network_without_features_says_so(site: Site) -> None:
    with pytest.raises(NoFeatures, match="unet"):
        site.run("unet", "test")


# First clicks


@pytest.fixture
def found(site: Site) -> Site:
    """With weights that find something wherever one clicks."""
    write_test_weights(site.app / "weights", seed=2)
    return site


def test_structures_that_were_labelled_often_enough_are_clicked_on_where_there_is_no_label(
    found: Site, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = found
    site.submit("l1", "l2")
    assert set(site.run(clicks=True).values()) == {"scored", "failed"} and site.clicks() == {}
    assert "3 submitted labels of one structure are needed" in caplog.text
    site.submit("l3", structure="Lesion 2")
    said = site.run(clicks=True)
    assert said == {
        "four_d": "failed", "l1": "up_to_date", "l2": "up_to_date", "l3": "scored", "one": "scored", "two": "scored",
    }  # fmt: skip
    clicks = {name: FirstClicks.of_numbers(score.numbers) for name, score in site.clicks().items()}
    assert clicks.pop("four_d") is None and set(clicks) == {"one", "two"}
    for one in clicks.values():
        assert one is not None and one.is_found and len(one.expected) == CLICKS
        assert 0 < one.agreement < 1 and all(0 <= dice <= 1 for dice in one.expected)
    before = site.clicks()
    assert site.run(clicks=True) == said | {"l3": "up_to_date", "one": "up_to_date", "two": "up_to_date"}
    assert site.clicks() == before, "a second run has nothing to do"
    monkeypatch.setattr("lib.activelearning.first_clicks.LEAST_VOXELS", 10**6)
    site.write("one", 7)
    assert site.run(clicks=True)["one"] == site.run(clicks=True)["one"] == "nothing_found"


def test_clicks_go_on_after_a_stop_and_are_made_anew_with_other_weights(found: Site) -> None:
    site = found
    site.submit("l1", "l2", "l3")
    (site.images / "two.nii.gz").rename(site.images.parent / "two.nii.gz")
    site.run(clicks=True)
    (site.images.parent / "two.nii.gz").rename(site.images / "two.nii.gz")
    said = site.run(clicks=True)
    assert (said["one"], said["two"]) == ("up_to_date", "scored")
    first = site.clicks()
    write_test_weights(site.app / "weights", seed=1)
    assert site.clicks() == {}, "those of other weights do not count"
    said = site.run(clicks=True)
    assert (said["one"], said["two"]) == ("scored", "scored")
    again = site.clicks()
    assert all(again[name].numbers != first[name].numbers for name in NAMES)
    write_test_weights(site.app / "weights", seed=2)
    site.run(clicks=True)
    assert {name: site.clicks()[name].numbers for name in NAMES} == {name: first[name].numbers for name in NAMES}


def test_a_network_without_features_can_still_be_clicked(site: Site) -> None:
    site.submit("l1", "l2", "l3")
    said = site.run("unet", clicks=True)
    with site.workflow.database(site.store).reading() as connection:
        kept = {name: scores_of_image(connection, "unet", name) for name in NAMES}
    assert all(scores[WHOLE].numbers == b"" and scores["lesion"].numbers for scores in kept.values())
    assert said["four_d"] == "failed" and {said["one"], said["two"]} <= {"scored", "nothing_found"}


def test_the_mean_quality_is_predicted_where_the_version_has_a_calibration(found: Site) -> None:
    site = found
    site.submit("l1", "l2", "l3")
    site.run(clicks=True)
    assert read_pool_quality(site.versions.folder, SHIPPED) is None
    sha256 = file_sha256(site.app / "weights/test_weights.safetensors")
    key = calibration_key(load_preset(site.app / "configs/test.yaml"), sha256)
    first = (((0.4, 0.3), (0.8, 0.7)),) * 20
    calibration = Calibration(key, 20, (Line(-0.1, 1.0, 0.1),), first)
    file = calibration_file(site.versions.folder, sha256)
    file.parent.mkdir(parents=True)
    file.write_text(to_json(calibration))
    site.run(clicks=True)
    quality = read_pool_quality(site.versions.folder, SHIPPED)
    clicks = [FirstClicks.of_numbers(site.clicks()[name].numbers) for name in NAMES]
    expected = np.mean([np.mean(one.expected) for one in clicks if one is not None])
    assert quality is not None and quality.mean == pytest.approx(expected - 0.1, abs=1e-6)
    assert (quality.images, quality.unlabelled, quality.patients) == (2, 3, 20)
    write_test_weights(site.app / "weights", seed=1)
    site.run(clicks=True)
    assert read_pool_quality(site.versions.folder, SHIPPED) is None, "of other weights"
