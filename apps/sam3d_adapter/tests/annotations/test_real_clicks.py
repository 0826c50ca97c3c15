"""Recorded clicks that led to submitted labels, from a real audit log."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from lib.annotations.patients import PatientBook
from lib.annotations.real_clicks import answers_on, costs, read_real_clicks
from lib.annotations.submitted import Learner, SavedLabel, read_submitted
from lib.audit.log import AuditLog, new_id
from lib.presets import load_preset
from lib.prompts.click import Click
from lib.volumes.mask_hash import mask_hash

CT = load_preset(Path(__file__).resolve().parents[2] / "configs/ct.yaml")
SHAPE = (20, 20, 20)
NOW = 1_700_000_000
FIRST, SECOND = np.s_[2:8, 2:8, 2:8], np.s_[12:18, 12:18, 12:18]
IN, IN_TOO, BESIDE, IN_SECOND = [4, 4, 4], [6, 6, 6], [10, 4, 4], [15, 15, 15]


class Site:
    """One labelled image with two objects, and a log."""

    def __init__(self, folder):
        self.folder, self.log = folder, AuditLog(folder / "audit", 2**24)
        self.labels = np.zeros(SHAPE, np.uint8)
        self.labels[FIRST], self.labels[SECOND] = 1, 2
        nib.save(nib.Nifti1Image(np.zeros(SHAPE, np.int16), np.eye(4)), folder / "a.nii.gz")
        nib.save(nib.Nifti1Image(self.labels, np.eye(4)), folder / "a_label.nii.gz")

    def case(self, saved_at=100):
        info = {"label_info": [{"name": "x", "idx": 1}, {"name": "y", "idx": 2}], "ts": NOW + saved_at}
        saved = SavedLabel("a", self.folder / "a.nii.gz", self.folder / "a_label.nii.gz", info)
        return read_submitted([saved], Learner(CT), PatientBook().patient_of).cases[0]

    def answer(self, time, foreground, background=(), mask=None, image="a", preset="ct", version="v1", user=None):
        mask = np.zeros(SHAPE, bool) if mask is None else mask
        self.log.append(
            {
                "id": new_id(datetime.now(UTC)),
                "time": datetime.fromtimestamp(NOW + time, UTC).isoformat(timespec="milliseconds"),
                "user": user,
                "image_id_hash": image and self.log.name_hash(image),
                "preset": preset,
                "model_version": version,
                "request": {"foreground": list(foreground), "background": list(background), "threshold": 0.5},
                "mask_hash": mask_hash(mask),
                "mask_voxels": int(mask.sum()),
            }
        )

    def read(self, preset="ct", **options):
        return read_real_clicks(self.log, [self.case(**options)], preset).get("a", ())


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


def test_accepted_mask_is_found_by_its_voxels(site):
    site.answer(0, [IN])
    site.answer(10, [IN], [BESIDE])
    site.answer(40, [IN, IN_TOO], [BESIDE], mask=site.labels == 1)
    (found,) = site.read()
    assert found.clicks == (Click((4, 4, 4)), Click((10, 4, 4), False), Click((6, 6, 6)))
    assert found.label == 1 and found.is_exact and found.is_accepted and found.model_version == "v1"
    assert found.seconds == 101  # the save is cut to whole seconds


def test_click_that_was_tried_and_taken_back_is_left_out(site):
    # Its mask is the accepted one, so a click beside the object does not stand against it.
    site.answer(0, [IN], mask=site.labels == 1)
    site.answer(5, [IN, BESIDE])
    (found,) = site.read()
    assert found.clicks == (Click((4, 4, 4)),) and found.is_exact


def test_corrected_mask_is_found_by_its_clicks(site):
    site.answer(0, [IN], [BESIDE])
    site.answer(20, [IN_SECOND], [IN])
    found = site.read()
    assert [(each.label, each.is_exact, len(each.clicks)) for each in found] == [(1, False, 2), (2, False, 2)]
    # The second interaction goes on into the other object, and belongs to neither then.
    site.answer(30, [IN_SECOND, IN_TOO], [IN])
    assert [each.label for each in site.read()] == [1]


@pytest.mark.parametrize(
    ("foreground", "background"),
    [([BESIDE], []), ([IN, BESIDE], []), ([IN], [IN_TOO]), ([IN, IN_SECOND], []), ([[25, 0, 0]], [])],
)
def test_clicks_that_disagree_with_the_label(site, foreground, background):
    site.answer(0, foreground, background)
    assert site.read() == ()


def test_what_came_after_the_label_was_saved(site):
    site.answer(200, [IN], mask=site.labels == 1)
    assert site.read() == ()
    site.answer(50, [IN])
    site.answer(300, [IN, BESIDE])
    (found,) = site.read()
    assert found.clicks == (Click((4, 4, 4)),) and not found.is_exact


def test_other_images_presets_and_uploads(site):
    site.answer(0, [IN], image="b")
    site.answer(0, [IN], preset="mr")
    site.answer(0, [IN], preset="ct_old")
    site.answer(0, [IN], image=None)
    assert site.read() == () and len(site.read("mr")) == 1
    found = answers_on(site.log, ["a", "b", "c"])
    assert {image: [answer.preset for answer in answers] for image, answers in found.items()} == {
        "a": ["mr", "ct_old"],
        "b": ["ct"],
    }
    answer = found["a"][0]
    assert answer.time == NOW and answer.foreground == ((4, 4, 4),) and answer.background == ()
    assert answer.mask_hash == mask_hash(np.zeros(SHAPE, bool))


def test_one_interaction_counts_for_each_object(site):
    site.answer(0, [IN], version="v1")
    site.answer(20, [IN_TOO], mask=site.labels == 1, version="v2")
    site.answer(40, [[5, 5, 5]], version="v3")
    site.answer(50, [IN_SECOND], version="v3")
    site.answer(60, [[13, 13, 13]], version="v4")
    found = site.read()
    assert [(each.label, each.model_version) for each in found if each.is_accepted] == [(1, "v2"), (2, "v4")]
    assert len(found) == 5


def test_costs_by_version(site):
    site.answer(0, [IN], version="v1")
    site.answer(30, [IN], [BESIDE], mask=site.labels == 1, version="v1")
    site.answer(60, [IN_SECOND], version="v2")
    found = costs({"a": site.read()})
    assert list(found) == ["v1", "v2"]
    assert (found["v1"].count, found["v1"].exact, found["v1"].median_clicks, found["v1"].median_seconds) == (
        1,
        1,
        2,
        101,
    )
    assert (found["v2"].count, found["v2"].exact, found["v2"].median_clicks, found["v2"].median_seconds) == (
        1,
        0,
        1,
        41,
    )
    assert costs({}) == {}


def test_log_without_a_key_tells_nothing_and_makes_none(site):
    assert site.read() == () and not site.log.folder.exists()
    site.answer(0, [IN])
    (site.log.folder / "key").unlink()
    # The hashes of the records mean nothing any more.
    fresh = AuditLog(site.log.folder, 2**24)
    assert read_real_clicks(fresh, [site.case()], "ct") == {} and not fresh.has_key()
    assert answers_on(fresh, ["a"]) == {}


def test_log_of_somebody_elses_folder_is_left_alone(site, caplog):
    site.answer(0, [IN])
    site.log.folder.chmod(0o755)
    assert read_real_clicks(AuditLog(site.log.folder, 2**24), [site.case()], "ct") == {}
    assert "not used" in caplog.text


def test_torn_lines_and_other_json_are_passed_over(site):
    site.answer(0, [IN])
    (file,) = site.log.files()
    file.write_text('["ct"]\n{"preset": "ct", "image_id_hash": 3}\n"ct\n' + file.read_text() + '{"preset":"ct"')
    assert len(site.read()) == 1


def test_label_that_is_gone(site, caplog):
    site.answer(0, [IN])
    case = site.case()
    shutil.copy(site.folder / "a.nii.gz", site.folder / "a_label.nii.gz")
    assert read_real_clicks(site.log, [case], "ct") == {}
    assert "not used" in caplog.text
