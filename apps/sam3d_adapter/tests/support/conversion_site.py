"""Published files of the test size, an app folder with a preset for them, and a cache of its own."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from lib.cli.convert import convert, run
from lib.conversion.download import Patience
from lib.conversion.sam_files import SamFile
from lib.models.sam3d import Sam3dAdapter
from tests.support.published import reference_state, trained_model, write_sam_file

PRESET = """\
description: Organ of the tests
label: organ
model:
  size: test
  base: {base}
  weights: {weights}
roi:
  size: 32
  spacing_mm: 1.0
  axes: SAR
intensity:
  mode: window
  clip_hu: [-100, 300]
  mean: 50.0
  std: 60.0
"""

QUICK = Patience(attempts=3, wait_s=0.01, timeout_s=5.0)


@dataclass
class Site:
    """All that a conversion meets.

    Attributes:
        app: App folder with the preset `organ`.
        cache: Cache folder, empty.
        sam: SAM's file; its description.
        model: What the checkpoint was saved from.
        checkpoint: The authors' file.
    """

    app: Path
    cache: Path
    sam: Path
    sam_file: SamFile
    model: Sam3dAdapter
    checkpoint: Path

    @property
    def base(self) -> Path:
        return self.app / "model/sam_test.safetensors"

    @property
    def weights(self) -> Path:
        return self.app / "model/organ.safetensors"

    def preset(self, *, base: str = "model/sam_test.safetensors", weights: str = "model/organ.safetensors") -> None:
        (self.app / "configs").mkdir(parents=True, exist_ok=True)
        (self.app / "configs/organ.yaml").write_text(PRESET.format(base=base, weights=weights))

    def save(self, state: Any) -> None:
        """Writes another checkpoint."""
        torch.save(state, self.checkpoint)

    def run(self, *more: object, checkpoint: bool = True) -> int:
        """The command, with the preset and the checkpoint."""
        arguments = ["--preset", "organ", *(["--checkpoint", self.checkpoint] if checkpoint else []), *more]
        options = convert.make_context("convert", [str(a) for a in arguments]).params
        return run(self.app, **options, sam_files={"test": self.sam_file}, patience=QUICK)


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SamFile, Sam3dAdapter]:
    """Made once; copied for each test."""
    folder = tmp_path_factory.mktemp("published")
    sam = folder / "sam_test.pth"
    sam_file = write_sam_file(sam)
    model = trained_model(sam)
    torch.save(reference_state(model), folder / "last.pth.tar")
    return folder, sam_file, model


@pytest.fixture
def site(published: tuple[Path, SamFile, Sam3dAdapter], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    folder, sam_file, model = published
    # No test may reach the internet: without a server of its own, the address leads nowhere.
    monkeypatch.setenv("SAM3D_SAM_URL", "http://127.0.0.1:9/sam/")
    monkeypatch.setenv("SAM3D_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    for name in ("sam_test.pth", "last.pth.tar"):
        shutil.copy(folder / name, tmp_path / name)
    found = Site(
        tmp_path / "app", tmp_path / "cache", tmp_path / "sam_test.pth", sam_file, model, tmp_path / "last.pth.tar"
    )
    found.preset()
    return found
