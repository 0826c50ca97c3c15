"""Small files that unpack to much: refused where their header promised less, and never unpacked further than that."""

import json
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lib.volumes.read import read_volume
from lib.volumes.unpacking import SLACK
from lib.volumes.volume import ImageError
from tests.support import bombs
from tests.support.hostile_images import packed

SIDE = 160
MIB = 2**20

# Reads each file in turn; the kernel counts the most memory from where it is told to.
READS = """
import json, sys
from pathlib import Path
from lib.volumes.read import read_volume
from lib.volumes.volume import ImageError

def status(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) * 1024

found = {}
for path in [sys.argv[1], *sys.argv[1:]]:
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    try:
        said = list(read_volume(Path(path)).voxels.shape)
    except ImageError as error:
        said = str(error)
    found[path] = [said, status("VmHWM") - before]
print(json.dumps(found))
"""


@pytest.mark.slow
def test_reading_takes_what_the_header_promises_and_little_more(tmp_path: Path) -> None:
    """What lies behind the voxels is 16 times as large as an image of one byte a voxel."""
    paths = {}
    for what, make in bombs.BOMBS.items():
        name, content = make(SIDE)
        paths[what] = tmp_path / what.replace(" ", "_") / name
        paths[what].parent.mkdir()
        paths[what].write_bytes(content)
    hidden = {
        "small image": ("a.nii.gz", bombs.packed_nifti(16, more=64 * MIB)),
        "extension": ("a.nii.gz", bombs.endless_extension(64 * MIB)),
        "NRRD": ("a.nrrd", bombs.packed_nrrd(16, more=64 * MIB)),
        "MetaImage": ("a.mha", bombs.packed_mha(16, more=64 * MIB)),
        "DICOM": ("a.dcm", bombs.deflated(bombs.small_frames(), zeros=256 * MIB)),
    }
    for what, (name, content) in hidden.items():
        paths[f"hidden: {what}"] = tmp_path / what.replace(" ", "_") / name
        paths[f"hidden: {what}"].parent.mkdir()
        paths[f"hidden: {what}"].write_bytes(content)
    program = [sys.executable, "-c", READS, *map(str, [paths["NRRD of zeros"], *paths.values()])]
    environment = {"PYTHONPATH": str(Path(bombs.__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    answer = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=200, check=True)
    found = json.loads(answer.stdout.splitlines()[-1])
    for what, path in paths.items():
        said, taken = found[str(path)]
        if what.startswith("hidden"):
            assert "unpacks to more" in said and taken < 48 * MIB, (what, said, taken)
        elif "of zeros" in what or what.startswith(("zeros", "one value")):
            assert said == [SIDE] * 3 and taken < SIDE**3 * (2 * 8 + 8) + 16 * MIB, (what, said, taken)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("a.nii.gz", lambda more: bombs.packed_nifti(16, value=3, more=more)),
        ("a.nrrd", lambda more: bombs.packed_nrrd(16, more=more)),
        ("a.mha", lambda more: bombs.packed_mha(16, more=more)),
    ],
)
def test_the_bound_is_the_promise_and_some_slack(tmp_path: Path, name: str, make: Callable[[int], bytes]) -> None:
    path = tmp_path / name
    for more in (0, 1, SLACK):
        path.write_bytes(make(more))
        assert read_volume(path).voxels.shape == (16, 16, 16)
    path.write_bytes(make(SLACK + 1))
    with pytest.raises(ImageError, match="unpacks to more than the"):
        read_volume(path)


def test_a_second_member_of_a_gzip_file_counts(tmp_path: Path) -> None:
    values = np.arange(16**3, dtype=np.uint8)
    head, voxels = bombs.nifti_head(16, np.uint8), values.tobytes()
    path = tmp_path / "a.nii.gz"
    path.write_bytes(packed(head + voxels[:1000]) + packed(voxels[1000:]))
    np.testing.assert_array_equal(read_volume(path).voxels.numpy().ravel(order="F"), values)
    path.write_bytes(packed(head + voxels) + bombs.compressed(31, bombs.repeated(b"\0", 2 * SLACK)))
    with pytest.raises(ImageError, match="unpacks to more"):
        read_volume(path)
    nrrd = bombs.packed_nrrd(16) + bombs.compressed(31, bombs.repeated(b"\0", 2 * SLACK))
    (tmp_path / "a.nrrd").write_bytes(nrrd)
    with pytest.raises(ImageError, match="unpacks to more"):
        read_volume(tmp_path / "a.nrrd")


@pytest.mark.parametrize("kind", ["nii.gz", "nrrd", "mha"])
def test_what_is_cut_off_or_damaged_is_refused(tmp_path: Path, kind: str) -> None:
    whole = {"nii.gz": bombs.packed_nifti, "nrrd": bombs.packed_nrrd, "mha": bombs.packed_mha}[kind](16)
    path = tmp_path / f"a.{kind}"
    # Without the checksum's last byte all voxels are there, but nobody can say whether they are right.
    for content in (whole[:-1], whole[:-12], whole[:-8] + bytes([whole[-8] ^ 1]) + whole[-7:]):
        path.write_bytes(content)
        with pytest.raises(ImageError):
            read_volume(path)


def test_a_metaimage_that_does_not_say_how_long_it_is(tmp_path: Path) -> None:
    """ITK would read other values from it, and say so on the server's output alone."""
    values = np.arange(16**3, dtype=np.uint8)
    body = zlib.compress(values.tobytes())
    whole = bombs.packed_mha(16)
    head = whole[: whole.index(b"LOCAL\n") + 6]
    said = head[head.index(b"Compressed", head.index(b"DimSize") - 40) :].split(b"\n")[0]
    path = tmp_path / "a.mha"
    path.write_bytes(head.replace(said, b"CompressedDataSize = %d" % len(body)) + body)
    np.testing.assert_array_equal(read_volume(path).voxels.numpy().ravel(order="F"), values)
    for line in (b"CompressedDataSize = 7\n", b""):
        path.write_bytes(head.replace(said + b"\n", line) + body)
        with pytest.raises(ImageError, match="CompressedDataSize"):
            read_volume(path)


@pytest.mark.parametrize(
    ("name", "line", "words"),
    [
        ("a.nrrd", b"sizes: 2 2 2\n", "two values of 'sizes'"),
        ("a.nrrd", b"byte skip: -1\n", "byte skip"),
        ("a.mha", b"DimSize = 2 2 2\n", "two values of 'DimSize'"),
        ("a.mha", b"dimsize = 2 2 2\n", "two values of 'DimSize'"),
    ],
)
def test_headers_that_readers_understand_in_two_ways(tmp_path: Path, name: str, line: bytes, words: str) -> None:
    first, _, rest = (bombs.packed_nrrd(16) if name == "a.nrrd" else bombs.packed_mha(16)).partition(b"\n")
    (tmp_path / name).write_bytes(first + b"\n" + line + rest)
    with pytest.raises(ImageError, match=words):
        read_volume(tmp_path / name)


def test_deflated_dicom_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    path.write_bytes(bombs.as_file(bombs.small_frames()))
    plain = read_volume(path)
    for zeros in (0, MIB):
        path.write_bytes(bombs.deflated(bombs.small_frames(), zeros=zeros))
        np.testing.assert_array_equal(read_volume(path).voxels, plain.voxels)
    # It unpacks to more than the part in which its header is looked for.
    path.write_bytes(bombs.large_frames(1024))
    assert read_volume(path).voxels.shape == (1024, 1024, 16)
    path.write_bytes(bombs.deflated(bombs.small_frames())[:-200])
    with pytest.raises(ImageError, match="damaged"):
        read_volume(path)
