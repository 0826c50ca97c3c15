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
from scipy.spatial.transform import Rotation

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


def changed(study: Study, **tags: Any) -> list:
    """The series with other values of tags; None removes one, a function gets the rank of the slice."""
    series = [copied(instance) for instance in study.instances]
    for rank, instance in enumerate(series):
        for tag, value in tags.items():
            if value is None:
                delattr(instance, tag)
            else:
                setattr(instance, tag, value(rank) if callable(value) else value)
    return series


@pytest.mark.parametrize("which", ["all", "some"])
@pytest.mark.parametrize(("bits", "is_signed"), [(16, True), (16, False), (12, False), (12, True)])
def test_how_a_viewer_shows_values_does_not_change_them(
    tmp_path: Path, study: Study, which: str, bits: int, is_signed: bool
) -> None:
    series = changed(study, PhotometricInterpretation="MONOCHROME1")
    for rank, instance in enumerate(series):
        stored = np.frombuffer(instance.PixelData, "<i2").astype(int)
        stored = stored // 2 if is_signed and bits == 12 else stored
        offset = 0 if is_signed else 1024
        instance.PixelData = (np.clip(stored + offset, -2048 if is_signed else 0, 4095)).astype("<i2").tobytes()
        instance.PixelRepresentation, instance.RescaleIntercept = int(is_signed), -offset
        instance.BitsStored, instance.HighBit = bits, bits - 1
        if which == "some" and rank % 2:
            instance.PhotometricInterpretation = "MONOCHROME2"
    volume = read_volume(write(tmp_path / "1", series))
    for instance in series:
        instance.PhotometricInterpretation = "MONOCHROME2"
    expected = read_volume(write(tmp_path / "2", series))
    assert volume.content_key == expected.content_key and check_series(tmp_path / "1").is_inverted


def test_frames_that_a_viewer_shows_dark(tmp_path: Path, study: Study) -> None:
    whole = multi_frame(study)
    whole.PhotometricInterpretation = "MONOCHROME1"
    (tmp_path / "frames.dcm").write_bytes(as_file(whole))
    np.testing.assert_array_equal(read_volume(tmp_path / "frames.dcm").voxels, study.image)


def test_colours_of_a_palette(tmp_path: Path, study: Study) -> None:
    with pytest.raises(ImageError, match="colours"):
        check_series(write(tmp_path / "series", changed(study, PhotometricInterpretation="PALETTE COLOR")))


@pytest.mark.parametrize("texts", [("0.7", "0.70"), ("0.7", "0.6999999"), ("0.7", "7.0E-01"), ("0.70000000", "0.7")])
def test_equal_sizes_written_differently(tmp_path: Path, study: Study, texts: tuple[str, str]) -> None:
    series = changed(study, PixelSpacing=lambda rank: [texts[rank % 2]] * 2)
    volume = read_volume(write(tmp_path / "series", series))
    np.testing.assert_allclose(np.linalg.norm(volume.affine[:3, :3], axis=0), (0.7, 0.7, 2), rtol=1e-5)


def test_nearly_equal_sizes_are_two(tmp_path: Path, study: Study) -> None:
    for other in ("0.71", "0.702"):
        series = changed(study, PixelSpacing=lambda rank, other=other: [("0.7", other)[rank % 2], "0.7"])
        with pytest.raises(ImageError, match="several pixel sizes"):
            read_volume(write(tmp_path / other, series))


@pytest.mark.parametrize("stated", [None, "", ["0", "0"], ["0.7", "0"], ["-0.7", "-0.7"], "0.7", ["0.7"] * 3])
@pytest.mark.parametrize("instead", [{}, {"ImagerPixelSpacing": ["0.5", "0.5"]}])
def test_pixels_of_no_size(tmp_path: Path, study: Study, stated: Any, instead: dict[str, Any]) -> None:
    """The detector's (ImagerPixelSpacing) is another one; 1 mm, which ITK takes, is anything."""
    with pytest.raises(ImageError, match="does not say how large its pixels are"):
        read_volume(write(tmp_path / "series", changed(study, PixelSpacing=stated, **instead)))


def test_frames_of_no_size(tmp_path: Path, study: Study) -> None:
    whole = multi_frame(study)
    del whole.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing
    (tmp_path / "frames.dcm").write_bytes(as_file(whole))
    with pytest.raises(ImageError, match="does not say how large its pixels are"):
        read_volume(tmp_path / "frames.dcm")
    del whole.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence
    (tmp_path / "frames.dcm").write_bytes(as_file(whole))
    with pytest.raises(ImageError, match="does not say how large its pixels are"):
        read_volume(tmp_path / "frames.dcm")


@pytest.mark.parametrize("tag", ["SpacingBetweenSlices", "SliceThickness"])
@pytest.mark.parametrize("stated", [0, "", "0.0", -2, 5])
def test_what_a_header_says_of_the_distance_does_not_matter(
    tmp_path: Path, study: Study, tag: str, stated: Any
) -> None:
    volume = read_volume(write(tmp_path / "series", changed(study, **{tag: stated})))
    np.testing.assert_array_equal(volume.voxels, study.image)
    np.testing.assert_allclose(volume.affine, RAS_FROM_LPS @ study.geometry.index_to_lps, atol=1e-5)
    whole = multi_frame(study)
    setattr(whole.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0], tag, stated)
    (tmp_path / "frames.dcm").write_bytes(as_file(whole))
    np.testing.assert_allclose(read_volume(tmp_path / "frames.dcm").affine, volume.affine, atol=1e-5)


def rounded(study: Study, turn: Rotation, *, cosine: int, mm: int) -> tuple[list, np.ndarray]:
    """The series turned in space, its numbers rounded to decimals, and its affine before that."""
    affine = study.geometry.index_to_lps
    affine[:3] = turn.as_matrix() @ affine[:3]
    series = [copied(instance) for instance in by_rank(study)]
    i, j = (affine[:3, axis] / np.linalg.norm(affine[:3, axis]) for axis in (0, 1))
    for rank, instance in enumerate(series):
        place = affine[:3, 3] + rank * affine[:3, 2]
        instance.ImageOrientationPatient = [f"{value:.{cosine}f}" for value in (*i, *j)]
        instance.ImagePositionPatient = [f"{value:.{mm}f}" for value in place]
    return series, affine


def by_rank(study: Study) -> list:
    return sorted(study.instances, key=lambda instance: float(instance.ImagePositionPatient[2]))


@pytest.mark.parametrize(("cosine", "mm"), [(2, 6), (3, 2), (4, 1), (6, 1)])
@pytest.mark.parametrize("seed", range(3))
def test_oblique_series_of_rounded_numbers(tmp_path: Path, study: Study, cosine: int, mm: int, seed: int) -> None:
    series, affine = rounded(study, Rotation.random(random_state=seed), cosine=cosine, mm=mm)
    volume = read_volume(write(tmp_path / "series", series))
    np.testing.assert_array_equal(volume.voxels, study.image)
    found = np.linalg.inv(RAS_FROM_LPS @ affine) @ volume.affine
    corners = np.array([[*corner, 1] for corner in np.ndindex(2, 2, 2)]) * [*(np.array(study.image.shape) - 1), 1]
    # In voxels: what rounding cosines moves the far corner by, and rounding places.
    moved = np.abs(corners @ found.T - corners)[:, :3].max()
    assert moved < 40 * 10.0**-cosine + 10.0**-mm
    axes = volume.affine[:3, :3] / np.linalg.norm(volume.affine[:3, :3], axis=0)
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-9)


@pytest.mark.parametrize("number", [np.float64, np.float32])
def test_thin_slices_at_places_of_one_decimal(tmp_path: Path, number: type) -> None:
    """Written by programs that compute with float32 as well, whose texts have decimals that say nothing."""
    study = make_series(count=24)
    places = [[-16.3, -16.3, round(0.625 * rank + 103.1, 1)] for rank in range(24)]
    series = changed(study, ImagePositionPatient=lambda rank: [repr(float(number(part)))[:16] for part in places[rank]])
    volume = read_volume(write(tmp_path / "series", series))
    assert abs(np.linalg.norm(volume.affine[:3, 2]) - 0.625) < 0.1 / 23


def test_directions_that_are_none(tmp_path: Path, study: Study) -> None:
    """ITK takes the patient's axes for them."""
    for place, odd in enumerate((["0.8", "0.7", "0", "-0.5", "0.8", "0.1"], ["0"] * 6, ["2", "0", "0", "0", "2", "0"])):
        with pytest.raises(ImageError, match="not at right angles"):
            read_volume(write(tmp_path / str(place), changed(study, ImageOrientationPatient=odd)))


def oblique(seed: int, distance: float, *, tilt_deg: float = 0.0, count: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Orientations and positions of a stack somewhere in space."""
    rng = np.random.default_rng(seed)
    i, j, k = Rotation.random(random_state=rng).as_matrix().T
    step = distance * (k + j * np.tan(np.radians(tilt_deg)))
    return np.tile([*i, *j], (count, 1)), rng.uniform(-200, 200, 3) + np.arange(count)[:, None] * step


@pytest.mark.parametrize("decimals", [2, 3, 4, 6])
def test_no_oblique_stack_is_refused_for_rounded_cosines(decimals: int) -> None:
    for seed in range(300):
        orientations, positions = oblique(seed, 2.0)
        check_grid(np.round(orientations, decimals), positions, "a")


@pytest.mark.parametrize("distance", [0.5, 0.625, 1.0, 3.0])
def test_no_thin_stack_is_refused_for_rounded_places(distance: float) -> None:
    for seed in range(300):
        orientations, positions = oblique(seed, distance)
        check_grid(np.round(orientations, 4), np.round(positions, 1), "a", unit_mm=0.1)


@pytest.mark.parametrize("tilt_deg", [2, 3, 5, 12, 25])
@pytest.mark.parametrize(("cosine", "mm"), [(2, 6), (3, 6), (4, 1), (6, 2)])
def test_real_tilts_are_found_in_rounded_numbers(tilt_deg: float, cosine: int, mm: int) -> None:
    for seed in range(100):
        orientations, positions = oblique(seed, 1.0, tilt_deg=tilt_deg)
        with pytest.raises(ImageError, match="tilted by"):
            check_grid(np.round(orientations, cosine), np.round(positions, mm), "a", unit_mm=10.0**-mm)


@pytest.mark.parametrize("distance", [0.5, 1.0, 3.0])
def test_missing_slices_are_found_in_rounded_places(distance: float) -> None:
    for seed in range(100):
        orientations, positions = oblique(seed, distance)
        with pytest.raises(ImageError, match="missing"):
            check_grid(orientations[1:], np.round(np.delete(positions, 7, axis=0), 1), "a", unit_mm=0.1)


def test_whole_numbers_are_not_taken_for_rounded_ones(tmp_path: Path, study: Study) -> None:
    """Slices 2 mm apart at whole millimetres, but for one that is 1 mm off."""
    heights = [2 * rank + (rank == 5) for rank in range(16)]
    series = changed(study, ImagePositionPatient=lambda rank: ["-16", "-16", str(heights[rank])])
    with pytest.raises(ImageError, match="distance varies"):
        read_volume(write(tmp_path / "series", series))


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
