"""The Python interface: a preset's segmenter, images, and prompts."""

from pathlib import Path
from typing import Any

from lib.presets import load_presets
from lib.prompts.prompt import Prompt
from lib.prompts.prompts import Prompts
from lib.registry.registry import DEFAULT_LEARNING_DIR, Registry
from lib.segmenters.contract import Options, Segmentation
from lib.serving.preset_segmenter import OpenSegmenter, PresetSegmenter, SharedState
from lib.volumes.read import open_volume
from lib.volumes.volume import Volume


class LoadedSegmenter:
    """Answers prompts with one version of a preset's weights.

    Attributes:
        opened: the segmenter, its device and the version of its weights.
    """

    def __init__(self, opened: OpenSegmenter) -> None:
        self.opened = opened

    def segment(self, image: Volume, *prompts: Prompt, **options: Any) -> Segmentation:
        """Segments the structure that the prompts point at.

        Args:
            image: from `read`.
            prompts: clicks in the order in which they were set; at most one box and one mask.
            options: ``threshold`` (foreground probability) and ``refine``; see `Options`.

        Returns:
            Its ``mask`` is (i, j, k) uint8 on the image's grid.

        Raises:
            PromptError: prompts that cannot be used together.
        """
        return self.opened.segment(image, Prompts(prompts), Options(**options))


def load(preset: str, *, device: str | None = None, app: Path | None = None) -> LoadedSegmenter:
    """The segmenter of a preset, with the version of its weights that a server on this folder would serve.

    Args:
        preset: its name, such as ``ct``.
        device: ``cpu``, ``cuda:N``; None for the first GPU, else the CPU.
        app: app folder; None for the default of the program ``sam3d``.

    Raises:
        PresetError: no such preset.
        CheckpointError: no weights; the message says how to get them.
    """
    from sam3d.app_folder import app_folder

    folder = app_folder(app)
    found = load_presets(folder / "configs", (preset,))[preset]
    versions = Registry(folder / DEFAULT_LEARNING_DIR).of(preset, found.model.size, found.model.family)
    return LoadedSegmenter(PresetSegmenter(found, folder, SharedState.of(), versions).open(device))


def read(path: str | Path) -> Volume:
    """An image file (NIfTI, NRRD, MetaImage), or a folder with one DICOM series.

    Raises:
        ImageError: a file that cannot be read, or no volume.
    """
    return open_volume(Path(path))
