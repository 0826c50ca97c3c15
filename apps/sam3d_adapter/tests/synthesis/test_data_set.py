"""One file per seed, which a training reads."""

from pathlib import Path

import numpy as np

from lib.presets import load_preset
from lib.pretraining.pretrain import CONFIGS
from lib.synthesis.data_set import write_synthetic
from lib.training.data_sets import DataSet


def test_files_are_kept_and_can_be_trained_on(label_maps: tuple[Path, ...], tmp_path: Path) -> None:
    write_synthetic(tmp_path, label_maps, "pet", range(7, 9))
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["000007.npz", "000008.npz"]
    before = [file.stat().st_mtime_ns for file in files]
    write_synthetic(tmp_path, label_maps, "pet", range(7, 9))
    assert [file.stat().st_mtime_ns for file in files] == before

    drawn = DataSet(tmp_path, load_preset(CONFIGS / "pet.yaml")).draw(np.random.default_rng(0))
    assert drawn.label in drawn.volume.objects()
    assert isinstance(drawn.volume.image, np.memmap)  # so that the processes of a training share it
