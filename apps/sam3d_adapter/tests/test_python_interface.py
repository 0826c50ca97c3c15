"""The four lines of Python that the README shows."""

import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import sam3d
from lib.prompts.reading import PromptError
from tests.support.server import APP_DIR

README = (APP_DIR.parents[1] / "README.md").read_text(encoding="utf-8")
CENTRE = (24, 20, 22)
BESIDE = (36, 20, 22)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A ball of 18 voxels of 1 mm, brighter by 100 HU."""
    axes = np.ogrid[:48, :44, :40]
    inside = sum((axis - at) ** 2 for axis, at in zip(axes, CENTRE, strict=True)) <= 9**2
    values = (40 + 100 * inside + np.random.default_rng(0).normal(0, 5, inside.shape)).astype(np.int16)
    nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / "liver_3.nii.gz")
    return tmp_path / "liver_3.nii.gz"


def test_the_lines_of_the_readme(file: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    for written, here in (
        ("liver_3.nii.gz", str(file)), ("(201, 188, 61)", str(CENTRE)), ("(188, 180, 61)", str(BESIDE)),
    ):  # fmt: skip
        assert written in code
        code = code.replace(written, here)
    names: dict[str, np.ndarray] = {}
    exec(code, names)
    mask = names["mask"]
    assert mask.shape == (48, 44, 40) and mask[CENTRE] == 1 and mask[BESIDE] == 0
    assert 1500 < mask.sum() < 6000  # the ball has 3,071 voxels


def test_the_order_of_signs_does_not_matter_and_options_are_taken(file: Path) -> None:
    segmenter, image = sam3d.load("ct", device="cpu"), sam3d.read(file)
    on, beside = sam3d.Click(CENTRE), sam3d.Click(BESIDE, is_foreground=False)
    one = segmenter.segment(image, on, beside)
    np.testing.assert_array_equal(one.mask, segmenter.segment(image, beside, on).mask)
    assert one.labels == {"lesion": 1} and one.obeyed is not None and len(one.obeyed) == 2
    strict = segmenter.segment(image, on, threshold=0.99)
    assert strict.mask.sum() < segmenter.segment(image, on).mask.sum()


def test_prompts_that_say_nothing_are_refused(file: Path) -> None:
    segmenter, image = sam3d.load("ct", device="cpu"), sam3d.read(file)
    with pytest.raises(PromptError, match="needed; got none"):
        segmenter.segment(image)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        sam3d.nothing  # noqa: B018
