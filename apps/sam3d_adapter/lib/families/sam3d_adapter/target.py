"""Which files of a preset a conversion makes."""

from collections.abc import Mapping
from pathlib import Path

from lib.conversion.convert import Target
from lib.conversion.sam_files import SAM_FILES, SamFile
from lib.families.sam3d_adapter import Sam3dFamily
from lib.models.checkpoint_error import CheckpointError
from lib.presets import load_presets

SHIPPED = "weights"
"""Folder of the app whose files are published with it."""


def target_of(
    preset: str, app_dir: Path, out: Path | None = None, sam_files: Mapping[str, SamFile] = SAM_FILES
) -> Target:
    """The base and the weights of a preset.

    Args:
        preset: its name.
        app_dir: the app folder, with ``configs/``.
        out: folder for the files; None for where the preset looks for them.
        sam_files: SAM's official file of each size.

    Raises:
        CheckpointError: the preset starts from no SAM file, or the weights would lie in a folder that is published.
        PresetError: no such preset, or it cannot be read.
    """
    model = load_presets(app_dir / "configs", (preset,))[preset].model
    if model.family != Sam3dFamily.name:
        raise CheckpointError(
            f"Preset '{preset}' is of the family '{model.family}', which starts from no SAM file. Expected a preset of "
            f"the family '{Sam3dFamily.name}'; choose another, or write one (configs/)."
        )
    if model.size not in sam_files:
        raise CheckpointError(
            f"Preset '{preset}' uses model size '{model.size}', for which there is no SAM file. Expected a preset of "
            f"size {', '.join(sam_files)}; choose another, or write one (configs/)."
        )
    base, weights = app_dir / model.file("base"), app_dir / model.file("weights")
    if out is not None:
        base, weights = out / base.name, out / weights.name
    if weights.resolve().is_relative_to((app_dir / SHIPPED).resolve()):
        raise CheckpointError(
            f"{weights}: the folder '{SHIPPED}' is published with the app; a checkpoint without licence must not be. "
            "Name a file under 'model/' in the preset, or give another folder with --out."
        )
    return Target(preset, model.size, base, weights)
