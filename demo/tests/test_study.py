from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from demo.study import DemoError, check_inside, deepest_voxel, dice, parse_click, user_study

AFFINE = np.diag([-0.8, 0.8, 3.0, 1.0])
SHAPE = (20, 18, 9)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / "images"
    folder.mkdir(parents=True)
    values = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
    nib.save(nib.Nifti1Image(values, AFFINE), folder / "case_1.nii.gz")
    return folder


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    folder = tmp_path / "copy"
    folder.mkdir()
    return folder


def add_label(images: Path, values: np.ndarray, place: str = "../labels", affine: np.ndarray = AFFINE) -> None:
    folder = images / place
    folder.mkdir(parents=True)
    nib.save(nib.Nifti1Image(values, affine), folder / "case_1.nii.gz")


def two_structures() -> np.ndarray:
    values = np.zeros(SHAPE, np.uint8)
    values[3:8, 3:8, 2:7] = 1
    values[14:16, 14:16, 4:6] = 2
    return values


@pytest.mark.parametrize("image", [None, "case_1", "case_1.nii.gz"])
def test_the_volume_is_copied_and_nothing_is_written_beside_it(images: Path, copy: Path, image: str | None) -> None:
    study = user_study(copy, images, image, (4, 5, 6))
    assert study.image_id == "case_1"
    assert study.truth is None
    assert study.image[4, 5, 6] == np.ravel_multi_index((4, 5, 6), SHAPE)
    assert (copy / "case_1.nii.gz").read_bytes() == (images / "case_1.nii.gz").read_bytes()
    assert [path.name for path in images.iterdir()] == ["case_1.nii.gz"]


@pytest.mark.parametrize("place", ["labels", "labels/final", "../labels"])
def test_the_truth_is_the_structure_under_the_click(images: Path, copy: Path, place: str) -> None:
    add_label(images, two_structures(), place)
    study = user_study(copy, images, None, (15, 15, 5))
    assert study.truth is not None
    assert study.truth.sum() == 8


def test_without_click_the_depth_of_the_label_is_clicked(images: Path, copy: Path) -> None:
    add_label(images, two_structures())
    study = user_study(copy, images, None, None)
    assert study.click == (5, 5, 4)
    assert study.truth is not None and study.truth.sum() == 125


def test_a_click_beside_the_label_has_no_truth(images: Path, copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add_label(images, two_structures())
    assert user_study(copy, images, None, (0, 0, 0)).truth is None
    assert "no Dice" in capsys.readouterr().out


def test_an_image_without_a_position_lies_where_viewers_put_it(images: Path, copy: Path) -> None:
    image = nib.Nifti1Image(np.zeros(SHAPE, np.int16), None)
    image.header.set_zooms((0.8, 0.8, 3.0))
    nib.save(image, images / "case_1.nii.gz")
    add_label(images, two_structures(), affine=nib.load(images / "case_1.nii.gz").affine)
    study = user_study(copy, images, None, None)
    assert study.truth is not None and study.truth.sum() == 125
    np.testing.assert_allclose(study.affine, np.diag([-0.8, -0.8, 3.0, 1.0]), atol=1e-6)


def test_a_label_on_another_grid_is_refused(images: Path, copy: Path) -> None:
    add_label(images, two_structures(), affine=np.diag([0.8, 0.8, 3.0, 1.0]))
    with pytest.raises(DemoError, match="grid"):
        user_study(copy, images, None, (4, 5, 6))


@pytest.mark.parametrize(
    ("image", "click", "words"),
    [("case_2", (1, 1, 1), "case_1"), (None, (20, 0, 0), r"\(19, 17, 8\)"), (None, None, "CLICK=i,j,k")],
)
def test_errors_say_what_to_give(
    images: Path, copy: Path, image: str | None, click: tuple[int, int, int] | None, words: str
) -> None:
    with pytest.raises(DemoError, match=words):
        user_study(copy, images, image, click)


def test_one_of_several_volumes_has_to_be_named(images: Path, copy: Path) -> None:
    (images / "case_2.nii").write_bytes(b"")
    with pytest.raises(DemoError, match="IMAGE=, one of: case_1, case_2"):
        user_study(copy, images, None, (0, 0, 0))


@pytest.mark.parametrize(
    ("name", "content"), [("broken.nii.gz", b"no gzip"), ("broken.nii", b""), ("cut.nii.gz", None)]
)
def test_a_broken_file_is_named(images: Path, copy: Path, name: str, content: bytes | None) -> None:
    whole = (images / "case_1.nii.gz").read_bytes()
    (images / name).write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(DemoError, match=name):
        user_study(copy, images, name, (0, 0, 0))


def test_a_volume_in_time_is_refused(images: Path, copy: Path) -> None:
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4, 2), np.int16), AFFINE), images / "film.nii.gz")
    with pytest.raises(DemoError, match="three axes"):
        user_study(copy, images, "film", (0, 0, 0))


def test_a_click_is_three_whole_numbers() -> None:
    assert parse_click("1, 2,3") == (1, 2, 3)
    for text in ("1,2", "1,2,3,4", "a,b,c", "1.5,2,3", ""):
        with pytest.raises(DemoError, match="whole numbers"):
            parse_click(text)


def test_the_edge_is_inside_and_one_further_is_not() -> None:
    check_inside((19, 17, 8), SHAPE)
    for outside in ((20, 0, 0), (0, 18, 0), (0, 0, 9), (-1, 0, 0)):
        with pytest.raises(DemoError, match="outside"):
            check_inside(outside, SHAPE)


def test_depth_is_measured_in_mm() -> None:
    mask = np.zeros((30, 30, 10), bool)
    mask[0:5, 0:30, 0:9] = True  # 4 mm thick along i
    mask[10:30, 10:19, 2:7] = True  # 15 mm along k, 7.2 mm along j: the deepest is here
    i, j, k = deepest_voxel(mask, AFFINE)
    assert 14 <= i <= 25 and j == 14 and 3 <= k <= 5


def test_a_mask_that_fills_the_image_is_deepest_in_its_middle() -> None:
    assert deepest_voxel(np.ones((5, 5, 5), bool), np.eye(4)) == (2, 2, 2)


def test_dice() -> None:
    mask = np.array([True, True, False, False])
    assert dice(mask, mask) == 1
    assert dice(mask, ~mask) == 0
    assert dice(mask, np.array([True, False, False, False])) == pytest.approx(2 / 3)
    assert dice(~mask & mask, ~mask & mask) == 1
