"""``sam3d convert``: the files of a preset from published checkpoints."""

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lib.cli.app_dir import pass_app_dir

if TYPE_CHECKING:
    from lib.conversion.download import Patience
    from lib.conversion.sam_files import SamFile

_FILE = click.Path(path_type=Path)
PUBLISHED = "weights"
"""Folder of the app whose files are published with it."""

logger = logging.getLogger(__name__)


@click.command(short_help="Make a preset's files from a published checkpoint.")
@click.option("--preset", required=True, help="Whose files to make: kits, sam2_tiny, ..., or your own.")
@click.option(
    "--checkpoint",
    type=_FILE,
    help="Its authors' file, such as last.pth.tar or sam2.1_hiera_tiny.pt.",
)
@click.option("--base-only", is_flag=True, help="In place of --checkpoint: make the base alone, to train on.")
@click.option(
    "--sam",
    type=_FILE,
    help="SAM's own file, or the folder it lies in.  [default: ~/.cache/sam3d_adapter, which $SAM3D_CACHE changes; "
    "fetched there where it is not]",
)
@click.option("--offline", is_flag=True, help="Never connect; say what is missing instead.")
@click.option("--out", type=_FILE, help="Folder for the files.  [default: where the preset looks for them]")
@click.option("--replace", is_flag=True, help="Replace weights that are there.")
@pass_app_dir
def convert(app_dir: Path, **options: Any) -> None:
    """Make the files of a preset from a published checkpoint: of the 3DSAM-adapter authors (with SAM's own file), or of
    SAM 2.1 or MedSAM2.

    The checkpoints of 3DSAM-adapter carry no licence: convert them for yourself, and do not pass the result on.

    \b
    Examples:
      sam3d convert --preset kits --checkpoint last.pth.tar
      sam3d convert --preset kits --base-only --sam sam_vit_b_01ec64.pth
      sam3d convert --preset sam2_tiny --checkpoint sam2.1_hiera_tiny.pt
    """
    if (options["checkpoint"] is None) != options["base_only"]:
        raise click.UsageError("Give one of --checkpoint and --base-only.")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    raise SystemExit(run(app_dir, **options))


def run(
    app_dir: Path,
    *,
    preset: str,
    checkpoint: Path | None,
    base_only: bool = False,
    sam: Path | None = None,
    offline: bool = False,
    out: Path | None = None,
    replace: bool = False,
    sam_files: "Mapping[str, SamFile] | None" = None,
    patience: "Patience | None" = None,
) -> int:
    """Convert, and tell the user by logging.

    Args:
        app_dir: The app folder, with ``configs/``.
        preset, checkpoint, base_only, sam, offline, out, replace: The options of the command.
        sam_files: SAM's official file of each size; None for the published ones.
        patience: When to give up a download.

    Returns:
        Exit status: 0, or 1 with one message that says why.
    """
    from lib.conversion.job import ConversionJob
    from lib.models.checkpoint_error import CheckpointError
    from lib.presets import PresetError, load_presets
    from lib.segmenters import families

    try:
        model = load_presets(app_dir / "configs", (preset,))[preset].model
        family = families()[model.family]
        files = {key: app_dir / file for key, file in zip(family.files, model.files, strict=True)}
        if out is not None:
            files = {key: out / file.name for key, file in files.items()}
        if any(file.resolve().is_relative_to((app_dir / PUBLISHED).resolve()) for file in files.values()):
            raise CheckpointError(
                f"{', '.join(map(str, files.values()))}: the folder '{PUBLISHED}' is published with the app; what "
                "others made must not be. Name a file under 'model/' in the preset, or give another folder with --out."
            )
        job = ConversionJob(
            preset, model.size, files, checkpoint, sam, offline, replace, sam_files, patience, _Progress()
        )
        conversion = family.convert(job)
    except (CheckpointError, PresetError) as error:
        logger.error("%s", error)
        return 1
    logger.info("%s", conversion.text())
    return 0


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
