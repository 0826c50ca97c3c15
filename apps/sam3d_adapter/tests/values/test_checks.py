"""Values that are not what a preset expects, on phantoms made here."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lib.answer_warnings import CODES, answer_warning, code_of
from lib.phantoms.phantom import make_phantom
from lib.presets import Preset, load_presets
from lib.prompts.box import Box
from lib.prompts.click import Click
from lib.prompts.prompts import Prompts
from lib.segmenters.contract import Segmentation
from lib.values.checks import mask_warnings, value_warnings
from lib.values.image_values import image_values
from lib.volumes.volume import ImageError, Volume, make_volume

PRESETS = load_presets(Path(__file__).parents[2] / "configs")
PHANTOM = make_phantom(3)
CT = PHANTOM.image.astype(np.int16)
CLICK = tuple(int(part) for part in np.argwhere(PHANTOM.labels == 1)[0])


def crop(array: np.ndarray, around: tuple[int, ...] = CLICK, half: int = 12) -> np.ndarray:
    return array[tuple(slice(max(0, at - half), at + half) for at in around)]


def mr(scale: float = 4.0) -> np.ndarray:
    """Positive magnitudes, no unit: dark air, bright tissue, no voxel below 0."""
    rng = np.random.default_rng(5)
    tissue = np.clip(CT.astype(np.float32) + 250, 0, 700)
    return (np.abs(tissue + rng.normal(0, 12, CT.shape)) * scale).astype(np.int16)


def pet() -> np.ndarray:
    """Bq/ml: a warm body, hot lesions."""
    rng = np.random.default_rng(6)
    activity = np.where(CT > -400, 900.0, 20.0) + 9000.0 * (PHANTOM.labels > 0)
    return (activity * rng.gamma(20, 0.05, CT.shape)).astype(np.float32)


def volume(array: np.ndarray) -> Volume:
    return make_volume(np.asfortranarray(array), np.asarray(PHANTOM.affine), "image")


def said(preset: str, array: np.ndarray, click: tuple[int, ...] = CLICK, source: str | None = None) -> list[str]:
    return value_warnings(PRESETS[preset], volume(array), Prompts((Click(click),)), source)


def codes(preset: str, array: np.ndarray, click: tuple[int, ...] = CLICK, source: str | None = None) -> set[str]:
    return set(map(code_of, said(preset, array, click, source)))


@pytest.mark.parametrize("preset", ["ct", "ct_lesion", "kits", "colon"])
def test_a_ct_in_hu_is_taken_without_a_word(preset: str) -> None:
    assert said(preset, CT, source="CT") == []
    middle = tuple(length // 2 for length in crop(CT).shape)
    assert said(preset, crop(CT), middle) == []


def test_other_modalities_are_taken_by_their_presets_without_a_word() -> None:
    assert said("mr", mr(), source="MR") == [] and said("pet", pet(), source="PET") == []
    # Without a unit no scale is wrong.
    assert said("mr", (mr() / 4096.0).astype(np.float32)) == []


NOT_HU: dict[str, tuple[Callable[[np.ndarray], np.ndarray], str]] = {
    "shifted": (lambda ct: (np.maximum(ct, -1024) + 1024).astype(np.int32), "HU + 1024"),
    "shifted, with padding": (lambda ct: np.where(ct < -950, -976, ct + 1024).astype(np.int16), "HU + 1024"),
    "shifted twice": (lambda ct: (ct - 1024).astype(np.int16), "RescaleIntercept"),
    "0 to 1": (lambda ct: ((ct - ct.min()) / np.ptp(ct.astype(np.float32))).astype(np.float32), "small range"),
    "0 to 255": (lambda ct: ((ct - ct.min()) / np.ptp(ct.astype(np.float32)) * 255).astype(np.float32), "255"),
    "z-score": (lambda ct: ((ct - ct.mean()) / ct.std()).astype(np.float32), "z-scores"),
    "inverted": (lambda ct: (1000 - ct).astype(np.int16), "another modality"),
}


@pytest.mark.parametrize("name", NOT_HU)
def test_a_ct_that_is_not_in_hu_is_said_with_values_found_and_expected(name: str) -> None:
    change, guess = NOT_HU[name]
    changed = change(CT)
    (first, *_) = said("ct", changed)
    assert code_of(first) == "not-hu" and guess in first
    assert "Hounsfield units (air -1000" in first and f"from {changed.min():g} to {changed.max():g}" in first


@pytest.mark.parametrize("preset", ["ct", "kits"])
def test_other_modalities_are_not_a_ct(preset: str) -> None:
    assert "not-hu" in codes(preset, mr()) and "not-hu" in codes(preset, pet())


@pytest.mark.parametrize("preset", ["mr", "pet"])
def test_a_ct_is_no_image_without_a_unit(preset: str) -> None:
    assert codes(preset, CT) == {"looks-like-ct"}


@pytest.mark.parametrize(("level", "width"), [(40, 400), (50, 350), (-600, 1500), (80, 80), (300, 1500)])
def test_a_ct_clipped_to_a_display_window(level: int, width: int) -> None:
    low, high = level - width / 2, level + width / 2
    (warning,) = said("ct", np.clip(CT, low, high).astype(np.int16))
    assert code_of(warning) == "clipped-window"
    # The preset reads from -160 to 240.
    assert ("as it would be of the whole" in warning) is (low <= -160 and high >= 240)


@pytest.mark.parametrize("preset", ["mr", "pet"])
def test_an_image_without_a_unit_clipped_to_a_display_window(preset: str) -> None:
    image = mr() if preset == "mr" else pet()
    assert codes(preset, np.minimum(image, np.percentile(image, 96))) == {"clipped-window"}


def test_what_the_scanner_cut_is_not_a_window() -> None:
    assert said("ct", np.clip(CT, -1000, 3071)) == []


@pytest.mark.parametrize("preset", ["ct", "mr", "pet"])
@pytest.mark.parametrize(
    "array", [np.full((20, 20, 20), 40, np.int16), np.full((20, 20, 20), np.nan, np.float32)], ids=["constant", "NaN"]
)
def test_an_image_without_contrast_is_refused(preset: str, array: np.ndarray) -> None:
    with pytest.raises(ImageError, match="value 40|no finite voxel"):
        said(preset, array, (10, 10, 10))


def test_one_voxel_that_differs_is_an_image() -> None:
    """Even where the sample misses it."""
    array = np.full((120, 120, 120), 40, np.int16)
    array[1, 1, 1] = 90
    assert codes("ct", array, (60, 60, 60)) == {"not-hu", "flat-region"}


def test_values_that_are_not_finite_are_left_out() -> None:
    array = CT.astype(np.float32)
    array[:10] = np.nan
    array[-1, -1, -1] = np.inf
    values = image_values(volume(array))
    assert np.isfinite([values.low, values.high]).all() and np.isfinite(values.ordered).all()
    assert values.high == array[10:][np.isfinite(array[10:])].max()
    assert said("ct", array) == []


def test_nothing_to_tell_apart_around_the_prompt() -> None:
    array = np.pad(CT, ((0, 120), (0, 0), (0, 0)), constant_values=-1024)
    far = (array.shape[0] - 2, 5, 5)
    assert codes("ct", array, far) == {"flat-region"}
    array[-50:, :50] = 900 + np.arange(array.shape[2]) % 7
    (warning,) = said("ct", array, far)
    assert code_of(warning) == "outside-window" and "above" in warning and "-160 to 240" in warning
    box = Prompts((Box((far[0] - 4, 1, 1), (far[0], 9, 9)),))
    assert code_of(value_warnings(PRESETS["ct"], volume(array), box, None)[0]) == "outside-window"


def test_the_source_names_another_modality() -> None:
    (warning,) = said("ct", CT, source="MR")
    assert code_of(warning) == "other-modality" and "is a MR" in warning and "expects CT" in warning
    assert codes("mr", CT, source="CT") == {"other-modality"}
    assert codes("pet", mr(), source="MR") == {"other-modality"}
    unnamed = replace(PRESETS["mr"], modality=None)
    assert value_warnings(unnamed, volume(mr()), Prompts((Click(CLICK),)), "CT") == []


def segmentation(mask: np.ndarray, spacing_mm: float = 4.0) -> Segmentation:
    roi = {"size_dhw": [64, 64, 64], "spacing_mm": spacing_mm}
    return Segmentation(mask.astype(np.uint8), {"lesion": 1}, Prompts((Click(CLICK),)), details={"roi": roi})


def test_masks_that_take_nearly_all_are_said() -> None:
    preset, image = PRESETS["ct"], volume(CT)
    assert mask_warnings(preset, image, segmentation(PHANTOM.labels == 1)) == []
    assert mask_warnings(preset, image, segmentation(np.zeros(CT.shape))) == []
    (body,) = mask_warnings(preset, image, segmentation(CT > -300))
    assert code_of(body) == "fills-body"
    part = np.zeros(CT.shape)
    part[tuple(slice(at - 8, at + 8) for at in CLICK)] = 1
    side = float(np.prod(np.linalg.norm(np.asarray(PHANTOM.affine)[:3, :3], axis=0)) * part.sum()) ** (1 / 3)
    (region,) = mask_warnings(preset, image, segmentation(part, side / 64))
    assert code_of(region) == "fills-region"


def test_codes_are_of_the_one_list() -> None:
    assert code_of(answer_warning("not-hu", "Sentence: with a colon.")) == "not-hu"
    assert code_of("Dropped: a click.") == "" and all(code == code.lower() and ":" not in code for code in CODES)
    with pytest.raises(KeyError):
        answer_warning("never-heard-of", "x")


def test_every_shipped_preset_names_its_modality() -> None:
    expected = {"mr": "MR", "pet": "PET"}
    assert {name: preset.modality for name, preset in PRESETS.items()} == {
        name: expected.get(name, "CT") for name in PRESETS
    }


def test_a_presets_checksum_does_not_depend_on_its_modality() -> None:
    preset: Preset = PRESETS["ct"]
    assert replace(preset, modality=None).sha256() == preset.sha256()
