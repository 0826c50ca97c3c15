"""Which DICOM slices are one volume: what is refused, what is let through, and what ITK makes of the latter."""

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.volumes.dicom_image import read_image
from lib.volumes.dicom_series import SPACING_TOLERANCE, TILT_TOLERANCE_DEG, check_grid, check_series
from lib.volumes.header_validation import reading_bytes
from lib.volumes.memory import SHARE, MemoryShortage
from lib.volumes.read import read_volume
from lib.volumes.volume import ImageError
from tests.support.dicom_study import Study
from tests.support.odd_series import ODD, as_file, copied, film, make_series, multi_frame

# ITK's wrapping raises it on import, on every Python from 3.11; made an error there, it ends the process.
pytestmark = pytest.mark.filterwarnings("ignore:builtin type [sS]wig:DeprecationWarning")

RAS_FROM_LPS = np.diag([-1.0, -1, 1, 1])


def write(folder: Path, series: list) -> Path:
    folder.mkdir(exist_ok=True)
    for rank, instance in enumerate(series):
        # Against the order of the slices, which is nobody's business but theirs.
        (folder / f"{len(series) - rank:03d}.dcm").write_bytes(as_file(instance))
    return folder


@pytest.fixture(scope="module")
def study() -> Study:
    return make_series()


@pytest.mark.parametrize("name", ODD)
def test_odd_series_are_refused_with_the_reason(tmp_path: Path, study: Study, name: str) -> None:
    make, words = ODD[name]
    with pytest.raises(ImageError) as caught:
        read_volume(write(tmp_path / "series", make(study)))
    for word in words:
        assert word in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize("orientation", ["axial", "sagittal", "feet_up"])
def test_regular_series_is_read_as_it_lies(tmp_path: Path, orientation: str) -> None:
    study = make_series(orientation=orientation)
    volume = read_volume(write(tmp_path / "series", list(study.instances)))
    np.testing.assert_array_equal(volume.voxels, study.image)
    np.testing.assert_allclose(volume.affine, RAS_FROM_LPS @ study.geometry.index_to_lps, atol=1e-5)


@pytest.mark.parametrize(
    ("tag", "value"),
    [("SliceThickness", "2.01"), ("SeriesDate", "20200102"), ("SequenceName", "other"), ("SeriesNumber", 2)],
)
def test_slices_that_differ_in_a_detail_are_all_read(tmp_path: Path, study: Study, tag: str, value: Any) -> None:
    """Such details make other series of them by ITK's rules, of which the first alone would be read."""
    series = [copied(instance) for instance in study.instances]
    for instance in series[10:]:
        setattr(instance, tag, value)
    volume = read_volume(write(tmp_path / "series", series))
    np.testing.assert_array_equal(volume.voxels, study.image)
    np.testing.assert_allclose(volume.affine, RAS_FROM_LPS @ study.geometry.index_to_lps, atol=1e-5)


def test_series_knows_its_files_in_order_and_its_shape(tmp_path: Path, study: Study) -> None:
    folder = write(tmp_path / "series", list(study.instances))
    found = check_series(folder)
    heights = [float(pydicom.dcmread(file).ImagePositionPatient[2]) for file in found.files]
    assert heights == sorted(heights) and found.shape == study.image.shape


def test_two_files_of_many_frames(tmp_path: Path, study: Study) -> None:
    """Each would be a volume; ITK puts the one upon the other only as it likes."""
    first, second = (multi_frame(study) for _ in range(2))
    for frame in second.PerFrameFunctionalGroupsSequence:
        place = frame.PlanePositionSequence[0]
        place.ImagePositionPatient = [*place.ImagePositionPatient[:2], place.ImagePositionPatient[2] + 32]
    second.SeriesInstanceUID = first.SeriesInstanceUID
    with pytest.raises(ImageError, match="several files of many frames"):
        read_volume(write(tmp_path / "series", [first, second]))


def test_fewer_voxels_than_the_headers_say(tmp_path: Path, study: Study) -> None:
    series = check_series(write(tmp_path / "series", list(study.instances)))
    with pytest.raises(ImageError, match="32 x 32 x 16 voxels by its headers, and 32 x 32 x 10 were read"):
        read_image(replace(series, files=series.files[:10]), "a")


@pytest.mark.parametrize("name", ["frames.dcm", "frames", "1.2.840.113619"])
def test_file_of_many_frames_is_read_as_it_lies(tmp_path: Path, study: Study, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(as_file(multi_frame(study)))
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.voxels, study.image)
    np.testing.assert_allclose(volume.affine, RAS_FROM_LPS @ study.geometry.index_to_lps, atol=1e-5)


ORDERS = {
    "descending": list(range(16))[::-1],
    "interleaved": [*range(0, 16, 2), *range(1, 16, 2)],
    "from the middle": [*range(8, 16), *range(8)],
}


@pytest.mark.parametrize("order", ORDERS.values(), ids=list(ORDERS))
@pytest.mark.parametrize("has_distance", [True, False])
def test_frames_in_any_order_are_read_as_they_lie(
    tmp_path: Path, study: Study, order: list[int], has_distance: bool
) -> None:
    """Viewers count slices along (row x column), wherever in the file they are."""
    frames = multi_frame(study, order=order)
    if not has_distance:
        del frames.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices
    path = tmp_path / "frames.dcm"
    path.write_bytes(as_file(frames))
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.voxels, study.image)
    np.testing.assert_allclose(volume.affine, RAS_FROM_LPS @ study.geometry.index_to_lps, atol=1e-5)


def test_frames_that_are_scaled(tmp_path: Path, study: Study) -> None:
    path = tmp_path / "frames.dcm"
    path.write_bytes(as_file(multi_frame(study, slopes=[0.5] * 16)))
    np.testing.assert_array_equal(read_volume(path).voxels, study.image * 0.5)
    path.write_bytes(as_file(multi_frame(study, slopes=[1.0, *[0.5] * 15])))
    with pytest.raises(ImageError, match="each of its frames by another factor"):
        read_volume(path)


@pytest.mark.parametrize("slopes", [(1, 0.001), (0.001, 1), (1, 30), (0.25, 0.5)])
@pytest.mark.parametrize("is_read_last", [True, False])
def test_slices_that_are_scaled_apart(
    tmp_path: Path, study: Study, slopes: tuple[float, float], is_read_last: bool
) -> None:
    """As those of PET are; the type of number that the first slice needs does not do for the others."""
    series = [copied(instance) for instance in study.instances]
    factors = np.full(16, float(slopes[1]))
    factors[0] = slopes[0]
    heights = [float(instance.ImagePositionPatient[2]) for instance in series]
    for instance, rank in zip(series, np.argsort(np.argsort(heights)), strict=True):
        instance.RescaleSlope = factors[rank]
    volume = read_volume(write(tmp_path / "series", series[::-1] if is_read_last else series))
    np.testing.assert_allclose(volume.voxels, study.image * factors, rtol=1e-6)


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_series_that_exceeds_the_memory_is_not_read(
    tmp_path: Path, study: Study, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    path = write(tmp_path / "series", list(study.instances) if kind == "folder" else [multi_frame(study)])
    path = path if kind == "folder" else path / "001.dcm"
    free = [reading_bytes(study.image.shape, 4) / SHARE - 10]
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=free[0]))
    with pytest.MonkeyPatch.context() as context:
        for reader in ("ImageFileReader", "ImageSeriesReader"):
            context.setattr(f"SimpleITK.{reader}.Execute", lambda *_: pytest.fail("It was read."))
        with pytest.raises(MemoryShortage, match=f"{path.name} needs"):
            read_volume(path)
    free[0] += 20
    assert read_volume(path).voxels.shape == study.image.shape


def test_frames_with_a_gap_and_without_places(tmp_path: Path, study: Study) -> None:
    path = tmp_path / "frames.dcm"
    for frames, words in ((multi_frame(study, missing=5), "missing"), (film(study), "film")):
        path.write_bytes(as_file(frames))
        with pytest.raises(ImageError, match=words):
            read_volume(path)


def test_folders_with_other_files(tmp_path: Path, study: Study) -> None:
    with pytest.raises(ImageError, match="no file"):
        check_series(tmp_path)
    folder = write(tmp_path / "series", list(study.instances))
    (folder / "notes.txt").write_text("taken on Monday")
    with pytest.raises(ImageError, match="not DICOM"):
        check_series(folder)
    (folder / "notes.txt").unlink()
    whole = (folder / "001.dcm").read_bytes()
    (folder / "001.dcm").write_bytes(whole[:400])
    with pytest.raises(ImageError, match="damaged|where each of its slices lies|several"):
        check_series(folder)


AXIAL = np.tile([1.0, 0, 0, 0, 1, 0], (12, 1))


def stack(distance: float, tilt_deg: float = 0.0) -> np.ndarray:
    heights = np.arange(12) * distance
    return np.stack([np.zeros(12), heights * np.tan(np.radians(tilt_deg)), heights], axis=1)


@given(st.floats(0.5, 10), st.floats(0, 0.9 * TILT_TOLERANCE_DEG), st.permutations(range(12)))
def test_any_regular_stack_passes_in_any_order(distance: float, tilt_deg: float, order: list[int]) -> None:
    jitter = np.random.default_rng(0).uniform(-1, 1, (12, 1)) * SPACING_TOLERANCE / 5 * distance * [0, 0, 1]
    check_grid(AXIAL, (stack(distance, tilt_deg) + jitter)[order], "a")


@given(st.floats(0.5, 10), st.floats(2 * TILT_TOLERANCE_DEG, 60))
def test_any_tilt_is_found(distance: float, tilt_deg: float) -> None:
    with pytest.raises(ImageError, match="tilted by") as caught:
        check_grid(AXIAL, stack(distance, tilt_deg), "a")
    told = re.search(r"tilted by ([\d.]+)", str(caught.value))
    assert told and abs(float(told[1]) - tilt_deg) < 0.06


@given(st.floats(0.5, 10), st.integers(1, 10))
def test_any_missing_slice_is_found(distance: float, missing: int) -> None:
    with pytest.raises(ImageError, match="missing"):
        check_grid(AXIAL[1:], np.delete(stack(distance), missing, axis=0), "a")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_places_that_are_no_numbers(bad: float) -> None:
    positions = stack(2)
    positions[3, 2] = bad
    with pytest.raises(ImageError, match="without a place"):
        check_grid(AXIAL, positions, "a")
