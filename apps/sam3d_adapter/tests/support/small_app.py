"""A preset of the test size and its weights, for servers that answer at once."""

from pathlib import Path

import yaml

from lib.models.config import MODEL_SIZES
from tests.support.server import APP_DIR, copy_app
from tests.support.weights import write_test_weights


def copy_small_app(folder: Path) -> Path:
    """The app in ``folder`` with one preset alone, ``test``, of random weights of the test size."""
    preset = yaml.safe_load((APP_DIR / "configs/ct.yaml").read_text())
    preset["model"] = {
        "size": "test",
        "base": "weights/test_base.safetensors",
        "weights": "weights/test_weights.safetensors",
    }
    preset["roi"] = {"size": MODEL_SIZES["test"].roi_size, "spacing_mm": 1.0, "axes": "SAR"}
    app = copy_app(folder, presets={"test": yaml.safe_dump(preset)}, keep_presets=False)
    write_test_weights(app / "weights")
    return app
