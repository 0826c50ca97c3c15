"""Scoring: once for each image and version of the weights, and a bad image costs itself alone."""

import os
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monailabel.datastore.local import LocalDatastore

from lib.activelearning.scoring import FeatureScoring, NoFeatures
from lib.host.workflow import Workflow
from lib.presets import load_preset
from lib.serving.preset_segmenter import PresetSegmenter, SharedState
from lib.workflow.scores import Score, read_score
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
        self.workflow, self.said = Workflow(folder / "learning"), dict[str, str]()

    def write(self, name: str, seed: int) -> None:
        noise = np.random.default_rng(seed).normal(40, 60, (20, 18, 16)).astype(np.int16)
        nib.save(nib.Nifti1Image(noise, np.eye(4)), self.images / f"{name}.nii.gz")

    @property
    def store(self) -> LocalDatastore:
        return LocalDatastore(str(self.images))

    def run(self, *presets: str) -> dict[str, str]:
        """What became of each image; its own process would do it, at low priority."""
        shared, names = SharedState.of(), presets or ("test",)
        segmenters = {
            name: PresetSegmenter(load_preset(self.app / f"configs/{name}.yaml"), self.app, shared) for name in names
        }
        said: dict[str, str] = {}
        counts = FeatureScoring(segmenters, self.workflow)({"device": "cpu"}, self.store, said.__setitem__)
        assert sorted(said.values()) == sorted(what for what, count in counts.items() for _ in range(count))
        return said

    def score(self, name: str) -> Score:
        with self.workflow.database(self.store).reading() as connection:
            found = read_score(connection, "test", name)
        assert found is not None
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
    lengths = {len(score.features) for score in scores}
    assert len(lengths) == 1 and scores[0].features != scores[1].features and site.score("four_d").features == b""
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
    assert after[0].content != before[0].content and after[0].features != before[0].features
    assert after[1].file != before[1].file and after[1].features == before[1].features
    assert (after[1].content, after[1].at) == (before[1].content, before[1].at)


def test_other_weights_make_all_scores_stale(site: Site) -> None:
    site.run()
    before = site.score("one")
    write_test_weights(site.app / "weights", seed=1)
    assert site.run() == {"four_d": "failed", "one": "scored", "two": "scored"}
    after = site.score("one")
    assert after.content == before.content and after.version != before.version and after.features != before.features


def test_what_was_kept_before_a_stop_stays(site: Site) -> None:
    (site.images / "two.nii.gz").rename(site.images.parent / "two.nii.gz")
    site.run()
    (site.images.parent / "two.nii.gz").rename(site.images / "two.nii.gz")
    assert site.run() == {"four_d": "failed", "one": "up_to_date", "two": "scored"}


def test_a_network_without_features_says_so(site: Site) -> None:
    with pytest.raises(NoFeatures, match="unet"):
        site.run("unet", "test")
