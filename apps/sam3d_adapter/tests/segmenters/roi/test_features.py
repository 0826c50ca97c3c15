"""Features of whole images: from where, and that they are of the body and not of how its image is stored."""

from pathlib import Path

import numpy as np
import pytest

from lib.presets import load_preset
from lib.segmenters.intensity_settings import WindowIntensity
from lib.segmenters.roi.features import middle_of_body, region_of_image
from lib.serving.preset_segmenter import OpenSegmenter, PresetSegmenter, SharedState
from lib.volumes.volume import Volume, make_volume
from tests.support.one_thread import one_thread  # noqa: F401
from tests.support.server import APP_DIR
from tests.support.small_app import copy_small_app

WINDOW = WindowIntensity((-160, 240), 40, 60)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_small_app(tmp_path_factory.mktemp("features") / "app", ("test", "unet"))


def opened(app: Path, name: str) -> OpenSegmenter:
    return PresetSegmenter(load_preset(app / f"configs/{name}.yaml"), app, SharedState.of(precision="fp32")).open("cpu")


def body(value: int, shape: tuple[int, int, int] = (30, 26, 22)) -> np.ndarray:
    """A block in air, with a grain."""
    voxels = np.full(shape, -1000, np.int16)
    grain = np.random.default_rng(0).normal(value, 20, (12, 12, 12))
    voxels[10:22, 4:16, 6:18] = grain
    return voxels


def features(app: Path, voxels: np.ndarray, affine: np.ndarray | None = None, name: str = "test") -> np.ndarray | None:
    return opened(app, name).features(make_volume(voxels, np.eye(4) if affine is None else affine, "image"))


def test_images_that_differ_more_are_farther_apart(app: Path) -> None:
    found = [features(app, body(value)) for value in (40, 45, 200)]
    near, far = (np.abs(found[0] - other).mean() for other in found[1:])
    assert found[0].dtype == np.float32 and found[0].ndim == 1 and 0 < near < far / 3
    assert np.array_equal(found[0], features(app, body(40)))


def test_they_do_not_depend_on_how_the_axes_are_stored(app: Path) -> None:
    voxels = body(60)
    affine = np.diag([-1.0, 1.0, 1.0, 1.0])
    affine[0, 3] = voxels.shape[0] - 1
    assert np.allclose(features(app, voxels), features(app, voxels[::-1].copy(), affine), atol=1e-4)


def test_a_network_without_an_encoder_of_its_own_has_none(app: Path) -> None:
    assert features(app, body(40), name="unet") is None


def test_the_middle_is_that_of_the_body() -> None:
    assert middle_of_body(make_volume(body(40), np.eye(4), "image"), WINDOW).tolist() == [15.5, 9.5, 11.5]
    wide = make_volume(np.repeat(body(40), 10, axis=0), np.eye(4), "image")
    assert abs(middle_of_body(wide, WINDOW)[0] - 159.5) <= 4, "it is sampled"
    air = make_volume(np.full((9, 5, 3), -1000, np.int16), np.eye(4), "image")
    assert middle_of_body(air, WINDOW).tolist() == [4, 2, 1]


@pytest.mark.parametrize(("length_mm", "spacing_mm"), [(40, 1), (100, 2), (300, 8), (900, 8)])
def test_the_zoom_level_is_the_finest_that_holds_the_image(length_mm: float, spacing_mm: float) -> None:
    settings = load_preset(APP_DIR / "configs/ct.yaml").settings
    image = make_volume(body(40, (30, 40, 30)), np.diag([1, length_mm / 40, 1, 1]), "image")
    assert region_of_image(image, WINDOW, settings).spacing_mm == spacing_mm


def test_volume_is_left_as_it_was(app: Path) -> None:
    image: Volume = make_volume(body(40), np.eye(4), "image")
    before = image.voxels.clone()
    opened(app, "test").features(image)
    assert image.voxels.equal(before)
