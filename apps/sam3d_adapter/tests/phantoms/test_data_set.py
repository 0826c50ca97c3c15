"""Studies on disk hold what was made."""

import json
from pathlib import Path

import numpy as np
import pytest

from lib.phantoms.config import PhantomConfig
from lib.phantoms.data_set import save_study
from lib.phantoms.phantom import make_phantom

nib = pytest.importorskip("nibabel", reason="nibabel writes the NIfTI files")

COARSE = PhantomConfig(spacing_mm=(2.5, 2.5), slice_mm=(4.0, 4.0), lattice_mm=5.0)


def test_study_reads_back_as_it_was_made(tmp_path: Path) -> None:
    manifest = save_study(tmp_path / "study", [3, 12], config=COARSE)
    cases = json.loads(manifest.read_text(encoding="utf-8"))["cases"]
    assert [case["seed"] for case in cases] == [3, 12]
    phantom = make_phantom(12, config=COARSE)
    image = nib.load(manifest.parent / cases[1]["image"])
    labels = nib.load(manifest.parent / cases[1]["label"])
    assert image.get_data_dtype() == np.int16 and labels.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asanyarray(image.dataobj), phantom.image)
    np.testing.assert_array_equal(np.asanyarray(labels.dataobj), phantom.labels)
    np.testing.assert_allclose(image.affine, phantom.affine, atol=1e-3)
    np.testing.assert_allclose(image.header.get_zooms(), phantom.spacing, rtol=1e-5)
    assert [lesion["label"] for lesion in cases[1]["lesions"]] == [lesion.label for lesion in phantom.lesions]
