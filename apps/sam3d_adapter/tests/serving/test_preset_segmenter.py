"""What holds for the answers of every network: limits, versions, and refusals that say what to do."""

import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lib.cli.convert import convert
from lib.models.checkpoint import file_sha256
from lib.presets import Preset, load_preset
from lib.prompts.box import Box
from lib.prompts.click import Click
from lib.prompts.mask import MaskPrompt
from lib.prompts.prompt import Prompt
from lib.prompts.prompts import Prompts
from lib.registry.registry import Registry
from lib.registry.version import Facts
from lib.segmenters.contract import Options, Stages
from lib.serving.devices import DeviceError
from lib.serving.preset_segmenter import (
    BOX_TOLERANCE,
    MissingWeightsError,
    PresetSegmenter,
    SharedState,
    how_to_supply,
    limit_mask,
)
from lib.volumes.volume import make_volume
from tests.support.geometry import make_affine
from tests.support.small_app import copy_small_app
from tests.support.trained import write_trained

CONFIGS = Path(__file__).parents[2] / "configs"
SHAPE = (60, 50, 40)
GRID = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1)
AFFINE = make_affine("PIR", (0.9, 1.0, 1.2), (20, -12, 15))


def ball(centre: tuple[int, int, int], radius: float) -> np.ndarray:
    return np.asarray(((GRID - np.array(centre)) ** 2).sum(-1) <= radius**2)


BODY = ball((25, 25, 20), 12)
LEAK = ball((38, 25, 20), 6)


def limited(answer: np.ndarray, *prompts: Prompt, protected: np.ndarray | None = None) -> np.ndarray:
    mask = np.asfortranarray(answer.astype(np.uint8))
    limit_mask(mask, Prompts(prompts), protected)
    return mask


def test_the_box_bounds_what_is_added() -> None:
    box = Box((20, 20, 15), (39, 29, 24))
    inside = np.zeros(SHAPE, bool)
    inside[18:42, 19:31, 14:26] = True  # 10 % of 20, 10 and 10
    assert BOX_TOLERANCE == 0.1
    np.testing.assert_array_equal(limited(np.ones(SHAPE), box), inside)
    np.testing.assert_array_equal(limited(np.ones(SHAPE), box, MaskPrompt(BODY, "upload", 1, "h")), inside | BODY)


def test_without_anything_it_does_nothing() -> None:
    np.testing.assert_array_equal(limited(BODY, Click((25, 25, 20)), Click((26, 25, 20), False)), BODY)


def test_protected_voxels_are_left_out_whatever_else_was_said() -> None:
    protected = ball((30, 25, 20), 4)
    start, box = MaskPrompt(BODY, "upload", 1, "hash"), Box((10, 10, 5), (45, 45, 35))
    found = limited(BODY | LEAK, Click((40, 25, 20)), start, box, protected=protected) != 0
    assert not (found & protected).any()
    assert found[BODY & ~protected].all() and found[40, 25, 20]


def test_a_background_click_outside_the_box_and_on_the_start_mask_is_obeyed() -> None:
    click = Click((25, 25, 20), False)
    found = limited(BODY, click, MaskPrompt(BODY, "label", 1, "h"), Box((40, 40, 30), (50, 48, 38)))
    assert not found[click.ijk] and found.sum() == BODY.sum() - 1


def test_a_foreground_click_keeps_the_value_of_its_label() -> None:
    box, inside, outside = Box((10, 10, 5), (45, 45, 35)), Click((25, 25, 20)), Click((50, 48, 38))
    found = limited(BODY * 2, inside, outside, box)
    assert (found[inside.ijk], found[outside.ijk]) == (2, 1)
    assert set(np.unique(found)) == {0, 1, 2}


APP = Path("/srv/secret/app")
FILES = [APP / "model/sam_vit_b.safetensors", APP / "model/kits.safetensors"]
KITS, CT = load_preset(CONFIGS / "kits.yaml"), load_preset(CONFIGS / "ct.yaml")


def test_names_place_command_address_and_checksum_and_hides_the_servers_folders() -> None:
    text = how_to_supply(KITS, FILES, APP)
    for part in (
        "'kits'",
        "model/sam_vit_b.safetensors, model/kits.safetensors",
        "https://dl.fbaipublicfiles.com/segment_anything/sam_vit_b_01ec64.pth",
        "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
        "3DSAM-adapter checkpoint",
    ):
        assert part in text
    assert "secret" not in text


def test_the_command_it_names_exists() -> None:
    python, module, name, command, *arguments = shlex.split(how_to_supply(KITS, FILES, APP).split("'")[3])
    assert (python, module, name, command) == ("python", "-m", "sam3d", convert.name)
    options = convert.make_context(command, arguments).params
    assert (options["preset"], options["checkpoint"]) == ("kits", Path("last.pth.tar"))


def of_size(preset: Preset, size: str) -> Preset:
    return replace(preset, model=replace(preset.model, size=size))


def test_larger_sizes_start_from_their_own_sam_file() -> None:
    text = how_to_supply(of_size(KITS, "vit_h"), [APP / "model/organ.safetensors"], APP)
    assert "sam_vit_h_4b8939.pth" in text


def test_shipped_files_come_from_the_repository() -> None:
    text = how_to_supply(CT, [APP / "weights/tiny_base.safetensors"], APP)
    assert "repository" in text and "sam3d convert" not in text


def test_size_without_sam_file_names_no_command() -> None:
    text = how_to_supply(CT, [APP / "model/own.safetensors"], APP)
    assert "model/own.safetensors" in text and "sam3d convert" not in text


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_small_app(tmp_path_factory.mktemp("segmenter") / "app", ("test", "unet"))


IMAGE = make_volume(
    np.where(BODY, 80, 40).astype(np.int16) + np.random.default_rng(0).integers(-9, 9, SHAPE, np.int16), AFFINE, "image"
)
CLICK = Click((25, 25, 20))


def segmenter(app: Path, name: str = "test", **more) -> PresetSegmenter:
    return PresetSegmenter(load_preset(app / f"configs/{name}.yaml"), app, SharedState.of(precision="fp32"), **more)


@pytest.mark.parametrize("name", ["test", "unet"])
def test_any_family_answers_within_the_limits(app: Path, name: str) -> None:
    made = segmenter(app, name)
    box, protected, stages = Box((15, 15, 10), (36, 36, 30)), ball((32, 25, 20), 3), Stages()
    assert made.shared.cache.stats().misses == 0  # nothing was read or computed yet
    served = made.open("cpu")
    assert served.version == "shipped" and served.model_version == file_sha256(made.spec.weights)
    free = served.segment(IMAGE, Prompts((CLICK,)), Options(threshold=0.3))
    assert free.mask.dtype == np.uint8 and free.mask.shape == SHAPE and free.mask[CLICK.ijk]
    assert free.labels == {"lesion": 1} and len(free.obeyed or ()) == 1
    found = served.segment(IMAGE, Prompts((CLICK, box)), Options(threshold=0.3), protected=protected, stages=stages)
    assert found.mask[CLICK.ijk] and not found.mask[protected].any()
    assert not found.mask[:10].any() and not found.mask[:, :, 36:].any()
    assert stages.milliseconds()["paste"] > 0
    again = made.segment(IMAGE, Prompts((CLICK,)), Options(threshold=0.3), device="cpu")
    np.testing.assert_array_equal(again.mask, free.mask)


def test_an_open_segmenter_keeps_its_version(app: Path, tmp_path: Path) -> None:
    versions = Registry(tmp_path / "learning").of("test", "test")
    made = segmenter(app, versions=versions)
    shipped = made.open("cpu")
    trained = write_trained(made.spec.files[0], tmp_path / "trained.safetensors", seed=3)
    version = versions.add(trained, Facts("me")).id
    before = shipped.segment(IMAGE, Prompts((CLICK,)))
    versions.publish(version, "me")
    published = made.open("cpu")
    assert (published.version, published.model_version) == (version, file_sha256(trained))
    assert published.warnings == shipped.warnings == ()
    np.testing.assert_array_equal(shipped.segment(IMAGE, Prompts((CLICK,))).mask, before.mask)
    # What could not be served is said with every answer.
    versions.weights(version).write_bytes(b"torn")
    spoiled = segmenter(app, versions=versions).open("cpu")
    assert spoiled.version == "shipped"
    (warning,) = spoiled.segment(IMAGE, Prompts((CLICK,))).warnings
    assert "shipped answered instead" in warning


def test_what_cannot_be_opened(app: Path, tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="choose from"):
        segmenter(app).open("tpu")
    bare = PresetSegmenter(load_preset(app / "configs/test.yaml"), tmp_path, SharedState.of())
    with pytest.raises(MissingWeightsError, match="'test' has no weights.*part of this app's repository"):
        bare.open("cpu")
