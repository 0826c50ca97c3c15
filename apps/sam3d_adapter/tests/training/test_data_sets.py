"""Data sets: found by name, held-out cases kept out, each with its own intensities."""

import dataclasses
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


def test_each_data_set_has_its_own_intensities_and_share(pairs):
    """MR by percentiles: about zero mean; the CT window clips all of these values to its upper end."""
    rois, truths, clicks, *_ = next(iter(SampleStream([DataSet(pairs, preset("mr"))], CONFIG, seed=1, batch=4)))
    assert rois.shape == truths.shape == (4, 1, 32, 32, 32) and clicks.shape[::2] == (4, 3)
    assert rois[truths].mean() > rois[~truths].mean() + 1
    data_sets = [DataSet(pairs, preset("ct"), share=3.0), DataSet(pairs, preset("mr"), share=1.0)]
    stream = iter(SampleStream(data_sets, CONFIG, seed=1, batch=1))
    flat = [float(roi[roi != 0].std()) < 1e-3 for roi, *_ in (next(stream) for _ in range(60))]
    assert 0.6 < np.mean(flat) < 0.9
