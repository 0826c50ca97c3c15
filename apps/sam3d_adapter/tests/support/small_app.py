"""Presets of the test size and their weights, for servers and tasks that answer at once."""

from pathlib import Path
from typing import Any

import yaml

from lib.models.config import MODEL_SIZES
from tests.support.server import APP_DIR, copy_app
from tests.support.weights import write_click_unet, write_test_weights

MODELS: dict[str, dict[str, str]] = {
    "test": {
        "size": "test",
        "base": "weights/test_base.safetensors",
        "weights": "weights/test_weights.safetensors",
    },
    "unet": {"family": "click_unet", "size": "test", "weights": "weights/click_unet_test.safetensors"},
}
"""The ``model`` section of each small preset; the weights are random."""


def small_preset(name: str = "test", **model: str) -> dict[str, Any]:
    """The values of a preset of `MODELS`, at 1 mm alone.

    Args:
        name: of the preset.
        model: entries of its ``model`` section that are to be others.
    """
    preset: dict[str, Any] = yaml.safe_load((APP_DIR / "configs/ct.yaml").read_text())
    preset["model"] = MODELS[name] | model
    preset["roi"] = {"size": MODEL_SIZES["test"].roi_size, "spacing_mm": 1.0, "axes": "SAR"}
    return preset


def write_small_weights(folder: Path) -> None:
    """The files that the small presets name."""
    write_test_weights(folder)
    write_click_unet(folder)


def copy_small_app(folder: Path, names: tuple[str, ...] = ("test",)) -> Path:
    """The app in ``folder`` with presets of `MODELS` alone."""
    presets = {name: yaml.safe_dump(small_preset(name)) for name in names}
    app = copy_app(folder, presets=presets, keep_presets=False)
    write_small_weights(app / "weights")
    return app
