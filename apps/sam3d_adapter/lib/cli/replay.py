"""``sam3d replay``: a recorded mask computed again."""

import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lib.cli.app_dir import pass_app_dir

if TYPE_CHECKING:
    from lib.audit.log import AuditLog

EQUAL, DIFFERENT, IMPOSSIBLE = range(3)
_FILE = click.Path(path_type=Path)

logger = logging.getLogger("replay")


@click.command(short_help="Compute a recorded mask again and compare it.")
@click.argument("id")
@click.option("--studies", type=_FILE, help="Folder in which the image lies, under whatever name.")
@click.option("--image", type=_FILE, help="The image itself; either this or --studies.")
@click.option("--saved-label", type=_FILE, help="The label of the image that the request named as 'label'.")
@click.option("--uploaded-label", type=_FILE, help="The label map that came with the request ('upload').")
@click.option("--out", type=_FILE, help="Write the mask there (.nii.gz, .nii, .nrrd).")
@click.option(
    "--audit-dir",
    type=_FILE,
    default=Path("logs/audit"),
    show_default=True,
    help="Folder of the records, as the server's --conf audit_dir.",
)
@click.option(
    "--learning-dir",
    type=_FILE,
    default=Path("model"),
    show_default=True,
    help="Folder of the versions, as the server's --conf learning_dir.",
)
@pass_app_dir
def replay(app_dir: Path, **options: Any) -> None:
    """Compute the mask of the record ID again and compare it with what was answered then.

    ID is the answer's audit_id. Exit status 0: the same mask, voxel for voxel; 1: another one; 2: it cannot be
    computed again.

    \b
    Examples:
      sam3d replay 20260131T120000-0123456789ab --studies path/to/niftis
      sam3d replay 20260131T120000-0123456789ab --image liver_3.nii.gz --out mask.nii.gz
    """
    if (options["studies"] is None) == (options["image"] is None):
        raise click.UsageError("Give one of --studies and --image.")
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logger.setLevel(logging.INFO)
    raise SystemExit(_run(app_dir, **options))


def _run(
    app_dir: Path,
    *,
    id: str,
    studies: Path | None,
    image: Path | None,
    saved_label: Path | None,
    uploaded_label: Path | None,
    out: Path | None,
    audit_dir: Path,
    learning_dir: Path,
) -> int:
    from lib.audit.log import AuditError, AuditLog
    from lib.audit.replay import ReplayError
    from lib.audit.replay import replay as compute_again
    from lib.configs.settings import Conf
    from lib.infers.write_mask import WriteError, write_mask
    from lib.requests.request import RESULT_EXTENSIONS

    extension = next((known for known in RESULT_EXTENSIONS[::-1] if str(out or "").endswith(known)), None)
    if out and extension is None:
        logger.error("--out %s: the name must end with %s", out, ", ".join(RESULT_EXTENSIONS))
        return IMPOSSIBLE
    log = AuditLog(app_dir / audit_dir, Conf().audit_bytes)
    files = {"label": saved_label, "upload": uploaded_label}
    try:
        record = log.find(id)
        if "preset" not in record:
            raise ReplayError(f"The record {id} says what was done to labels; only that of an answer can be replayed.")
        result = compute_again(
            record,
            _image(record, log, image, studies),
            app_dir,
            learning_dir=learning_dir,
            label_maps={source: path for source, path in files.items() if path is not None},
        )
    except (AuditError, ReplayError, OSError) as error:
        logger.error("Cannot be replayed. %s", error)
        return IMPOSSIBLE
    if out:
        try:
            shutil.move(write_mask(result.mask, result.affine, extension or ".nrrd", compress=False), out)
        except (OSError, WriteError) as error:
            logger.error("%s", error)
            return IMPOSSIBLE
    for difference in result.differences:
        logger.warning("Not as recorded: %s", difference)
    logger.info("recorded %s", record["mask_hash"])
    logger.info("replayed %s", result.mask_hash)
    logger.info("equal" if result.is_equal else "different")
    return EQUAL if result.is_equal else DIFFERENT


def _image(record: dict[str, Any], log: "AuditLog", image: Path | None, studies: Path | None) -> Path:
    from lib.audit.find_image import find_image
    from lib.audit.replay import ReplayError

    if image is not None:
        if not image.exists():
            raise ReplayError(f"--image {image} does not exist.")
        return image
    assert studies is not None
    if not studies.is_dir():
        raise ReplayError(f"--studies {studies} is no folder.")
    # Records may have been copied without the key of the names; then every file is looked at.
    recorded = record["image_id_hash"] if log.has_key() else None
    found = find_image(
        studies, record["image_hash"], is_name=lambda name: recorded is not None and log.name_hash(name) == recorded
    )
    if found is None:
        raise ReplayError(f"No image below {studies} has the content {record['image_hash']}.")
    return found
