"""What the network is shown as a foreground click where the user set none."""

from pathlib import Path

import numpy as np
import pytest

from lib.answer_warnings import code_of
from lib.presets import load_preset
from lib.prompts.box import Box
from lib.prompts.click import Click
from lib.prompts.mask import MaskPrompt
from lib.prompts.prompt import Prompt
from lib.prompts.prompts import Prompts
from lib.prompts.reading import BoxError, ClickError, PromptError
from lib.segmenters.contract import Segmentation
from lib.segmenters.roi.pseudo_click import centre_of_box, deepest
from lib.serving.preset_segmenter import OpenSegmenter, PresetSegmenter, SharedState
from lib.volumes.volume import make_volume
from tests.support.geometry import make_affine
from tests.support.small_app import copy_small_app

SHAPE = (40, 36, 30)
AFFINE = make_affine("LPS", (0.8, 0.9, 1.5), (10, 5, -8))
IMAGE = make_volume(np.random.default_rng(0).normal(40, 60, SHAPE).astype(np.int16), AFFINE, "image")
FOREGROUND, BACKGROUND = Click((20, 18, 15)), Click((30, 18, 15), False)
BOX = Box((10, 10, 8), (31, 25, 21))


def start() -> MaskPrompt:
    mask = np.zeros(SHAPE, bool)
    mask[10:32, 10:26, 8:22] = True
    return MaskPrompt(mask, "upload", 2, "hash")


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_small_app(tmp_path_factory.mktemp("pseudo") / "app", ("test", "unet"))


@pytest.fixture(scope="module")
def unet(app: Path) -> OpenSegmenter:
    return opened(app, "unet")


def opened(app: Path, name: str) -> OpenSegmenter:
    shared = SharedState.of(precision="fp32")
    return PresetSegmenter(load_preset(app / f"configs/{name}.yaml"), app, shared).open("cpu")


def segment(segmenter: OpenSegmenter, *prompts: Prompt) -> Segmentation:
    return segmenter.segment(IMAGE, Prompts(prompts))


def test_background_clicks_alone_imply_a_place_in_the_mask(unet: OpenSegmenter) -> None:
    found = segment(unet, BACKGROUND, start())
    place = found.pseudo_click
    assert place is not None and place.is_foreground and place.ijk != BACKGROUND.ijk
    assert start().mask[place.ijk] and str(list(place.ijk)) in found.warnings[0]
    assert len(found.obeyed or ()) == 1  # of the user's click alone
    assert segment(unet, FOREGROUND, BACKGROUND, start()).pseudo_click is None


def test_a_box_alone_implies_its_centre(unet: OpenSegmenter) -> None:
    found = segment(unet, BACKGROUND, BOX)
    assert found.pseudo_click == Click((20, 17, 14))
    assert [code_of(text) for text in found.warnings] == ["box-not-read", "pseudo-click"]
    # The place in the mask comes before the centre of the box.
    both = segment(unet, BACKGROUND, BOX, start())
    assert both.pseudo_click == segment(unet, BACKGROUND, start()).pseudo_click
    assert segment(unet, FOREGROUND, BOX).pseudo_click is None


def test_what_cannot_be_used_together(app: Path, unet: OpenSegmenter) -> None:
    mask = np.zeros(SHAPE, bool)
    mask[2:6, 2:6, 2:6] = True
    far = MaskPrompt(mask, "upload", 5, "hash")  # a quarter of the region's side of 32 mm is as far as it may be
    for prompts, kind, words in (
        ((), ClickError, "A foreground click, a box or a mask is needed"),
        ((BACKGROUND,), ClickError, "A foreground click, a box or a mask is needed"),
        ((start(),), PromptError, "at least one click that corrects it"),
        ((Click((0, 0, 29), False), far), PromptError, "more than 8 mm from the mask"),
        ((Click((9, 18, 15)), BOX), BoxError, r"\[9, 18, 15\] lies outside the box"),
        ((Click((20, 17, 14), False), BOX), BoxError, "is a background click"),
    ):
        with pytest.raises(kind, match=words):
            segment(unet, *prompts)
    # Weights of the published kind read no earlier mask.
    with pytest.raises(PromptError, match="read no earlier mask"):
        segment(opened(app, "test"), FOREGROUND, start())


def test_the_centre_of_a_box() -> None:
    assert centre_of_box(BOX, [BACKGROUND]) == Click((20, 17, 14))
    with pytest.raises(BoxError, match="Click on the structure"):
        centre_of_box(BOX, [Click((20, 17, 14), False)])


def test_the_deepest_place_by_hand() -> None:
    mask = np.zeros((40, 40, 40), bool)
    mask[5:16, 10:21, 10:21] = True
    assert deepest(mask, np.eye(4), (Click((20, 15, 15), False),), 20).ijk == (10, 15, 15)
    # A background click in the very middle leaves the middles of what is around it.
    found = deepest(mask, np.eye(4), (Click((10, 15, 15), False),), 20)
    assert mask[found.ijk] and np.linalg.norm(np.array(found.ijk) - [10, 15, 15]) >= 2
    assert deepest(mask, np.eye(4), (Click((39, 39, 39), False),), 10) is None
