"""Weights of `micro` that follow a bright ball from slice to slice: a short training on a few phantoms.

python -m tests.support.micro_weights FILE [STEPS]
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from lib.families.sam2.pretrain import pretrain
from lib.presets import load_preset
from lib.pretraining.pretrain import DataSetChoice, Pretraining
from lib.training.interaction import InteractionConfig
from lib.training.train import TrainingConfig
from tests.support.dicom_study import Ellipsoid, ball, centred_geometry, paint_scene
from tests.support.server import APP_DIR

STEPS, VOLUMES, SLICES = 60, 6, 6
"""As few as make the masks of such balls usable."""


def write_micro_weights(path: Path, steps: int = STEPS) -> None:
    """Trains on balls in an organ in a body, by one click each.

    Args:
        path: of the file.
        steps: of training.
    """
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for seed in range(VOLUMES):
            _write_volume(folder / f"{seed}.npz", seed)
        config = TrainingConfig(
            steps=steps,
            report_steps=steps,
            ema_decay=0.8,
            precision="fp32",
            interaction=InteractionConfig(rounds=(1.0,), box_share=0.0),
        )
        choice = DataSetChoice(load_preset(APP_DIR / "configs/sam2_micro.yaml"), folder)
        pretrain("micro", Pretraining((choice,), config, folder, batch=1), torch.device("cpu"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((folder / "micro_phantom.safetensors").read_bytes())


def _write_volume(path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    geometry = centred_geometry((96, 96, SLICES), (1.8, 1.8, 5.0), centre=(0.0, 0.0, 0.0))
    body, organ = (Ellipsoid((0.0, 0.0, 0.0), (x, x, 250.0), hu) for x, hu in ((72.0, -90.0), (52.0, 40.0)))
    places = rng.uniform(-32, 32, (2, 2))
    balls = [ball((x, y, float(rng.uniform(-6, 6))), float(rng.uniform(22, 32)), 100.0) for x, y in places]
    labels = np.zeros(geometry.shape, np.uint8)
    for number, solid in enumerate(balls, start=1):
        labels[solid.inside(geometry)] = number
    image = paint_scene([body, organ, *balls], geometry, noise_hu=15.0, seed=seed)
    np.savez(path, image=image, labels=labels, affine=np.diag([-1.8, -1.8, 5.0, 1.0]))


if __name__ == "__main__":
    write_micro_weights(Path(sys.argv[1]), *map(int, sys.argv[2:]))
