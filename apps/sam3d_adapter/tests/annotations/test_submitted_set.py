"""Drawing submitted cases: as the data of a folder, within a budget of memory, past damaged files."""

import dataclasses
import pickle
import weakref
from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from lib.annotations.patients import PatientBook
from lib.annotations.real_clicks import RealInteraction
from lib.annotations.submitted import Learner, SavedLabel, read_submitted
from lib.annotations.submitted_set import SubmittedDataSet
from lib.presets import load_preset
from lib.prompts.click import Click
from lib.segmenters.intensity_settings import WindowIntensity
from lib.training.data_sets import DataSet, DataSetError
from lib.training.sampling import SamplingConfig, draw_sample
from lib.training.stream import SampleStream
from lib.volumes.memory import MemoryShortage

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
CT, PET = (load_preset(CONFIGS / f"{name}.yaml") for name in ("ct", "pet"))
SHAPE = (32, 32, 32)
ONE = 32**3 * 3
"""Bytes of one case: int16 image, uint8 labels."""
MOST = 32**3 * 5
"""As many are counted before it is read."""


def write_case(folder, name, seed):
    labels = np.zeros(SHAPE, np.uint8)
    labels[8:16, 8:16, 8:16], labels[20:24, 20:24, 20:24] = 1, 2
    image = np.random.default_rng(seed).normal(40 + 100 * (labels > 0), 20).astype(np.int16)
    for part, array in (("images", image), ("labels", labels)):
        (folder / part).mkdir(exist_ok=True)
        nib.save(nib.Nifti1Image(array, np.eye(4)), folder / part / f"{name}.nii.gz")
    info = {"label_info": [{"name": "large"}, {"name": "small"}]}
    return SavedLabel(name, folder / f"images/{name}.nii.gz", folder / f"labels/{name}.nii.gz", info)


@pytest.fixture
def cases(tmp_path):
    saved = [write_case(tmp_path, f"c{n}", n) for n in range(6)]
    return read_submitted(saved, Learner(CT), PatientBook().patient_of).cases


@pytest.mark.parametrize("preset", [CT, PET])
def test_draws_what_the_pool_of_a_folder_draws(cases, tmp_path, preset):
    data, folder = SubmittedDataSet(cases[3:4], preset, 0.5), DataSet(tmp_path, preset)
    folder.keep(["c3"])
    assert (data.preset, data.share, data.spacings_mm) == (preset, 0.5, folder.spacings_mm)
    (volume, label, window, _), (_, _, other, _) = (p.draw(np.random.default_rng(3)) for p in (data, folder))
    assert isinstance(window, WindowIntensity) and label in volume.objects() == [1, 2]
    assert window == other
    sample = draw_sample(volume, label, SamplingConfig(roi_size=16), np.random.default_rng(0))
    assert sample.truth.any()


def test_all_cases_and_objects_come(cases):
    rng, data = np.random.default_rng(0), SubmittedDataSet(cases, CT)
    drawn = Counter((case.image_id, drawn.label) for case, drawn in (data.draw_case(rng) for _ in range(600)))
    assert len(drawn) == 12 and min(drawn.values()) > 25
    assert data.nbytes == 6 * ONE


def test_same_seed_same_draws(cases):
    def draws():
        rng, data = np.random.default_rng(9), SubmittedDataSet(cases, CT)
        return [(case.image_id, drawn.label) for case, drawn in (data.draw_case(rng) for _ in range(30))]

    assert draws() == draws()


def drawn_from(data, numbers, seed=0):
    """The ids of the cases that samples are drawn from, each with the generator of its own that the stream gives it."""
    return [data.draw_case(np.random.default_rng([seed, n]), n)[0].image_id for n in numbers]


@pytest.mark.parametrize("held", [1, 2, 3])
def test_memory_stays_within_the_budget_and_files_are_seldom_read(cases, held, monkeypatch):
    data, reads = SubmittedDataSet(cases, CT, max_bytes=held * MOST + 100, stay=20), []
    read = type(cases[0]).read
    monkeypatch.setattr(type(cases[0]), "read", lambda case: reads.append(case.image_id) or read(case))
    drawn = Counter()
    for number in range(1200):
        drawn.update(drawn_from(data, [number]))
        assert data.nbytes <= held * MOST
    # Ten turns, in each of which every case is read once at most.
    assert 20 <= len(reads) <= 60
    assert len(drawn) == 6 and min(drawn.values()) > 140 and sum(drawn.values()) == 1200


@pytest.mark.parametrize("held", [1, 2, 4, 6])
def test_whoever_begins_later_draws_the_same(cases, held):
    """Whatever was read before: a training that is gone on with, and each of several that train together."""
    few = {"max_bytes": held * MOST + 100, "seed": 5, "stay": 4}
    whole = drawn_from(SubmittedDataSet(cases, CT, **few), range(90))
    assert drawn_from(SubmittedDataSet(cases, CT, **few), range(37, 90)) == whole[37:]
    assert drawn_from(SubmittedDataSet(cases, CT, **few), range(1, 90, 2)) == whole[1::2]
    assert len(set(whole)) == 6
    if held < 6:
        assert drawn_from(SubmittedDataSet(cases, CT, **few | {"seed": 6}), range(90)) != whole


def test_a_stream_of_few_in_memory_goes_on_where_it_was_stopped(cases):
    def batches(first, count):
        data = SubmittedDataSet(cases, CT, max_bytes=2 * MOST + 100, stay=4)
        stream = iter(SampleStream([data], SamplingConfig(roi_size=16), 1, batch=2, first_step=first))
        return [next(stream) for _ in range(count)]

    whole, rest = batches(0, 24), batches(9, 15)
    assert all(torch.equal(one.rois, other.rois) for one, other in zip(whole[9:], rest, strict=True))


def test_whoever_begins_later_draws_the_same_past_damaged_files(cases):
    """What was found out about a file before has no part in what is drawn."""
    for case in cases[1:4]:
        case.label.unlink()
    few = {"max_bytes": 2 * MOST + 100, "stay": 4}
    whole = drawn_from(SubmittedDataSet(cases, CT, **few), range(60))
    assert set(whole) == {"c0", "c4", "c5"}
    assert drawn_from(SubmittedDataSet(cases, CT, **few), range(33, 60)) == whole[33:]


def test_each_of_few_samples_is_of_another_case_where_one_fits(cases):
    assert len(set(drawn_from(SubmittedDataSet(cases, CT, max_bytes=100, stay=1), range(6)))) == 6


def test_case_larger_than_the_budget_is_held_alone(cases, monkeypatch):
    data, reads = SubmittedDataSet(cases[:2], CT, max_bytes=100, stay=8), []
    read = type(cases[0]).read
    monkeypatch.setattr(type(cases[0]), "read", lambda case: reads.append(case.image_id) or read(case))
    for number in range(32):
        drawn_from(data, [number])
        assert data.nbytes == ONE
    assert 2 <= len(reads) <= 4 and set(reads) == {"c0", "c1"}


def test_damaged_case_is_left_out_and_training_goes_on(cases, caplog):
    cases[1].image.write_bytes(cases[1].image.read_bytes()[:2000])
    cases[2].label.unlink()
    cases[3].label.write_bytes(cases[4].label.read_bytes() + b"x")
    rng, data = np.random.default_rng(0), SubmittedDataSet(cases, CT)
    drawn = {data.draw_case(rng)[0].image_id for _ in range(60)}
    assert drawn == {"c0", "c4", "c5"}
    assert all(caplog.text.count(f"c{n} is not trained on") == 1 for n in (1, 2, 3))


@pytest.mark.parametrize("error", [MemoryError, MemoryShortage])
def test_without_memory_what_is_held_goes_and_the_case_is_read_again(cases, monkeypatch, error):
    """Also what the failed reading held is gone by then."""
    pool, reads, failed = SubmittedDataSet(cases, CT), [], []
    read = type(cases[0]).read

    def short(case):
        reads.append((case.image_id, pool.nbytes, [ref() is None for ref in failed]))
        volume = read(case)
        if len(reads) == 3:
            failed.append(weakref.ref(volume.image))
            raise error()
        return volume

    monkeypatch.setattr(type(cases[0]), "read", short)
    for case in cases[:3]:
        pool._read(case)
    assert reads == [("c0", 0, []), ("c1", ONE, []), ("c2", 2 * ONE, []), ("c2", 0, [True])]
    assert pool.nbytes == ONE


def test_image_without_contrast_is_left_out_where_percentiles_are_needed(cases):
    image = nib.load(cases[0].image)
    nib.save(nib.Nifti1Image(np.full(SHAPE, 5, np.int16), image.affine), cases[0].image)
    rng, data = np.random.default_rng(0), SubmittedDataSet(cases[:2], PET)
    assert {data.draw_case(rng)[0].image_id for _ in range(20)} == {"c1"}


def test_nothing_left_is_said(cases):
    data = SubmittedDataSet(cases[:2], CT)
    for case in cases[:2]:
        case.image.unlink()
    with pytest.raises(DataSetError, match="None of the submitted"):
        data.draw(np.random.default_rng(0))
    with pytest.raises(DataSetError, match="No submitted label"):
        SubmittedDataSet([], CT)


def test_can_be_sent_to_a_worker(cases):
    data = pickle.loads(pickle.dumps(SubmittedDataSet(cases, CT)))
    assert data.draw(np.random.default_rng(0))[1] in (1, 2)
    assert [dataclasses.replace(case) for case in data.cases] == list(cases)


def test_clicks_that_led_to_an_object_come_with_it(cases):
    """Those of the accepted dialogue, in the user's order; other objects and images have none."""
    clicks = (Click((9, 10, 11), True), Click((2, 2, 2), False), Click((14, 9, 9), True))
    led, other = (
        RealInteraction(1, some, 12.0, "v", "r", is_exact=False, is_accepted=accepted)
        for some, accepted in ((clicks, True), (clicks[:1], False))
    )
    data = SubmittedDataSet(cases, CT, recorded={"c1": (other, led)})
    rng, seen = np.random.default_rng(0), 0
    for _ in range(160):
        case, drawn = data.draw_case(rng)
        if (case.image_id, drawn.label) == ("c1", 1):
            assert drawn.recorded.tolist() == [[9, 10, 11, 1], [2, 2, 2, 0], [14, 9, 9, 1]]
            seen += 1
        else:
            assert drawn.recorded.shape == (0, 4)
    assert seen > 2
    stream = SampleStream([data], SamplingConfig(roi_size=16, recorded_share=1.0, too_fine_share=0.0), 1, batch=8)
    batches = [next(it) for it in [iter(stream)] for _ in range(6)]
    assert any(batch.recorded.shape[1] for batch in batches)
