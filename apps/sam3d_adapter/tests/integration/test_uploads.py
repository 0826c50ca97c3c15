"""Images that clients send along, good, damaged and hostile, to the real application; then a good click."""

import resource
from collections.abc import Callable
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lib.volumes.header_validation import MAX_VOXELS
from tests.support.geometry import make_affine
from tests.support.hostile_images import mha, nifti, nrrd, packed, patched, voxels, zeros_packed
from tests.support.live_app import LiveApp, check_refusal
from tests.support.noise_site import AFFINE, CLICK, SHAPE

pytestmark = [
    pytest.mark.timeout(300),
    # Nibabel's remarks on headers that are meant to be wrong.
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
]

GOOD = nifti(voxels())
SHEARED = AFFINE @ np.array([[1, 0, 0, 0], [0, 1, 0.5, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
Content = Callable[[], bytes]

# name of the file, its content, words of the refusal
REFUSED: dict[str, tuple[str, Content, tuple[str, ...]]] = {
    "zero bytes": ("a.nii.gz", lambda: b"", ("cannot be read",)),
    "zero bytes, not packed": ("a.nii", lambda: b"", ("cannot be read",)),
    "zero bytes of NRRD": ("a.nrrd", lambda: b"", ("cannot be read",)),
    "zero bytes of MetaImage": ("a.mha", lambda: b"", ("cannot be read",)),
    "zero bytes of DICOM": ("a.dcm", lambda: b"", ("DICOM",)),
    "zero bytes without extension": ("a", lambda: b"", ("DICOM",)),
    "text": ("a.nii.gz", lambda: b"Dear Sir or Madam,\n" * 100, ("cannot be read",)),
    "text, not packed": ("a.nii", lambda: b"Dear Sir or Madam,\n" * 100, ("cannot be read",)),
    "text as NRRD": ("a.nrrd", lambda: b"Dear Sir or Madam,\n\n" * 100, ("cannot be read",)),
    "text as MetaImage": ("a.mha", lambda: b"Dear Sir or Madam,\n" * 100, ("cannot be read",)),
    "text as DICOM": ("a.dcm", lambda: b"Dear Sir or Madam,\n" * 100, ("DICOM",)),
    "page": ("a.nii.gz", lambda: packed(b"<!doctype html><html>" * 100), ("cannot be read",)),
    "not packed, called packed": ("a.nii.gz", lambda: GOOD, ("cannot be read",)),
    "packed, called not packed": ("a.nii", lambda: packed(GOOD), ("cannot be read",)),
    "packed twice": ("a.nii.gz", lambda: packed(packed(GOOD)), ("cannot be read",)),
    "packed and cut off": ("a.nii.gz", lambda: packed(GOOD)[:-2000], ("cannot be read",)),
    "packed and cut off in the header": ("a.nii.gz", lambda: packed(GOOD)[:100], ("cannot be read",)),
    "packed and damaged": ("a.nii.gz", lambda: damaged(packed(GOOD)), ("cannot be read",)),
    "cut off": ("a.nii", lambda: GOOD[:-2000], ("does not hold", "cut off")),
    "cut off in the header": ("a.nii", lambda: GOOD[:200], ("cannot be read",)),
    "header alone": ("a.nii", lambda: GOOD[:352], ("does not hold",)),
    "photograph": ("a.png", lambda: b"\x89PNG\r\n\x1a\n" + bytes(100), ("'a.png'", ".nii.gz")),
    "archive": ("a.zip", lambda: b"PK\x03\x04" + bytes(100), ("'a.zip'",)),
    "header of a pair": ("a.mhd", lambda: mha(voxels(), data_file="/etc/passwd"), ("'a.mhd'",)),
    "program": ("a.exe", lambda: b"MZ", ("'a.exe'",)),
    "4-D": ("a.nii", lambda: nifti(voxels((8, 8, 8, 3))), ("8 x 8 x 8 x 3", "one volume")),
    "4-D, packed": ("a.nii.gz", lambda: packed(nifti(voxels((8, 8, 8, 3)))), ("8 x 8 x 8 x 3", "one volume")),
    "5-D": ("a.nii", lambda: nifti(voxels((8, 8, 8, 1, 3))), ("8 x 8 x 8 x 1 x 3",)),
    "2-D": ("a.nii", lambda: nifti(voxels((32, 32))), ("32 x 32", "one volume")),
    "1-D": ("a.nii", lambda: nifti(voxels((32,))), ("32", "one volume")),
    "single slice": ("a.nii", lambda: nifti(voxels((32, 32, 1))), ("32 x 32 x 1", "not a slice")),
    "single row": ("a.nii", lambda: nifti(voxels((1, 32, 32))), ("1 x 32 x 32",)),
    "2-D of NRRD": ("a.nrrd", lambda: nrrd(voxels((32, 32, 1))), ("32 x 32 x 1",)),
    "colours": ("a.nii", lambda: nifti(colours()), ("real number",)),
    "complex": ("a.nii", lambda: nifti(voxels(dtype=np.complex64)), ("complex64", "real number")),
    "huge": ("a.nii", lambda: patched(GOOD, dim=[3, 30000, 30000, 3000]), ("at most", str(MAX_VOXELS))),
    "huge, packed": ("a.nii.gz", lambda: packed(patched(GOOD, dim=[3, 30000, 30000, 3000])), (str(MAX_VOXELS),)),
    "large": ("a.nii", lambda: patched(GOOD, dim=[3, 1000, 1000, 1000]), ("does not hold",)),
    "large, packed": ("a.nii.gz", lambda: packed(patched(GOOD, dim=[3, 1000, 1000, 1000])), ("does not hold",)),
    "large, of complex numbers": (
        "a.nii.gz", lambda: packed(patched(GOOD, dim=[3, 1000, 1000, 1000], datatype=1792, bitpix=128)), ("not hold",),
    ),
    "large NRRD": ("a.nrrd", lambda: nrrd(voxels(), fields="sizes: 1000 1000 1000\n", drop=("sizes",)), ("not hold",)),
    "huge NRRD": ("a.nrrd", lambda: nrrd(voxels(), fields="sizes: 99999 99999 99999\n", drop=("sizes",)), ("at most",)),
    "endless NRRD": ("a.nrrd", lambda: nrrd(voxels(), fields=f"sizes: {'9' * 99}\n", drop=("sizes",)), ("voxels",)),
    "large MetaImage": ("a.mha", lambda: mha(voxels(), DimSize="1000 1000 1000"), ("does not hold",)),
    "large MetaImage, packed": (
        "a.mha",
        lambda: mha(
            voxels(), DimSize="1000 1000 1000", CompressedData="True", CompressedDataSize=str(voxels().nbytes)
        ),
        ("does not hold",),
    ),
    "MetaImage without its packed length": (
        "a.mha", lambda: mha(voxels(), CompressedData="True"), ("CompressedDataSize",),
    ),
    "bomb behind the voxels": ("a.nii.gz", lambda: zeros_packed(GOOD, 2**28), ("unpacks to more",)),
    "NRRD of another file": ("a.nrrd", lambda: nrrd(voxels(), fields="data file: /etc/passwd\n"), ("another file",)),
    "NRRD of other files": ("a.nrrd", lambda: nrrd(voxels(), fields="datafile: LIST\n/etc/passwd\n"), ("another",)),
    "MetaImage of another file": ("a.mha", lambda: mha(voxels(), data_file="/etc/passwd"), ("another file",)),
    "MetaImage of a list": ("a.mha", lambda: mha(voxels(), data_file="LIST"), ("another file",)),
    "MetaImage in a pattern": ("a.mha", lambda: mha(voxels(), data_file="/etc/pass%02d 1 2 1"), ("another file",)),
    "NRRD of text": ("a.nrrd", lambda: nrrd(voxels(), fields="encoding: ascii\n", drop=("encoding",)), ("'ascii'",)),
    "NRRD of blocks": ("a.nrrd", lambda: nrrd(voxels(), fields="type: block\n", drop=("type",)), ("'block'",)),
    "NRRD without sizes": ("a.nrrd", lambda: nrrd(voxels(), drop=("sizes",)), ("voxels",)),
    "NRRD without end": ("a.nrrd", lambda: b"NRRD0004\n" + b"# comment\n" * 200_000, ("no end",)),
    "MetaImage of colours": ("a.mha", lambda: mha(voxels(), ElementNumberOfChannels="3"), ("one number",)),
    "MetaImage of another type": ("a.mha", lambda: mha(voxels(), ElementType="MET_STRING"), ("'MET_STRING'",)),
    "no axes": ("a.nii", lambda: patched(GOOD, dim=[0]), ("voxels",)),
    "many axes": ("a.nii", lambda: patched(GOOD, dim=[99]), ("one volume",)),
    "no voxels": ("a.nii", lambda: patched(GOOD, dim=[3, 0, 40, 24]), ("voxels",)),
    "negative axes": ("a.nii", lambda: patched(GOOD, dim=[3, -48, 40, 24]), ("voxels",)),
    "unknown type": ("a.nii", lambda: patched(GOOD, datatype=12345), ("cannot be read",)),
    "voxels before the file": ("a.nii", lambda: patched(GOOD, vox_offset=-400), ("begin at byte",)),
    "voxels far behind": ("a.nii.gz", lambda: packed(patched(GOOD, vox_offset=1e12)), ("begin at byte",)),
    "voxels nowhere": ("a.nii", lambda: patched(GOOD, vox_offset=np.nan), ("cannot be read",)),
    "voxels behind the end": ("a.nii", lambda: patched(GOOD, vox_offset=90_000), ("does not hold",)),
    "singular affine": ("a.nii", lambda: nifti(voxels(), np.diag([1.0, 0, 1, 1])), ("position in space",)),
    "affine of one plane": ("a.nii", lambda: nifti(voxels(), np.ones((4, 4))), ("position in space",)),
    "affine of NaN": ("a.nii", lambda: patched(GOOD, srow_x=[np.nan] * 4), ("position in space",)),
    "affine without end": ("a.nii", lambda: patched(GOOD, srow_y=[np.inf] * 4), ("position in space",)),
    "sheared affine": ("a.nii", lambda: nifti(voxels(), SHEARED), ("degrees apart", "upright")),
    "voxels of a metre": ("a.nii", lambda: nifti(voxels(), np.diag([1000.0, 1000, 1000, 1])), ("unit of its spacing",)),
    "voxels of a nanometre": ("a.nii", lambda: nifti(voxels(), np.diag([1e-6, 1e-6, 1e-6, 1])), ("unit",)),
}  # fmt: skip


def damaged(file: bytes) -> bytes:
    """Zeros in the middle."""
    middle = len(file) // 2
    return file[:middle] + bytes(400) + file[middle + 400 :]


def colours() -> np.ndarray:
    """Red, green and blue per voxel."""
    return np.zeros(SHAPE, [("R", "u1"), ("G", "u1"), ("B", "u1")])


@pytest.mark.parametrize("case", REFUSED)
def test_files_that_are_no_volume(live: LiveApp, good_mask: str, case: str) -> None:
    name, content, words = REFUSED[case]
    answer = live.upload(name, content())
    check_refusal(live, answer, 422, words)
    assert "upload-" not in answer.json()["detail"] and live.left_behind() == []
    assert live.good_click() == good_mask


NAMES = [
    "../../a.nii.gz",
    "a b (2).nii.gz",
    "a\x00.nii.gz",
    "ä" * 300 + ".nii.gz",
    ".nii.gz",
    "a.NII.GZ",
    "/etc/a.nii.gz",
]


@pytest.mark.parametrize("name", NAMES)
def test_names_of_files_mean_nothing(live: LiveApp, good_mask: str, name: str) -> None:
    answer = live.upload(name, packed(GOOD))
    assert answer.status_code == 200, answer.text
    assert answer.json()["clicks"] == [CLICK]
    assert live.left_behind() == []


def with_values(values: Any, dtype: Any = np.float32) -> bytes:
    image = voxels(dtype=dtype)
    image[20:28, 16:24, 8:16] = values
    return nifti(image)


# Images that are odd, and still images.
ANSWERED: dict[str, tuple[str, Content]] = {
    "one frame of a series": ("a.nii", lambda: nifti(voxels((*SHAPE, 1)))),
    "many axes of one": ("a.nii", lambda: nifti(voxels((*SHAPE, 1, 1, 1)))),
    "NaN around the click": ("a.nii", lambda: with_values(np.nan)),
    "infinity around the click": ("a.nii", lambda: with_values(np.inf)),
    "beyond float32": ("a.nii", lambda: with_values(1e300, np.float64)),
    "the largest numbers": ("a.nii", lambda: with_values(np.finfo(np.float32).max)),
    "truth values": ("a.nii", lambda: nifti((voxels() > 40).astype(np.uint8))),
    "64-bit integers": ("a.nii", lambda: nifti(voxels(dtype=np.int64) * 2**40)),
    "unsigned 64-bit integers": ("a.nii", lambda: nifti(np.abs(voxels()).astype(np.uint64))),
    "half precision of nobody": ("a.nii", lambda: nifti(voxels(dtype=np.float64))),
    "big-endian": ("a.nii", lambda: big_endian()),
    "slope 0": ("a.nii", lambda: patched(GOOD, scl_slope=0)),
    "slope NaN": ("a.nii", lambda: patched(GOOD, scl_slope=np.nan)),
    "slope that is huge": ("a.nii", lambda: patched(GOOD, scl_slope=1e38)),
    "without a position": ("a.nii", lambda: patched(GOOD, sform_code=0, qform_code=0)),
    "far from the scanner": ("a.nii", lambda: nifti(voxels(), make_affine("LPS", (1, 1, 2), origin=(1e6, 1e6, 1e6)))),
    "left-handed": ("a.nii", lambda: nifti(voxels(), make_affine("RPS", (1, 1, 2)))),
    "oblique": ("a.nii", lambda: nifti(voxels(), make_affine("LPS", (1, 1, 2), (30, 40, 20)))),
    "thick": ("a.nii", lambda: nifti(voxels(), make_affine("LPS", (0.3, 0.3, 10)))),
    "bytes behind the voxels": ("a.nii", lambda: GOOD + bytes(1000)),
    "NIfTI-2": ("a.nii.gz", lambda: packed(nib.Nifti2Image(voxels(), AFFINE).to_bytes())),
    "NRRD": ("a.nrrd", lambda: nrrd(voxels())),
    "NRRD with a comment": ("a.nrrd", lambda: nrrd(voxels(), fields="# data file: /etc/passwd\nkey:=data file: x\n")),
    "MetaImage": ("a.mha", lambda: mha(voxels())),
}  # fmt: skip


def big_endian() -> bytes:
    image = nib.Nifti1Image(voxels(), None)
    image.set_sform(AFFINE, 1)
    swapped = nib.Nifti1Image(voxels(), None, header=image.header.as_byteswapped(">"))
    return bytes(swapped.to_bytes())


@pytest.mark.parametrize("case", ANSWERED)
def test_odd_images_are_answered(live: LiveApp, good_mask: str, case: str) -> None:
    name, content = ANSWERED[case]
    answer = live.upload(name, content())
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert told["clicks"] == [CLICK]
    assert told["mask_voxels"] > 0 or "empty" in " ".join(told["warnings"])
    assert live.left_behind() == []
    assert live.good_click() == good_mask


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda hu: hu, ""),
        (lambda hu: (hu + 1024).clip(0), "not-hu"),
        (lambda hu: ((hu - hu.mean()) / hu.std()).astype(np.float32), "not-hu"),
        (lambda hu: hu.clip(0, 80), "clipped-window"),
    ],
    ids=["as it is", "HU + 1024", "z-score", "window 40/80"],
)
def test_values_that_are_not_as_expected_are_said(
    live: LiveApp, good_mask: str, change: Callable[[np.ndarray], np.ndarray], code: str
) -> None:
    hu = np.random.default_rng(2).normal(40, 60, SHAPE).astype(np.int16)
    answer = live.upload("a.nii.gz", packed(nifti(change(hu))), CLICK)
    assert answer.status_code == 200, answer.text
    said = {warning.split(":")[0] for warning in answer.json()["warnings"]} - {"nothing-found", "unsure"}
    # Beyond the window as well: what the region holds is looked at apart.
    assert said - {"outside-window"} == ({code} if code else set())
    assert live.good_click() == good_mask


@pytest.mark.parametrize("model", ["test", "percentiles"])
@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.full(SHAPE, 40, np.int16), "value 40"),
        (np.zeros(SHAPE, np.uint8), "value 0"),
        (np.full(SHAPE, np.nan, np.float32), "no finite voxel"),
    ],
    ids=["constant", "zeros", "NaN alone"],
)
def test_images_without_contrast_are_refused(
    live: LiveApp, good_mask: str, model: str, array: np.ndarray, words: str
) -> None:
    answer = live.infer({"foreground": [CLICK]}, model=model, image="", file=("a.nii", nifti(array)))
    check_refusal(live, answer, 422, (words,))
    assert live.good_click() == good_mask


def test_no_memory_is_taken_for_what_a_header_claims(live: LiveApp, good_mask: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for case in (
        "huge",
        "large",
        "large, packed",
        "large, of complex numbers",
        "large NRRD",
        "large MetaImage, packed",
    ):
        name, content, words = REFUSED[case]
        check_refusal(live, live.upload(name, content()), 422, words)
    taken = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert taken < 2**27  # each of them claims 2 GB or more
    assert live.good_click() == good_mask


SETTINGS = settings(deadline=None, max_examples=100, derandomize=True, suppress_health_check=list(HealthCheck))


def check_any(live: LiveApp, name: str, content: bytes) -> None:
    answer = live.upload(name, content)
    if answer.status_code != 200:
        check_refusal(live, answer, answer.status_code)
        assert answer.status_code == 422


@pytest.mark.slow
@given(st.lists(st.tuples(st.integers(0, 351), st.integers(0, 255)), min_size=1, max_size=4), st.booleans())
@SETTINGS
def test_any_bytes_in_a_header(live: LiveApp, changes: list[tuple[int, int]], is_packed: bool) -> None:
    file = bytearray(GOOD)
    for place, value in changes:
        file[place] = value
    check_any(live, "a.nii.gz" if is_packed else "a.nii", packed(bytes(file)) if is_packed else bytes(file))


@pytest.mark.slow
@given(st.sampled_from(sorted(nib.Nifti1Header.template_dtype.names)), st.floats() | st.integers(-(2**31), 2**31))
@SETTINGS
def test_any_value_of_a_header_field(live: LiveApp, field: str, value: float) -> None:
    with np.errstate(all="ignore"):
        kind = nib.Nifti1Header.template_dtype[field]
        try:
            file = patched(GOOD, **{field: [value] if kind.shape else value})
        except (OverflowError, ValueError, DeprecationWarning):
            return  # the field cannot hold it
    check_any(live, "a.nii", file)


@pytest.mark.slow
@given(st.integers(0, 300), st.text(st.characters(max_codepoint=255), max_size=6))
@SETTINGS
def test_any_text_in_a_header(live: LiveApp, place: int, text: str) -> None:
    for name, file in (("a.nrrd", nrrd(voxels())), ("a.mha", mha(voxels()))):
        where = place % file.index(b"\n", 150)
        check_any(live, name, file[:where] + text.encode("latin-1") + file[where + len(text) :])


@pytest.mark.slow
@given(st.binary(max_size=400), st.sampled_from(["a.nii", "a.nii.gz", "a.nrrd", "a.mha", "a.dcm", "a"]))
@SETTINGS
def test_any_file(live: LiveApp, content: bytes, name: str) -> None:
    check_any(live, name, content)


def test_after_all_that_a_good_click_gives_the_same_mask(live: LiveApp, good_mask: str) -> None:
    assert live.good_click() == good_mask
    assert live.left_behind() == []
