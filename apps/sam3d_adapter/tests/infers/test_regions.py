"""Boxes, masks to start from and protected segments through the real tasks, with the weights that ship."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from fastapi import HTTPException

from lib.configs.task_config import Sam3dAdapterConfig
from lib.volumes.mask_hash import mask_hash
from tests.support.geometry import make_affine
from tests.support.small_app import copy_small_app

APP = Path(__file__).parents[2]
SHAPE = (80, 76, 60)
AFFINE = make_affine("LPS", (1.0, 1.0, 1.5))
CENTRE, RADII = (38, 40, 30), (14, 11, 10)
BOX = [[24, 29, 20], [52, 51, 40]]


def lesion(centre: tuple[int, int, int] = CENTRE) -> np.ndarray:
    axes = np.ogrid[tuple(slice(n) for n in SHAPE)]
    return np.asarray(sum(((x - c) / r) ** 2 for x, c, r in zip(axes, centre, RADII, strict=True)) <= 1)


def save(array: np.ndarray, path: Path, affine: np.ndarray = AFFINE) -> Path:
    nib.save(nib.Nifti1Image(array, affine), path)
    return path


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


@pytest.fixture(scope="module")
def tasks() -> dict[str, Any]:
    return Sam3dAdapterConfig(APP, {"models": "ct", "precision": "fp32"}).infers()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    app = copy_small_app(tmp_path_factory.mktemp("regions") / "app", ("test", "unet"))
    return Sam3dAdapterConfig(app, {"precision": "fp32"}).infers()


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lesion 40 HU above noisy tissue that a second, equal structure touches."""
    rng = np.random.default_rng(0)
    values = np.where(lesion() | lesion((64, 40, 30)), 80, 40) + rng.normal(0, 15, SHAPE)
    return save(values.astype(np.int16), tmp_path_factory.mktemp("image") / "a.nii")


def ask(tasks: dict[str, Any], image: Path, model: str = "ct", **params: Any) -> tuple[np.ndarray, dict[str, Any]]:
    request = {"model": model, "image": str(image), "device": "cpu", "result_extension": ".nii"}
    file, answer = tasks[model](request | params)
    mask = np.asarray(nib.load(file).dataobj) != 0
    Path(file).unlink()
    return mask, answer


def refusal(tasks: dict[str, Any], image: Path, model: str = "test", **params: Any) -> str:
    with pytest.raises(HTTPException) as caught:
        ask(tasks, image, model, **params)
    assert caught.value.status_code == 422
    return str(caught.value.detail)


@pytest.mark.slow
def test_a_box_tells_a_lesion_from_its_neighbour(tasks: dict[str, Any], image: Path) -> None:
    alone, _ = ask(tasks, image, foreground=[list(CENTRE)])
    boxed, answer = ask(tasks, image, foreground=[list(CENTRE)], box=BOX)
    assert answer["box"] == BOX and answer["implied_click"] is None and answer["warnings"] == []
    assert answer["roi"]["spacing_mm"] == 1.0
    assert dice(boxed, lesion()) > max(0.8, dice(alone, lesion()))
    assert not boxed[56:].any()  # nothing beyond the widened box


def test_a_box_alone_is_answered(tasks: dict[str, Any], image: Path) -> None:
    mask, answer = ask(tasks, image, roi=[52, 24, 29, 51, 20, 40])
    assert answer["clicks"] == [] and answer["implied_click"] == list(CENTRE) and answer["box"] == BOX
    assert "centre [38, 40, 30]" in answer["warnings"][0] and answer["obeyed_by_network"] == []
    assert dice(mask, lesion()) > 0.8
    corrected, answer = ask(tasks, image, box=BOX, background=[[26, 40, 30]])
    assert not corrected[26, 40, 30] and answer["background_clicks"] == [[26, 40, 30]]


@pytest.mark.slow
def test_both_names_and_forms_of_a_box_are_one_request(tasks: dict[str, Any], image: Path) -> None:
    one, first = ask(tasks, image, foreground=[list(CENTRE)], box=BOX)
    two, second = ask(tasks, image, foreground=[list(CENTRE)], roi=[24, 52, 51, 29, 20, 40])
    assert first["mask_hash"] == second["mask_hash"] and (second["encodes"], second["decodes"]) == (0, 0)


@pytest.mark.slow
@pytest.mark.parametrize("order", [(2, 0, 1), (1, 2, 0)])
def test_stored_otherwise_it_is_the_same_box(
    tasks: dict[str, Any], image: Path, tmp_path: Path, order: tuple[int, ...]
) -> None:
    """Axes permuted and the first one flipped, with the box and the click: the same voxels of the patient."""
    loaded = nib.load(image)
    straight, _ = ask(tasks, image, foreground=[list(CENTRE)], box=BOX)
    array = np.asarray(loaded.dataobj).transpose(order)[::-1]
    matrix = np.zeros((4, 4))
    matrix[order, [0, 1, 2]], matrix[3, 3] = 1, 1
    matrix[:3, 3] = matrix[:3, 0] * (array.shape[0] - 1)
    matrix[:3, 0] *= -1
    other = save(np.ascontiguousarray(array), tmp_path / "b.nii", loaded.affine @ matrix)

    def moved(ijk: list[int]) -> list[int]:
        i, j, k = (ijk[axis] for axis in order)
        return [array.shape[0] - 1 - i, j, k]

    turned, _ = ask(tasks, other, foreground=[moved(list(CENTRE))], box=[moved(BOX[0]), moved(BOX[1])])
    assert dice(turned, straight.transpose(order)[::-1]) > 0.999


def test_weights_that_read_no_box_say_so_and_are_bounded_by_it(small: dict[str, Any], image: Path) -> None:
    mask, answer = ask(small, image, "unet", foreground=[list(CENTRE)], box=[[30, 34, 25], [45, 47, 36]])
    assert "do not read boxes" in answer["warnings"][0]
    outside = np.ones(SHAPE, bool)
    outside[28:48, 32:50, 23:39] = False
    assert not mask[outside].any()


def test_correcting_a_wrong_mask_with_one_click(tasks: dict[str, Any], image: Path, tmp_path: Path) -> None:
    """Half of the lesion is missing, something far away was drawn: the click adds the one and keeps the other."""
    wrong = lesion()
    wrong[40:] = False
    wrong[5:9, 5:9, 5:9] = True
    path = save(wrong.astype(np.uint8), tmp_path / "wrong.nii.gz")
    click = [46, 40, 30]
    mask, answer = ask(tasks, image, foreground=[click], start_from="upload", uploaded_label=str(path))
    voxels = int(wrong.sum())
    assert answer["start_mask"] == {"from": "upload", "value": 1, "hash": mask_hash(wrong), "voxels": voxels}
    assert mask[wrong].all() and mask[tuple(click)]
    assert dice(mask, lesion()) > dice(wrong, lesion()) + 0.05
    # A background click alone takes away, from the same mask.
    less, answer = ask(tasks, image, background=[[7, 7, 7]], uploaded_label=str(path))
    assert not less[7, 7, 7] and answer["implied_click"] is not None and wrong[less].all()
    assert less[lesion() & wrong].all()


@pytest.mark.parametrize("said", [pytest.param(said, marks=pytest.mark.slow) for said in ("box", "start", "clicks")])
def test_undo_gives_the_mask_of_before(tasks: dict[str, Any], image: Path, tmp_path: Path, said: str) -> None:
    """And so does starting over, on a server that was just started as well."""
    shifted = lesion((30, 40, 30)).astype(np.uint8)
    start = {"start_from": "upload", "uploaded_label": str(save(shifted, tmp_path / "a.nii"))}
    more: dict[str, Any] = {"box": {"box": BOX}, "start": start, "clicks": {}}[said]
    clicks, background = [list(CENTRE), [46, 40, 30]], [[50, 40, 30]]
    if said == "start":
        clicks, background = [[46, 40, 30], list(CENTRE)], [[20, 40, 30]]
    hashes = [
        ask(tasks, image, foreground=clicks[:n], background=background[: n - 1], **more)[1]["mask_hash"]
        for n in (1, 2, 1)
    ]
    assert hashes[0] == hashes[2] != hashes[1]
    again = Sam3dAdapterConfig(APP, {"models": "ct", "precision": "fp32"}).infers()
    reset = ask(again, image, foreground=clicks[:1], reset_state=True, **more)[1]
    assert reset["mask_hash"] == hashes[0] and reset["encodes"] >= 1


@pytest.mark.slow
def test_another_start_mask_is_another_dialogue(tasks: dict[str, Any], image: Path, tmp_path: Path) -> None:
    """The cache tells them apart by content, whatever the file is called."""
    path = tmp_path / "a.nii"
    answers = []
    for centre in (CENTRE, (30, 40, 30), CENTRE):
        save(lesion(centre).astype(np.uint8), path)
        answers.append(ask(tasks, image, foreground=[[56, 40, 30]], uploaded_label=str(path))[1])
    assert answers[0]["mask_hash"] == answers[2]["mask_hash"] != answers[1]["mask_hash"]
    assert [answer["decodes"] for answer in answers] == [1, 1, 0]


@pytest.mark.slow
def test_protected_voxels_are_not_taken_over(tasks: dict[str, Any], image: Path, tmp_path: Path) -> None:
    free, _ = ask(tasks, image, foreground=[list(CENTRE)])
    other = np.zeros(SHAPE, np.uint8)
    other[44:] = 7
    path = save(other, tmp_path / "other.nii")
    mask, answer = ask(tasks, image, foreground=[list(CENTRE)], protected="upload", uploaded_label=str(path))
    assert answer["start_mask"] is None and answer["protected"]["except"] == 0
    np.testing.assert_array_equal(mask, free & (other == 0))
    kept, _ = ask(
        tasks, image, foreground=[list(CENTRE)], protected="upload", protected_except=7, uploaded_label=str(path)
    )
    np.testing.assert_array_equal(kept, free)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "click outside": ({"foreground": [[60, 40, 30]], "box": BOX}, "Foreground click [60, 40, 30] lies outside the box"),
    "flat": ({"foreground": [[38, 40, 30]], "box": [[24, 29, 30], [52, 51, 30]]}, "without extent along k"),
    "outside": ({"box": [[90, 29, 20], [99, 51, 40]]}, "outside the image of 80 x 76 x 60"),
    "words": ({"foreground": [[38, 40, 30]], "roi": "all"}, "two opposite corner voxels"),
    "mm": ({"roi": [1.5, 2, 3, 4, 5, 6]}, "no whole number"),
    "two boxes": ({"box": BOX, "roi": [1, 2, 3, 4, 5, 6]}, "Different boxes"),
    "deep": ({"box": [[[[[[1]]]]]]}, "nested too deeply"),
    "centre is background": ({"box": BOX, "background": [[38, 40, 30]]}, "is a background click"),
    "no start": ({"foreground": [[38, 40, 30]], "start_from": "upload"}, "No mask came with the request"),
    "no saved": ({"foreground": [[38, 40, 30]], "start_from": "label"}, "no saved label"),
    "source": ({"foreground": [[38, 40, 30]], "start_from": "disk"}, "choose from: none, label, upload"),
    "value": ({"foreground": [[38, 40, 30]], "start_value": 0}, "a whole number from 1"),
    "value as text": ({"foreground": [[38, 40, 30]], "protected_except": "a"}, "a whole number from 0"),
    "tag": ({"foreground": [[38, 40, 30]], "read_tag": 3}, "tag of a saved label"),
}


@pytest.mark.parametrize("case", BAD)
def test_refusals(small: dict[str, Any], image: Path, case: str) -> None:
    params, words = BAD[case]
    assert words in refusal(small, image, "unet", **params)


def test_a_start_mask_without_a_click_is_refused(small: dict[str, Any], image: Path, tmp_path: Path) -> None:
    path = save(lesion().astype(np.uint8), tmp_path / "a.nii")
    assert "at least one click" in refusal(small, image, "unet", uploaded_label=str(path))
    far = AFFINE.copy()
    far[:3, 3] += 400
    path = save(lesion().astype(np.uint8), tmp_path / "b.nii", far)
    words = "belongs to another image"
    assert words in refusal(small, image, "unet", foreground=[list(CENTRE)], uploaded_label=str(path))
    # Weights of the published kind read no earlier mask.
    _, answer = ask(small, image, "test", foreground=[list(CENTRE)], uploaded_label=str(path))
    assert answer["start_mask"] is None and "read no earlier mask" in answer["warnings"][0]
