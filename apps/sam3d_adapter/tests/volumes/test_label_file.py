"""A label's file is read in one way, with each of its segments whole."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.volumes.label_file import NotALabelError, read_label_file
from lib.volumes.label_map import load_label_map, mask_of, mask_of_others, values_of
from lib.volumes.read import VolumeCache, read_volume
from lib.volumes.volume import ImageError
from tests.support.geometry import make_affine
from tests.support.layered_labels import write_layers

# ITK's wrapping raises it on import, on every Python from 3.11; made an error there, it ends the process.
pytestmark = pytest.mark.filterwarnings("ignore:builtin type [sS]wig:DeprecationWarning")

SHAPE = (9, 8, 7)
AFFINE = make_affine("PIR", (0.7, 0.9, 2.5), (5, -8, 12))
NAMES = ("lesion", "organ", "vessel")


def parts() -> dict[str, np.ndarray]:
    masks = {name: np.zeros(SHAPE, bool) for name in NAMES}
    masks["organ"][1:8, 1:7, 1:6] = True
    masks["lesion"][4:9, 3:6, 2:5] = True
    masks["vessel"][0:5, 4:5, 0:7] = True
    return masks


def layered(path: Path) -> Path:
    masks = parts()
    layers = [masks["lesion"] * 1, masks["organ"] * 1, masks["vessel"] * 4]
    return write_layers(path, layers, [("lesion", 0, 1), ("organ", 1, 1), ("vessel", 2, 4)], AFFINE)


def test_each_overlapping_segment_has_all_its_voxels(tmp_path: Path) -> None:
    file = read_label_file(layered(tmp_path / "a.seg.nrrd"))
    assert file.segments() == [1, 2, 3] and file.voxels.shape == SHAPE
    np.testing.assert_allclose(file.affine, AFFINE, atol=1e-6)
    for number, name in enumerate(NAMES, start=1):
        np.testing.assert_array_equal(np.isin(file.voxels, file.numbers([number])), parts()[name])
        assert file.texts[f"Segment{number}_Name"] == name and file.texts[f"Segment{number}_LabelValue"] == str(number)


@given(st.integers(2, 5), st.integers(0, 2**31), st.booleans())
@settings(max_examples=30, deadline=None)
def test_any_layers(tmp_path_factory: pytest.TempPathFactory, count: int, seed: int, packed: bool) -> None:
    rng = np.random.default_rng(seed)
    layers = [rng.integers(0, 4, SHAPE) * (rng.random(SHAPE) > 0.5) for _ in range(count)]
    segments = [(f"s{layer}{value}", layer, value) for layer in range(count) for value in (1, 2, 3)]
    path = write_layers(tmp_path_factory.getbasetemp() / "any.seg.nrrd", layers, segments, packed=packed)
    file = read_label_file(path)
    for number, (_, layer, value) in enumerate(segments, start=1):
        np.testing.assert_array_equal(np.isin(file.voxels, file.numbers([number])), layers[layer] == value)


def test_layers_as_simpleitk_writes_them(tmp_path: Path) -> None:
    masks = parts()
    stacked = np.stack([masks["lesion"], masks["organ"]], axis=-1).astype(np.uint8)
    image = sitk.GetImageFromArray(stacked.transpose(2, 1, 0, 3), isVector=True)
    for number, name in enumerate(("lesion", "organ")):
        for key, text in (("Name", name), ("LabelValue", "1"), ("Layer", str(number))):
            image.SetMetaData(f"Segment{number}_{key}", text)
    sitk.WriteImage(image, str(tmp_path / "a.seg.nrrd"), True)
    file = read_label_file(tmp_path / "a.seg.nrrd")
    for number, name in ((1, "lesion"), (2, "organ")):
        np.testing.assert_array_equal(np.isin(file.voxels, file.numbers([number])), masks[name])


def test_layers_that_nothing_names(tmp_path: Path) -> None:
    layers = [part * 1 for part in parts().values()]
    with pytest.raises(ImageError, match="no names of segments"):
        read_label_file(write_layers(tmp_path / "a.nrrd", layers, []))
    with pytest.raises(ImageError, match="voxels of value 1 in layer 2, which its header does not name"):
        read_label_file(write_layers(tmp_path / "a.nrrd", layers, [("lesion", 0, 1), ("organ", 1, 1)]))
    with pytest.raises(ImageError, match="3 numbers for each voxel; one is expected"):
        read_volume(layered(tmp_path / "a.seg.nrrd"))


def test_a_mask_to_start_from_and_segments_to_protect(tmp_path: Path) -> None:
    path, cache = layered(tmp_path / "a.seg.nrrd"), VolumeCache(10**7)
    labels, masks = load_label_map(path, cache), parts()
    assert load_label_map(path, cache) is labels and values_of(labels) == (1, 2, 3)
    for number, name in enumerate(NAMES, start=1):
        np.testing.assert_array_equal(mask_of(labels, number), masks[name])
        others = np.any([masks[other] for other in NAMES if other != name], axis=0)
        np.testing.assert_array_equal(mask_of_others(labels, number), others)
    assert not mask_of(labels, 9).any()


def test_files_of_the_same_voxels_and_other_segments_are_two(tmp_path: Path) -> None:
    lesion, organ = parts()["lesion"] * 1, parts()["organ"] * 1
    cache = VolumeCache(10**7)
    pair = [("a", 0, 1), ("b", 1, 1)]
    first = load_label_map(write_layers(tmp_path / "a.seg.nrrd", [lesion, organ], pair), cache)
    # The same file but for the order of its segments.
    second = load_label_map(write_layers(tmp_path / "b.seg.nrrd", [lesion, organ], pair[::-1]), cache)
    np.testing.assert_array_equal(mask_of(first, 1), mask_of(second, 2))
    assert not np.array_equal(mask_of(first, 1), mask_of(second, 1))


@pytest.mark.parametrize("dtype", [np.int16, np.uint8])
@pytest.mark.parametrize("highest", [2, 3, 5])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_labels_that_scaling_moved_off_whole_numbers(tmp_path: Path, dtype: type, highest: int, suffix: str) -> None:
    values = np.random.default_rng(highest).integers(0, highest + 1, SHAPE)
    image = nib.Nifti1Image(values.astype(np.float64), AFFINE)
    image.set_data_dtype(dtype)
    nib.save(image, tmp_path / f"a{suffix}")
    file = read_label_file(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(file.voxels, values)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("kind", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"])
def test_labels_of_every_type(tmp_path: Path, suffix: str, kind: str) -> None:
    values = np.random.default_rng(1).integers(0, 100, SHAPE).astype(kind)
    path = tmp_path / f"a{suffix}"
    if suffix.startswith(".nii"):
        nib.save(nib.Nifti1Image(values, AFFINE, dtype=kind), path)
    else:
        sitk.WriteImage(sitk.GetImageFromArray(values.transpose()), str(path), suffix == ".mha")
    np.testing.assert_array_equal(read_label_file(path).voxels, values)


def test_what_is_no_label(tmp_path: Path) -> None:
    for name, value in (("half", 0.5), ("below", -1.0), ("large", 70000.0), ("nothing", np.nan)):
        array = np.zeros(SHAPE, np.float32)
        array[1, 1, 1] = value
        nib.save(nib.Nifti1Image(array, AFFINE), tmp_path / f"{name}.nii")
        with pytest.raises(NotALabelError, match="an image, not a label"):
            read_label_file(tmp_path / f"{name}.nii")
    array = np.zeros(SHAPE, np.uint8)
    nib.save(nib.Nifti1Image(array, np.diag([500.0, 1, 1, 1])), tmp_path / "a.nii")
    with pytest.raises(ImageError, match="Correct the unit"):
        read_label_file(tmp_path / "a.nii")
    with pytest.raises(FileNotFoundError):
        read_label_file(tmp_path / "gone.nrrd")
    (tmp_path / "torn.nrrd").write_bytes(b"NRRD0004\ntype: uint8\n")
    with pytest.raises(ImageError, match="no end"):
        read_label_file(tmp_path / "torn.nrrd")
