"""Reading of images, and the store of those used last."""

import os
import re
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch

from lib.volumes import volume as volume_module
from lib.volumes.read import ImageError, VolumeCache, open_volume, read_volume
from lib.volumes.volume import Volume, file_key, make_volume
from tests.support.geometry import GEOMETRIES, make_affine

# ITK's wrapping raises it on import, on every Python from 3.11; made an error there, it ends the process.
pytestmark = pytest.mark.filterwarnings("ignore:builtin type [sS]wig:DeprecationWarning")

SHAPE = (7, 6, 5)
AFFINE = make_affine("PIR", (0.7, 0.9, 2.5), (5, -8, 12))


def write_nifti(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    nib.save(nib.Nifti1Image(array, affine, dtype=array.dtype), path)
    return path


def counting(dtype: Any = np.int16) -> np.ndarray:
    return np.arange(np.prod(SHAPE)).reshape(SHAPE).astype(dtype)


@pytest.mark.parametrize(
    ("stored", "loaded"),
    [
        (np.int16, torch.int16),
        (np.uint8, torch.uint8),
        (np.int32, torch.int32),
        (np.uint16, torch.int32),
        (np.uint32, torch.int64),
        (np.float32, torch.float32),
        (np.float64, torch.float32),
        (">i2", torch.int16),
    ],
)
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_integers_keep_their_type(tmp_path: Path, stored: Any, loaded: torch.dtype, suffix: str) -> None:
    image = open_volume(write_nifti(tmp_path / f"a{suffix}", counting(stored)))
    assert image.voxels.dtype == loaded
    np.testing.assert_array_equal(image.voxels.numpy(), counting())
    np.testing.assert_allclose(image.affine, AFFINE, atol=1e-5)


def test_an_open_image_is_shared_not_copied(tmp_path: Path) -> None:
    path, cache = write_nifti(tmp_path / "a.nii", counting()), VolumeCache(10**6)
    assert open_volume(path, cache) is open_volume(path, cache)


def test_scaled_values_become_float32(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "scaled.nii", counting())
    header = bytearray(path.read_bytes())
    header[112:120] = np.array([0.5, -100], np.float32).tobytes()
    path.write_bytes(header)
    volume = read_volume(path)
    assert volume.voxels.dtype == torch.float32
    np.testing.assert_array_equal(volume.voxels, counting() * 0.5 - 100)


@pytest.mark.parametrize("name", GEOMETRIES)
def test_other_formats_have_the_same_axes_and_place(tmp_path: Path, name: str) -> None:
    directions, spacing, degrees = GEOMETRIES[name]
    path = write_nifti(tmp_path / "a.nii.gz", counting(), make_affine(directions, spacing, degrees))
    nifti = read_volume(path)
    for suffix in (".nrrd", ".mha"):
        sitk.WriteImage(sitk.ReadImage(str(path)), str(tmp_path / f"a{suffix}"))
        other = read_volume(tmp_path / f"a{suffix}")
        assert other.voxels.dtype == torch.int16
        np.testing.assert_array_equal(other.voxels, nifti.voxels)
        np.testing.assert_allclose(other.affine, nifti.affine, atol=1e-4)


@pytest.mark.parametrize(
    ("shape", "words"),
    [((8, 8, 8, 2), "4 axes"), ((8, 8), "2 axes"), ((8, 8, 1), "8 x 8 x 1"), ((1, 8, 8), "1 x 8 x 8")],
)
def test_what_is_no_volume(tmp_path: Path, shape: tuple[int, ...], words: str) -> None:
    path = write_nifti(tmp_path / "a.nii", np.zeros(shape, np.int16))
    with pytest.raises(ImageError, match=f"a.nii has.*{words}.*Choose one volume"):
        read_volume(path)


def test_trailing_axis_of_one_is_dropped(tmp_path: Path) -> None:
    assert read_volume(write_nifti(tmp_path / "a.nii", counting()[..., None])).voxels.shape == SHAPE


@pytest.mark.parametrize("dtype", [np.complex64, [("R", "u1"), ("G", "u1"), ("B", "u1")]])
def test_values_that_are_no_numbers(dtype: Any) -> None:
    with pytest.raises(ImageError, match="one real number"):
        make_volume(np.zeros(SHAPE, dtype), AFFINE, "a")


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
@pytest.mark.parametrize("kind", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
@pytest.mark.parametrize("axes", [3, 4])
def test_types_and_axes_of_other_formats(tmp_path: Path, suffix: str, kind: str, axes: int) -> None:
    array = counting(np.uint8).astype(kind)
    image = sitk.GetImageFromArray(array.transpose()[(np.newaxis,) * (axes - 3)], isVector=False)
    sitk.WriteImage(image, str(tmp_path / f"a{suffix}"), suffix == ".mha")
    volume = read_volume(tmp_path / f"a{suffix}")
    assert volume.voxels.shape == SHAPE and volume.voxels.dtype.is_floating_point == (kind[0] == "f")
    np.testing.assert_array_equal(volume.voxels.numpy(), array)


@pytest.mark.parametrize("place", ["first", "last"])
def test_list_of_one_volume(tmp_path: Path, place: str) -> None:
    """As 3D Slicer and others write a fourth axis that is none of space."""
    directions, sizes = ["(1,0,0)", "(0,1,0)", "(0,0,2)"], list(map(str, SHAPE))
    at = 0 if place == "first" else 3
    directions.insert(at, "none")
    sizes.insert(at, "1")
    kinds = ["domain"] * 3
    kinds.insert(at, "list")
    header = (
        f"NRRD0005\ntype: int16\ndimension: 4\nspace: right-anterior-superior\nsizes: {' '.join(sizes)}\n"
        f"space directions: {' '.join(directions)}\nkinds: {' '.join(kinds)}\nendian: little\nencoding: raw\n"
        "space origin: (5,6,7)\n\n"
    )
    (tmp_path / "a.nrrd").write_bytes(header.encode() + counting().astype("<i2").tobytes(order="F"))
    volume = read_volume(tmp_path / "a.nrrd")
    np.testing.assert_array_equal(volume.voxels, counting())
    np.testing.assert_allclose(volume.affine, [[1, 0, 0, 5], [0, 1, 0, 6], [0, 0, 2, 7], [0, 0, 0, 1]])


@pytest.mark.parametrize("is_vector", [True, False])
@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_several_numbers_for_each_voxel(tmp_path: Path, suffix: str, is_vector: bool) -> None:
    array = np.zeros((5, 6, 7, 3) if is_vector else (3, 5, 6, 7), np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(array, isVector=is_vector), str(tmp_path / f"a{suffix}"))
    with pytest.raises(ImageError, match="is expected"):
        read_volume(tmp_path / f"a{suffix}")


def test_numbers_beyond_what_is_computed_with(tmp_path: Path) -> None:
    array = counting(np.uint64)
    array[1, 1, 1] = 2**63 - 1
    sitk.WriteImage(sitk.GetImageFromArray(array.transpose()), str(tmp_path / "a.nrrd"))
    assert int(read_volume(tmp_path / "a.nrrd").voxels.max()) == 2**63 - 1
    array[1, 1, 1] = 2**63
    sitk.WriteImage(sitk.GetImageFromArray(array.transpose()), str(tmp_path / "a.nrrd"))
    with pytest.raises(ImageError, match="holds the value 9223372036854775808; at most"):
        read_volume(tmp_path / "a.nrrd")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha", ".dcm", ""])
def test_no_class_of_a_library_is_the_message(tmp_path: Path, suffix: str) -> None:
    rng = np.random.default_rng(0)
    source = tmp_path / f"whole{suffix if suffix not in ('.dcm', '') else '.nii'}"
    sitk.WriteImage(sitk.GetImageFromArray(counting().transpose()), str(source))
    whole = source.read_bytes()
    path = tmp_path / f"image{suffix}"
    for _ in range(40):
        content = bytearray(whole[: rng.integers(1, len(whole))])
        for _ in range(3):
            content[rng.integers(len(content))] = rng.integers(256)
        path.write_bytes(content)
        try:
            read_volume(path)
        except ImageError as error:
            assert not re.search(r"\w(Error|IO|Exception)\b|itk|ITK|nibabel|0x|\w::\w|/tmp", str(error)), str(error)


@pytest.mark.parametrize("affine", [np.diag([1.0, 0, 1, 1]), np.full((4, 4), np.nan), np.ones((4, 4))])
def test_affine_without_a_frame(affine: np.ndarray) -> None:
    with pytest.raises(ImageError, match="no usable position"):
        make_volume(counting(), affine, "a")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha", ".png"])
@pytest.mark.parametrize("content", [b"", b"nonsense " * 100, None], ids=["empty", "nonsense", "torn"])
def test_files_that_cannot_be_read(tmp_path: Path, suffix: str, content: bytes | None) -> None:
    if content is None:
        whole = write_nifti(tmp_path / ("whole" + (suffix if suffix.startswith(".nii") else ".nii")), counting())
        content = whole.read_bytes()[:-100]
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(content)
    with pytest.raises(ImageError, match="broken.*cannot be read") as caught:
        read_volume(path)
    assert str(tmp_path) not in str(caught.value)


def test_missing_file() -> None:
    with pytest.raises(ImageError, match="gone.nii does not exist"):
        open_volume(Path("/nowhere/gone.nii"), VolumeCache(10**6))


def test_claim_of_a_huge_image_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii", counting())
    header = bytearray(path.read_bytes())
    header[42:48] = np.array([30000, 30000, 3000], np.int16).tobytes()
    path.write_bytes(header)
    with pytest.raises(ImageError, match="30000 x 30000 x 3000.*at most"):
        read_volume(path)


def test_content_key_knows_voxels_affine_and_type_alone() -> None:
    base = make_volume(counting(), AFFINE, "a").content_key
    assert make_volume(np.asfortranarray(counting()), AFFINE, "b").content_key == base
    changed = counting()
    changed[3, 2, 1] += 1
    moved = AFFINE.copy()
    moved[0, 3] += 0.5
    others = [(changed, AFFINE), (counting(), moved), (counting(np.int32), AFFINE), (counting()[::-1], AFFINE)]
    keys = {make_volume(array, affine, "c").content_key for array, affine in others}
    assert len(keys) == 4 and base not in keys


class Reader:
    """Counts what it reads."""

    def __init__(self) -> None:
        self.paths: list[Path] = []

    def __call__(self, path: Path) -> Volume:
        self.paths.append(path)
        return read_volume(path)


def test_cache_reads_a_file_once_and_again_when_it_is_replaced(tmp_path: Path) -> None:
    cache, read = VolumeCache(10**6), Reader()
    path = write_nifti(tmp_path / "a.nii", counting())
    first = cache.get(path, read)
    assert cache.get(path, read) is first and len(read.paths) == 1
    # The same size and, by force, the same time: the inode tells.
    times = (os.stat(path).st_atime_ns, os.stat(path).st_mtime_ns)
    new = write_nifti(tmp_path / "new.nii", counting() + 1)
    os.utime(new, ns=times)
    new.replace(path)
    assert cache.get(path, read).content_key != first.content_key
    os.utime(path, ns=(1, 1))
    assert cache.get(path, read).content_key != first.content_key
    assert len(read.paths) == 3


def test_cache_drops_the_least_recently_used(tmp_path: Path) -> None:
    paths = [write_nifti(tmp_path / f"{name}.nii", counting() + rank) for rank, name in enumerate("abc")]
    one = counting().nbytes
    cache, read = VolumeCache(2 * one), Reader()
    for path in (paths[0], paths[1], paths[0], paths[2], paths[0], paths[1]):
        cache.get(path, read)
    assert [path.name for path in read.paths] == ["a.nii", "b.nii", "c.nii", "b.nii"]
    assert cache.nbytes == 2 * one


def test_files_of_equal_content_share_one_image(tmp_path: Path) -> None:
    cache, read = VolumeCache(2 * counting().nbytes), Reader()
    first, other = (write_nifti(tmp_path / f"{name}.nii", counting() + n) for n, name in enumerate("ab"))
    images = [cache.get(first, read), cache.get(other, read)]
    for upload in range(3):
        copy = write_nifti(tmp_path / f"upload_{upload}.nii", counting())
        assert cache.get(copy, read) is images[0]
    assert cache.nbytes == 2 * counting().nbytes and cache.get(other, read) is images[1]


def test_names_of_equal_images_do_not_pile_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(volume_module, "MAX_FILES", 3)
    cache, read = VolumeCache(10**6), Reader()
    uploads = [write_nifti(tmp_path / f"upload_{number}.nii", counting()) for number in range(4)]
    images = [cache.get(upload, read) for upload in (*uploads, uploads[1], uploads[0])]
    assert read.paths == [*uploads, uploads[0]], "the fourth name takes the place of the first"
    assert all(image is images[0] for image in images)


def test_cache_does_not_keep_what_exceeds_it(tmp_path: Path) -> None:
    cache = VolumeCache(100)
    path = write_nifti(tmp_path / "a.nii", counting())
    assert cache.get(path, read_volume).voxels.shape == SHAPE
    assert cache.nbytes == 0
    with pytest.raises(ValueError, match="-1"):
        VolumeCache(-1)


def test_cache_does_not_keep_what_was_replaced_while_it_was_read(tmp_path: Path) -> None:
    path, other = (write_nifti(tmp_path / f"{n}.nii", counting() + i) for i, n in enumerate("ab"))

    def read_and_replace(path: Path) -> Volume:
        volume = read_volume(path)
        shutil.move(other, path)
        return volume

    cache = VolumeCache(10**6)
    cache.get(path, read_and_replace)
    np.testing.assert_array_equal(cache.get(path, read_volume).voxels, counting() + 1)


def test_two_requests_at_once_read_once(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii", counting())
    cache, started, go_on, reads, got = VolumeCache(10**6), threading.Event(), threading.Event(), [], []

    def slow(path: Path) -> Volume:
        reads.append(path)
        started.set()
        assert go_on.wait(10)
        return read_volume(path)

    threads = [threading.Thread(target=lambda: got.append(cache.get(path, slow))) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert started.wait(10)
    go_on.set()
    for thread in threads:
        thread.join(10)
    assert len(reads) == 1 and len(got) == 4 and len({id(volume) for volume in got}) == 1


def test_a_request_between_reading_and_keeping_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it keeps an image, a request looks at the file again, which takes long for a folder of many files."""
    path, read = write_nifti(tmp_path / "a.nii", counting()), Reader()
    has_read, second_reads_or_waits, looks = threading.Event(), threading.Event(), iter(range(1, 5))

    def hold_second_look(path: Path) -> Any:
        if next(looks) == 2:
            has_read.set()
            assert second_reads_or_waits.wait(10)
        return file_key(path)

    def read_second(path: Path) -> Volume:
        second_reads_or_waits.set()
        return read(path)

    class Condition(threading.Condition):
        def wait(self, timeout: float | None = None) -> bool:
            second_reads_or_waits.set()
            return super().wait(timeout)

    monkeypatch.setattr(volume_module, "file_key", hold_second_look)
    with monkeypatch.context() as patched:
        patched.setattr(threading, "Condition", Condition)
        cache = VolumeCache(10**6)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(cache.get, path, read)
        assert has_read.wait(10)
        second = pool.submit(cache.get, path, read_second)
    assert len(read.paths) == 1 and first.result() is second.result()


def test_failed_read_is_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "a.nii"
    path.write_bytes(b"")
    cache = VolumeCache(10**6)
    with pytest.raises(ImageError):
        cache.get(path, read_volume)
    write_nifti(path, counting())
    assert cache.get(path, read_volume).voxels.shape == SHAPE


def test_key_of_a_folder_changes_with_its_files(tmp_path: Path) -> None:
    (tmp_path / "1.dcm").write_bytes(b"a")
    before = file_key(tmp_path)
    assert file_key(tmp_path) == before
    (tmp_path / "1.dcm").write_bytes(b"ab")
    assert file_key(tmp_path) != before


def test_statistics_are_worked_out_once() -> None:
    volume, calls = make_volume(counting(), AFFINE, "a"), []

    def largest(voxels: torch.Tensor) -> int:
        calls.append(voxels)
        return int(voxels.max())

    assert [volume.statistic("max", largest) for _ in range(3)] == [209] * 3
    assert len(calls) == 1


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_what_was_read_does_not_hang_on_the_file(tmp_path: Path, suffix: str) -> None:
    values = np.random.default_rng(0).integers(-500, 500, (40, 30, 20)).astype(np.int16)
    path = tmp_path / f"a{suffix}"
    nib.save(nib.Nifti1Image(values, np.eye(4)), path)
    volume = read_volume(path)
    # In place, as whoever writes into the very file does.
    with path.open("r+b") as file:
        file.write(bytes(path.stat().st_size))
    np.testing.assert_array_equal(volume.voxels.numpy(), values)
    path.unlink()
    assert str(path) not in Path("/proc/self/maps").read_text()
