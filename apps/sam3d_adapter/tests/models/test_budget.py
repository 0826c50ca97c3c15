"""What `tiny` may cost, counted in operations so that no noise of a machine decides: requests, as served for CT."""

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from lib.evaluation.evaluated_segmenter import SegmenterChoice
from lib.models.build import build_model
from lib.models.prompts import RoiPrompts
from lib.models.sam3d import RoiEmbedding
from lib.presets import load_preset
from lib.prompts.click import Click
from lib.prompts.prompts import Prompts
from lib.segmenters.roi.prediction import MAX_ENCODES
from lib.volumes.read import open_volume
from tests.support.one_thread import one_thread  # noqa: F401
from tests.support.server import APP_DIR

# Two cores were seen to do 77 GFLOP/s in fp32; a first click may take 1 s there, a further one 0.25 s.
FIRST_GFLOP, FURTHER_GFLOP = 77.0, 0.25 * 77.0
whole_requests = pytest.mark.slow  # each takes several passes with the shipped weights

PRESET = load_preset(APP_DIR / "configs/ct.yaml")
Voxel = tuple[int, int, int]


@dataclass(frozen=True)
class Cost:
    """What one request took."""

    encodes: int
    decodes: int
    gflop: float


class Interaction:
    """Requests for one image, whose clicks grow in number; everything is kept in between, as a server does."""

    def __init__(self, image: Path) -> None:
        self._image = open_volume(image)
        self._segmenter = SegmenterChoice(APP_DIR, PRESET, "cpu", "fp32").preset_segmenter()
        self._clicks: list[Click] = []

    def __call__(self, click: Voxel, *, is_foreground: bool = True) -> Cost:
        self._clicks.append(Click(click, is_foreground))
        with FlopCounterMode(display=False) as counter:
            found = self._segmenter.segment(self._image, Prompts(tuple(self._clicks)), device="cpu")
        return Cost(found.encodes, found.decodes, counter.get_total_flops() / 1e9)


def ball(
    path: Path, *, shape: Voxel, radius: float, spacing_mm: float, second: float = 0.0, noise_hu: float = 18
) -> Path:
    """A ball in the middle, brighter than what is around it by 80 HU; radii in voxels.

    The second one lies 40 voxels from it along i.
    """
    off = [(np.arange(n) - n // 2) ** 2 for n in shape]
    truth = off[0][:, None, None] + off[1][:, None] + off[2] <= radius**2
    truth |= ((np.arange(shape[0]) - shape[0] // 2 - 40) ** 2)[:, None, None] + off[1][:, None] + off[2] < second**2
    noise = np.random.default_rng(0).standard_normal(shape, dtype=np.float32) * noise_hu
    nib.save(nib.Nifti1Image((noise + 80 * truth).astype(np.int16), np.diag([*(spacing_mm,) * 3, 1.0])), path)
    return path


@pytest.fixture
def lesion(tmp_path: Path) -> Interaction:
    """Of 24 mm, seen in one view; clicked on in its middle already, (30, 30, 30)."""
    interaction = Interaction(ball(tmp_path / "lesion.nii", shape=(110, 60, 60), radius=12, spacing_mm=1.0, second=7))
    assert interaction((55, 30, 30)).encodes == 1
    return interaction


@whole_requests
def test_a_first_click_keeps_to_its_budget(tmp_path: Path) -> None:
    """The dearest one: an object that outgrows every view, the widest included, and has surface in several regions."""
    answer = Interaction(ball(tmp_path / "huge.nii", shape=(60, 60, 60), radius=28, spacing_mm=5.0, noise_hu=6))(
        (30, 30, 30)
    )
    views = 1 + len(PRESET.roi.wider_spacings_mm) + 1  # at last one of twice the widest
    # The middle of the surface is looked at in a view that is at hand; two further regions are all that is left.
    assert answer.encodes == views + 2 == MAX_ENCODES - 2
    assert answer.decodes == views + 3
    assert 40 < answer.gflop < FIRST_GFLOP


@whole_requests
@pytest.mark.parametrize("is_foreground", [True, False], ids=["foreground", "background"])
def test_further_clicks_of_one_sign_take_one_decode_each(lesion: Interaction, is_foreground: bool) -> None:
    for click in ((50, 30, 30), (55, 34, 30)):
        answer = lesion(click, is_foreground=is_foreground)
        assert (answer.encodes, answer.decodes) == (0, 1)
        assert 1 < answer.gflop < FURTHER_GFLOP


@whole_requests
def test_a_further_click_beyond_the_first_region_is_in_the_budget_with_its_encode(lesion: Interaction) -> None:
    """It lies on another lesion, which the network is asked first."""
    answer = lesion((95, 30, 30))
    assert (answer.encodes, answer.decodes) == (1, 2)
    assert 5 < answer.gflop < FURTHER_GFLOP


@whole_requests
def test_clicks_of_alternating_sign_take_one_decode_each(lesion: Interaction) -> None:
    """All within reach of one another."""
    near = [(51, 30, 30), (55, 26, 30), (55, 30, 26), (59, 30, 30), (55, 34, 30), (55, 30, 34), (52, 33, 30)]
    for n, click in enumerate(near, start=1):
        answer = lesion(click, is_foreground=n % 2 == 0)
        assert (answer.encodes, answer.decodes) == (0, 1)
        assert 1 < answer.gflop < FURTHER_GFLOP


@pytest.fixture(scope="module")
def passes() -> tuple[RoiEmbedding, float, float]:
    """An embedding, and GFLOP of encoding it and of the dearest decode: both signs, and an answer that they correct."""
    model, side = build_model(PRESET.model.size), PRESET.roi.size
    clicks, signs = torch.full((1, 2, 3), side / 2), torch.tensor([[True, False]])
    prompts = RoiPrompts(clicks, signs, previous=torch.zeros(1, 1, side, side, side))
    with torch.inference_mode():
        with FlopCounterMode(display=False) as encode:
            embedding = model.encode(torch.randn(1, 1, side, side, side))
        with FlopCounterMode(display=False) as decode:
            model.decode(embedding, prompts)
    return embedding, encode.get_total_flops() / 1e9, decode.get_total_flops() / 1e9


def test_passes_leave_room_for_whole_requests(passes: tuple[RoiEmbedding, float, float]) -> None:
    """As many as the requests below were seen to take, which is as many as they may take."""
    _, encode, decode = passes
    assert encode > 1 and decode > 1
    # Each region of a first click is decoded once, and one of them, which two views share, twice.
    assert (MAX_ENCODES - 2) * encode + (MAX_ENCODES - 1) * decode < FIRST_GFLOP
    # In a new region, decoded twice where the click lies far outside the answer.
    assert encode + 2 * decode < FURTHER_GFLOP


def test_an_embedding_of_tiny_is_small(passes: tuple[RoiEmbedding, float, float]) -> None:
    embedding, *_ = passes
    assert embedding.appearance is not None
    assert embedding.nbytes < 32 * 2**20
    assert embedding.nbytes == sum(t.nbytes for t in (embedding.deepest, embedding.prepared, embedding.appearance))
