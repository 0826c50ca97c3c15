"""What a click costs in things that can be counted on any machine: passes, voxels, copies, look-ups."""

import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import Tensor

from lib.configs.task_config import Sam3dAdapterConfig
from lib.geometry.roi import Roi
from lib.segmenters.roi import prediction
from lib.volumes import read as load_volume
from tests.support.small_app import copy_small_app

SHAPE = (160, 150, 100)
VOXELS = int(np.prod(SHAPE))
ROI_VOXELS = 32**3
FIRST, SECOND, THIRD = [80, 75, 50], [84, 73, 52], [77, 79, 47]
FAR = [30, 30, 20]  # outside the ROI of the first click

# Clicks of each request, and how often each family then encodes and decodes: what earlier clicks changed is kept.
INTERACTION: list[tuple[str, list[list[int]], tuple[int, int], tuple[int, int]]] = [
    ("first click", [FIRST], (1, 1), (1, 1)),
    ("second click", [FIRST, SECOND], (0, 1), (0, 1)),
    ("third click", [FIRST, SECOND, THIRD], (0, 1), (0, 1)),
    ("third click removed", [FIRST, SECOND], (0, 0), (0, 0)),
    ("all removed, clicked elsewhere", [FAR], (1, 1), (1, 1)),
    ("back at the first structure", [FIRST], (0, 0), (0, 0)),
]


class Counted:
    """The tasks, and counts of what the last request did."""

    def __init__(self, app: Path) -> None:
        config = Sam3dAdapterConfig(app, {"precision": "fp32"})
        self._tasks = config.infers()
        self.shared = config._shared
        self.reads = self.resampled = 0

    def ask(self, model: str, image: Path, foreground: list[list[int]], **more: Any) -> dict[str, Any]:
        """The answer; the counts start at 0."""
        self.reads = self.resampled = 0
        request = {"model": model, "image": str(image), "device": "cpu", "foreground": foreground, **more}
        file, answer = self._tasks[model](request)
        assert file is not None
        Path(file).unlink()
        return answer


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_small_app(tmp_path_factory.mktemp("counts") / "app", ("test", "unet"))


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    values = np.random.default_rng(0).normal(40, 60, SHAPE).astype(np.int16)
    path = tmp_path_factory.mktemp("image") / "a.nii"
    nib.save(nib.Nifti1Image(values, np.diag([0.9, 0.9, 1.2, 1.0])), path)
    return path


@pytest.fixture
def counted(app: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Counted]:
    tasks = Counted(app)
    read, cut = load_volume.read_volume, prediction.resample_roi

    def counting_read(path: Path) -> Any:
        tasks.reads += 1
        return read(path)

    def counting_cut(voxels: Tensor, roi: Roi) -> tuple[Tensor, Tensor]:
        values, inside = cut(voxels, roi)
        tasks.resampled += values.numel()
        return values, inside

    monkeypatch.setattr(load_volume, "read_volume", counting_read)
    monkeypatch.setattr(prediction, "resample_roi", counting_cut)
    yield tasks


@pytest.mark.parametrize("family", [0, 1], ids=["test", "unet"])
def test_passes_and_voxels_of_an_interaction(counted: Counted, image: Path, family: int) -> None:
    model = ("test", "unet")[family]
    for rank, (what, clicks, *costs) in enumerate(INTERACTION):
        answer = counted.ask(model, image, clicks)
        encodes, decodes = costs[family]
        assert (answer["encodes"], answer["decodes"]) == (encodes, decodes), what
        assert counted.resampled == encodes * ROI_VOXELS, what
        assert counted.reads == (rank == 0), what


def test_another_task_reads_and_hashes_nothing_again(counted: Counted, image: Path) -> None:
    counted.ask("test", image, [FIRST])
    answer = counted.ask("unet", image, [FIRST])
    assert counted.reads == 0 and answer["encodes"] == 1


def test_a_copy_under_another_name_costs_its_reading_alone(counted: Counted, image: Path, tmp_path: Path) -> None:
    counted.ask("test", image, [FIRST])
    upload = tmp_path / "post_from_mitk.nii"
    upload.write_bytes(image.read_bytes())
    answer = counted.ask("test", upload, [FIRST, SECOND])
    assert (counted.reads, counted.resampled, answer["encodes"]) == (1, 0, 0)
    assert counted.shared.volumes.nbytes == 2 * VOXELS  # int16, once


def allocated_by_a_further_click(counted: Counted, model: str, image: Path, shape: tuple[int, int, int]) -> list[int]:
    """Bytes: all that torch ever took; the most that Python and NumPy held at a time."""
    i, j, k = (length // 2 for length in shape)
    counted.ask(model, image, [[i, j, k]], result_extension=".nii")
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        tracemalloc.start()
        counted.ask(model, image, [[i, j, k], [i + 3, j - 2, k + 2]], result_extension=".nii")
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return [sum(max(event.self_cpu_memory_usage, 0) for event in profile.events() or ()), most]


@pytest.mark.parametrize("model", ["test", "unet"])
def test_a_further_click_never_copies_the_image(counted: Counted, image: Path, tmp_path: Path, model: str) -> None:
    corner = (60, 60, 50)
    small = tmp_path / "small.nii"
    nib.save(nib.load(image).slicer[: corner[0], : corner[1], : corner[2]], small)
    torch_small, _ = allocated_by_a_further_click(counted, model, small, corner)
    torch_large, most = allocated_by_a_further_click(counted, model, image, SHAPE)
    # What the network takes does not depend on the image; one copy of it, in its own type, would be 2 bytes a voxel.
    assert torch_large - torch_small < VOXELS
    # The mask, one byte a voxel, and two copies of it that MONAI Label's writer makes; a copy of the image, two bytes a
    # voxel, would be seen.
    assert VOXELS < most < 3.5 * VOXELS, most / VOXELS
