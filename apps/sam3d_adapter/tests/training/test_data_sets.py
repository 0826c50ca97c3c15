"""Data sets: found by name, held-out cases kept out, each with its own intensities."""

import dataclasses
import weakref
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from lib.presets import Preset, load_preset
from lib.training.data_sets import DataSet, DataSetError, case_name
from lib.training.sampling import SamplingConfig
from lib.training.stream import SampleStream

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
CONFIG = SamplingConfig(roi_size=32, too_fine_share=0.0, remap_share=0.0)


def preset(name: str) -> Preset:
    """A shipped preset with an ROI of 32 voxels."""
    loaded = load_preset(CONFIGS / f"{name}.yaml")
    return loaded.with_settings(roi=dataclasses.replace(loaded.roi, size=32))


@pytest.fixture
def pairs(tmp_path):
    """images/ and labels/ of three cases, a fourth image without a label."""
    rng = np.random.default_rng(0)
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    for name in ("a", "b", "c", "unlabelled"):
        labels = np.zeros((40, 40, 40), np.uint8)
        labels[12:26, 12:26, 12:26] = 2
        image = (1000 + 300 * (labels > 0) + rng.normal(0, 20, labels.shape)).astype(np.int16)
        nib.save(nib.Nifti1Image(image, np.eye(4)), tmp_path / "images" / f"{name}.nii.gz")
        if name != "unlabelled":
            nib.save(nib.Nifti1Image(labels, np.eye(4)), tmp_path / "labels" / f"{name}.nii.gz")
    return tmp_path


def test_pairs_are_found_by_name(pairs):
    assert [case_name(file) for file in DataSet(pairs, preset("mr")).files] == ["a", "b", "c"]


def test_held_out_cases_are_kept_out(pairs):
    trained, validated = DataSet(pairs, preset("mr")), DataSet(pairs, preset("mr"))
    trained.keep({"b", "x"}, inverted=True)
    validated.keep({"b", "x"})
    assert [case_name(f) for f in trained.files] == ["a", "c"] and [case_name(f) for f in validated.files] == ["b"]
    with pytest.raises(DataSetError, match="no case is left"):
        validated.keep({"a"})


def test_nothing_to_train_on_is_said(tmp_path):
    with pytest.raises(DataSetError, match="for this data set"):
        DataSet(tmp_path, preset("mr"))


def test_unequal_grids_are_said(pairs):
    nib.save(nib.Nifti1Image(np.ones((9, 9, 9), np.uint8), np.eye(4)), pairs / "labels" / "b.nii.gz")
    data = DataSet(pairs, preset("mr"))
    data.keep({"b"})
    with pytest.raises(DataSetError, match=r"\(9, 9, 9\) voxels; its image has \(40, 40, 40\)"):
        data.draw(np.random.default_rng(0))


LABELS = np.zeros((20, 22, 24), np.uint8)
LABELS[2:10, 2:10, 2:10], LABELS[10:18, 2:10, 2:10], LABELS[2:8, 14:20, 14:20] = 1, 2, 4
GOOD = {
    "image": np.arange(LABELS.size, dtype=np.int16).reshape(LABELS.shape),
    "labels": LABELS,
    "affine": np.diag([1.0, 2.0, 3.0, 1.0]),
}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_table_gives_objects_and_weights(tmp_path, save):
    table = {"objects": np.array([[1, 2], [4, 0], [2, 0]], np.uint16), "weights": np.array([1, 0, 3], np.float32)}
    save(tmp_path / "a.npz", **GOOD, **table)
    data, rng = DataSet(tmp_path, preset("ct")), np.random.default_rng(0)
    drawn = [data.draw(rng) for _ in range(200)]
    assert np.mean([one.label == 3 for one in drawn]) == pytest.approx(0.75, abs=0.1)
    volume = drawn[0].volume
    assert {one.label for one in drawn} == {1, 3} and volume.unions == ((1, 2), (4,), (2,))
    for name in ("image", "labels", "affine"):
        assert np.array_equal(getattr(volume, name), GOOD[name])
    # What is not compressed is not in memory twice.
    assert isinstance(volume.image, np.memmap) == isinstance(volume.labels, np.memmap) == (save is np.savez)
    assert len(volume.coordinates(1)) == 2 * 8**3


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ({"objects": np.array([[1, 2], [0, 0]])}, r"at least one above 0 in each row"),
        ({"objects": np.array([1, 2])}, r"shape \(2,\)"),
        ({"objects": np.array([[1.0, 2.0]])}, "float64"),
        ({"objects": np.array([[1], [3]])}, r"no voxel has a label of the object \[3\]"),
        ({"objects": np.array([[1], [2]]), "weights": np.array([1.0])}, "expected 2"),
        ({"objects": np.array([[1], [2]]), "weights": np.array([1.0, -1.0])}, "none negative"),
        ({"objects": np.array([[1], [2]]), "weights": np.array([0.0, 0.0])}, "one above 0"),
        ({"objects": np.array([[1], [2]]), "weights": np.array([1.0, np.nan])}, "none negative"),
        ({"weights": np.array([1.0])}, "without `objects`"),
        ({"labels": LABELS.astype(np.int32)}, "expected uint8 or uint16"),
        ({"labels": LABELS[1:]}, "expected uint8 or uint16 of the image's"),
    ],
)
def test_an_invalid_volume_is_refused(tmp_path, table, problem):
    np.savez(tmp_path / "a.npz", **GOOD | table)
    with pytest.raises(DataSetError, match=problem) as refused:
        DataSet(tmp_path, preset("ct")).draw(np.random.default_rng(0))
    assert "a.npz" in str(refused.value)


def test_a_missing_array_is_said(tmp_path):
    np.savez(tmp_path / "a.npz", image=GOOD["image"], labels=LABELS)
    with pytest.raises(DataSetError, match="affine missing"):
        DataSet(tmp_path, preset("ct")).draw(np.random.default_rng(0))


def test_volumes_in_memory_stay_within_the_limit(tmp_path):
    """Those used longest ago are dropped and read again; the draws are the same."""
    for name in "abcd":
        np.savez_compressed(tmp_path / f"{name}.npz", **GOOD)
    each = GOOD["image"].nbytes + LABELS.nbytes
    whole, few = DataSet(tmp_path, preset("ct")), DataSet(tmp_path, preset("ct"), max_bytes=2 * each)
    alive: list[weakref.ref] = []
    for number in range(30):
        one, other = (data.draw(np.random.default_rng(number)) for data in (whole, few))
        assert np.array_equal(one.volume.labels, other.volume.labels) and one.label == other.label
        if all(ref() is not other.volume for ref in alive):
            alive.append(weakref.ref(other.volume))
        del one, other
        assert sum(ref() is not None for ref in alive) <= 2
    assert len(alive) > 4


def test_each_data_set_has_its_own_intensities_and_share(pairs):
    """MR by percentiles: about zero mean; the CT window clips all of these values to its upper end."""
    rois, truths, clicks, *_ = next(iter(SampleStream([DataSet(pairs, preset("mr"))], CONFIG, seed=1, batch=4)))
    assert rois.shape == truths.shape == (4, 1, 32, 32, 32) and clicks.shape[::2] == (4, 3)
    assert rois[truths].mean() > rois[~truths].mean() + 1
    data_sets = [DataSet(pairs, preset("ct"), share=3.0), DataSet(pairs, preset("mr"), share=1.0)]
    stream = iter(SampleStream(data_sets, CONFIG, seed=1, batch=1))
    flat = [float(roi[roi != 0].std()) < 1e-3 for roi, *_ in (next(stream) for _ in range(60))]
    assert 0.6 < np.mean(flat) < 0.9
