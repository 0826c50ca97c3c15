"""What is found in folders, manifests and labels, and what is refused."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from lib.evaluation.cases import (
    Case,
    DataError,
    Source,
    Unpaired,
    data_hash,
    from_folders,
    inspect,
    read_truth,
    split_hash,
    unpaired,
    with_patients,
)
from tests.support.label_files import SHAPE, labels, save


def test_files_of_one_name_are_a_pair(folders: tuple[Path, Path]) -> None:
    sources = from_folders(*folders)
    assert [(source.name, source.image.name, source.label.name) for source in sources] == [
        ("a", "a.nii.gz", "a.nii"),
        ("b", "b.nii.gz", "b.nii.gz"),
    ]
    assert {source.dataset for source in sources} == {folders[0].parent.name}
    assert [source.patient for source in sources] == ["a", "b"]
    assert from_folders(folders[0]) == from_folders(folders[0], folders[0] / "../labels")


def test_what_has_no_partner_is_known(folders: tuple[Path, Path]) -> None:
    save(folders[1] / "c.nii.gz", labels())
    assert unpaired(*folders) == unpaired(folders[0]) == Unpaired(("without_label",), ("c",))


def test_segmentations_of_slicer_are_labels(tmp_path: Path) -> None:
    save(tmp_path / "images/b.nii.gz", np.ones(SHAPE, np.int16))
    image = sitk.ReadImage(str(tmp_path / "images/b.nii.gz"))
    segmentation = sitk.GetImageFromArray(labels((slice(0, 2), 1)).T)
    segmentation.CopyInformation(image)
    (tmp_path / "labels").mkdir()
    sitk.WriteImage(segmentation, str(tmp_path / "labels/b.seg.nrrd"))
    (source,) = from_folders(tmp_path / "images", tmp_path / "labels")
    assert source.image.name == "b.nii.gz" and source.label.name == "b.seg.nrrd"
    ((case,), empty) = inspect(source)
    assert empty == 0 and np.array_equal(np.argwhere(read_truth(case)), np.argwhere(labels((slice(0, 2), 1))))


def test_a_server_is_no_folder() -> None:
    with pytest.raises(DataError, match="is an address.*DICOMWEB_CACHE_PATH"):
        from_folders(Path("http://127.0.0.1:8042/dicom-web"))


def test_studies_of_monai_label(tmp_path: Path) -> None:
    save(tmp_path / "studies/a.nii.gz", np.ones(SHAPE, np.int16))
    save(tmp_path / "studies/labels/final/a.nii.gz", labels((slice(0, 1), 1)))
    save(tmp_path / "studies/labels/original/a.nii.gz", labels())
    (source,) = from_folders(tmp_path / "studies")
    assert source.label.parent.name == "final" and source.dataset == "studies"


def test_everything_above_zero_is_the_object(folders: tuple[Path, Path]) -> None:
    a, b = from_folders(*folders)
    ((case,), empty) = inspect(a)
    assert (case.id, case.value, case.shape, case.spacing, case.object_voxels, empty) == (
        "a", None, SHAPE, (1.0, 2.0, 3.0), 3 * 20, 0,
    )  # fmt: skip
    assert read_truth(case).sum() == 60
    assert inspect(b) == ([], 1)


def test_labels_as_objects(folders: tuple[Path, Path]) -> None:
    a, b = from_folders(*folders)
    cases, empty = inspect(a, labels_are_objects=True)
    assert [(case.id, case.value, case.object_voxels) for case in cases] == [("a/1", 1, 40), ("a/7", 7, 20)]
    assert {case.source.patient for case in cases} == {"a"} and empty == 0
    assert inspect(b, labels_are_objects=True) == ([], 1)
    assert [int(read_truth(case).sum()) for case in cases] == [40, 20]


def test_objects_have_whole_numbers(tmp_path: Path) -> None:
    image = save(tmp_path / "image.nii", np.ones(SHAPE, np.int16))
    nearly = np.zeros(SHAPE, np.float32)
    nearly[0], nearly[1] = 2.9999998, 1.0
    cases, _ = inspect(Source("a", image, save(tmp_path / "nearly.nii", nearly), "a", "d"), labels_are_objects=True)
    assert [(case.id, case.object_voxels, int(read_truth(case).sum())) for case in cases] == [
        ("a/1", 20, 20),
        ("a/3", 20, 20),
    ]
    half = Source("a", image, save(tmp_path / "half.nii", nearly / 2), "a", "d")
    with pytest.raises(DataError, match=r"label of a holds 0\.5; each object needs a whole number"):
        inspect(half, labels_are_objects=True)
    assert inspect(half)[0][0].object_voxels == 40


def test_companions_of_macos_are_no_volumes(folders: tuple[Path, Path]) -> None:
    for folder, name in zip(folders, ("a.nii.gz", "a.nii"), strict=True):
        (folder / f"._{name}").write_bytes(b"Mac OS X")
    assert [source.name for source in from_folders(*folders)] == ["a", "b"]


def test_hashes_tell_data_apart_whatever_the_order(folders: tuple[Path, Path]) -> None:
    one, other = inspect(from_folders(*folders)[0], labels_are_objects=True)[0]
    assert data_hash([one, other]) == data_hash([other, one]) != data_hash([one])
    assert split_hash([one, other]) == split_hash([other, one]) != split_hash([one])


def test_patients_from_names() -> None:
    source = Source("P07_scan2", Path("i"), Path("l"), "P07_scan2", "d")
    assert with_patients([source], None) == [source]
    assert with_patients([source], r"^(P\d+)_")[0].patient == with_patients([source], r"P\d+")[0].patient == "P07"
    for pattern, words in (("(", "is none"), ("X", "does not occur"), (r"(\d+x)?_", "finds nothing")):
        with pytest.raises(DataError, match=words):
            with_patients([source], pattern)


def test_other_grids_are_refused(tmp_path: Path) -> None:
    image = save(tmp_path / "image.nii", np.ones(SHAPE, np.int16))
    for values, affine, words in (
        (np.ones((6, 5, 3), np.uint8), None, "6 x 5 x 3 voxels, its image 6 x 5 x 4"),
        (np.ones(SHAPE, np.uint8), np.diag([1.0, 2.0, 3.5, 1.0]), "elsewhere in space"),
    ):
        label = save(tmp_path / "label.nii", values, affine)
        with pytest.raises(DataError, match=words):
            inspect(Source("a", image, label, "a", "d"))


def test_a_label_in_the_place_that_nibabel_finds_is_admitted(tmp_path: Path) -> None:
    image = tmp_path / "image.nii"
    nib.save(nib.Nifti1Image(np.ones(SHAPE, np.int16), None), image)
    label = save(tmp_path / "label.nii", labels((slice(0, 2), 1)), nib.load(image).affine)
    assert inspect(Source("a", image, label, "a", "d"))


def test_a_damaged_label_is_refused_and_a_damaged_image_is_left_to_the_task(tmp_path: Path) -> None:
    good = save(tmp_path / "good.nii", labels((slice(0, 1), 1)))
    bad = tmp_path / "bad.nii"
    bad.write_bytes(good.read_bytes()[:360])
    with pytest.raises(DataError, match="label of a cannot be used"):
        inspect(Source("a", good, bad, "a", "d"))
    cases, _ = inspect(Source("a", bad, good, "a", "d"))
    assert isinstance(cases[0], Case)


def test_missing_folders_and_pairs(tmp_path: Path, folders: tuple[Path, Path]) -> None:
    images, truths = folders
    (tmp_path / "empty").mkdir()
    for arguments, words in (
        ((tmp_path / "no", truths), "images .* does not exist"),
        ((images, tmp_path / "no"), "labels .* does not exist"),
        ((images, tmp_path / "empty"), "has a label of the same name"),
        ((tmp_path / "empty" / "..", None), "No labels given"),
    ):
        with pytest.raises(DataError, match=words):
            from_folders(*arguments)
    save(images / "a.nii", np.ones(SHAPE, np.int16))
    with pytest.raises(DataError, match="one volume of a name"):
        from_folders(*folders)
