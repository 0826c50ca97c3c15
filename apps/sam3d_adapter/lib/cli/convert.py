"""The command line of the conversion."""

import argparse
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from lib.conversion.convert import Conversion, Target, convert_base, convert_checkpoint
from lib.conversion.download import Patience
from lib.conversion.sam_files import CACHE_VARIABLE, SAM_FILES, SamFile, cache_folder, obtain_sam_file
from lib.models.checkpoint_error import CheckpointError
from lib.presets import PresetError, load_presets
from lib.segmenters.sam3d_adapter import Sam3dFamily

logger = logging.getLogger(__name__)

DESCRIPTION = """Make the files of a preset from a checkpoint of the 3DSAM-adapter authors (last.pth.tar, best.pth.tar)
and SAM's own file. Those checkpoints carry no licence: convert them for yourself, and do not pass the result on."""

SHIPPED = "weights"
"""Folder of the app whose files are published with it."""


def run(
    arguments: Sequence[str] | None,
    app_dir: Path,
    *,
    sam_files: Mapping[str, SamFile] = SAM_FILES,
    patience: Patience | None = None,
) -> int:
    """Convert as the arguments say, and tell the user by logging.

    Args:
        arguments: Of the command line; None for the process's own.
        app_dir: The app folder, with ``configs/``.
        sam_files: SAM's official file of each size.
        patience: When to give up a download.

    Returns:
        Exit status: 0, or 1 with one message that says why.
    """
    options = parser().parse_args(arguments)
    try:
        target = _target(options.preset, app_dir, options.out, sam_files)

        def sam_file() -> Path:
            return obtain_sam_file(
                sam_files[target.size],
                given=options.sam,
                offline=options.offline,
                patience=patience,
                progress=_Progress(),
            )

        conversion: Conversion
        if options.checkpoint is None:
            conversion = convert_base(target, sam_file)
        else:
            conversion = convert_checkpoint(options.checkpoint, target, sam_file, replace=options.replace)
    except (CheckpointError, PresetError) as error:
        logger.error("%s", error)
        return 1
    logger.info("%s", conversion.text())
    return 0


def parser() -> argparse.ArgumentParser:
    """Of `run`'s arguments."""
    built = argparse.ArgumentParser(prog="python apps/sam3d_adapter/convert.py", description=DESCRIPTION)
    built.add_argument("--preset", required=True, help="whose files to make: kits, lits, pancreas, colon or your own")
    what = built.add_mutually_exclusive_group(required=True)
    what.add_argument("--checkpoint", type=Path, help="the authors' last.pth.tar or best.pth.tar")
    what.add_argument("--base-only", action="store_true", help="make the base alone, to train on")
    built.add_argument(
        "--sam",
        type=Path,
        help=f"SAM's own file, or the folder it lies in (default: {str(cache_folder()).replace('%', '%%')}, "
        f"which ${CACHE_VARIABLE} changes; fetched there where it is not)",
    )
    built.add_argument("--offline", action="store_true", help="never connect; say what is missing instead")
    built.add_argument("--out", type=Path, help="folder for the files (default: where the preset looks for them)")
    built.add_argument("--replace", action="store_true", help="replace weights that are there")
    return built


def _target(preset: str, app_dir: Path, out: Path | None, sam_files: Mapping[str, SamFile]) -> Target:
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


class _Progress:
    """A line every few seconds, so that a log stays readable."""

    EVERY_S = 5.0

    def __init__(self) -> None:
        self._next = time.monotonic() + self.EVERY_S

    def __call__(self, have: int, total: int | None) -> None:
        if have == total or time.monotonic() >= self._next:
            self._next = time.monotonic() + self.EVERY_S
            share = f" of {total / 1e6:.0f} MB ({have / total:.0%})" if total else " MB"
            logger.info("Segment Anything: %.0f%s", have / 1e6, share)
