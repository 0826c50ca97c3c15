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

logger = logging.getLogger(__name__)


@click.command(short_help="Make a preset's files from the 3DSAM-adapter authors' checkpoint.")
@click.option("--preset", required=True, help="Whose files to make: kits, lits, pancreas, colon or your own.")
@click.option("--checkpoint", type=_FILE, help="The authors' last.pth.tar or best.pth.tar.")
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
    """Make the files of a preset from a checkpoint of the 3DSAM-adapter authors and SAM's own file.

    Those checkpoints carry no licence: convert them for yourself, and do not pass the result on.

    \b
    Examples:
      sam3d convert --preset kits --checkpoint last.pth.tar
      sam3d convert --preset kits --base-only --sam sam_vit_b_01ec64.pth
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
    from lib.conversion.convert import convert_base, convert_checkpoint
    from lib.conversion.sam_files import SAM_FILES, obtain_sam_file
    from lib.families.sam3d_adapter.target import target_of
    from lib.models.checkpoint_error import CheckpointError
    from lib.presets import PresetError

    known = SAM_FILES if sam_files is None else sam_files
    try:
        target = target_of(preset, app_dir, out, known)

        def sam_file() -> Path:
            return obtain_sam_file(
                known[target.size], given=sam, offline=offline, patience=patience, progress=_Progress()
            )

        if checkpoint is None:
            conversion = convert_base(target, sam_file)
        else:
            conversion = convert_checkpoint(checkpoint, target, sam_file, replace=replace)
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
