"""Compute a recorded mask again and compare it with what was answered then.

The id of a record is the answer's ``audit_id``. Exit status 0: the same mask, voxel for voxel; 1: another one; 2: it
cannot be computed again.
"""

import argparse
import logging
import shutil
from pathlib import Path
from typing import Any

from lib.audit.find_image import find_image
from lib.audit.log import AuditError, AuditLog
from lib.audit.replay import Replay, ReplayError, replay
from lib.configs.settings import Conf
from lib.requests.request import RESULT_EXTENSIONS

APP_DIR = Path(__file__).resolve().parent
EQUAL, DIFFERENT, IMPOSSIBLE = range(3)

logger = logging.getLogger("replay")


def main() -> int:
    """Reads the command line; the exit status."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logger.setLevel(logging.INFO)
    arguments = _arguments()
    extension = next((known for known in RESULT_EXTENSIONS[::-1] if str(arguments.out or "").endswith(known)), None)
    if arguments.out and extension is None:
        logger.error("--out %s: the name must end with %s", arguments.out, ", ".join(RESULT_EXTENSIONS))
        return IMPOSSIBLE
    log = AuditLog(APP_DIR / arguments.audit_dir, Conf().audit_bytes)
    try:
        record = log.find(arguments.id)
        files = {"label": arguments.saved_label, "upload": arguments.uploaded_label}
        result = replay(
            record,
            _image(record, log, arguments),
            APP_DIR,
            extension=extension or ".nrrd",
            learning_dir=arguments.learning_dir,
            label_maps={source: path for source, path in files.items() if path is not None},
        )
    except (AuditError, ReplayError, OSError) as error:
        logger.error("Cannot be replayed. %s", error)
        return IMPOSSIBLE
    if arguments.out:
        shutil.move(result.file, arguments.out)
    else:
        result.file.unlink()
    return _report(record, result)


def _report(record: dict[str, Any], result: Replay) -> int:
    for difference in result.differences:
        logger.warning("Not as recorded: %s", difference)
    logger.info("recorded %s", record["mask_hash"])
    logger.info("replayed %s", result.mask_hash)
    logger.info("equal" if result.is_equal else "different")
    return EQUAL if result.is_equal else DIFFERENT


def _image(record: dict[str, Any], log: AuditLog, arguments: argparse.Namespace) -> Path:
    if arguments.image:
        if not arguments.image.exists():
            raise ReplayError(f"--image {arguments.image} does not exist.")
        return Path(arguments.image)
    if not arguments.studies.is_dir():
        raise ReplayError(f"--studies {arguments.studies} is no folder.")
    # Records may have been copied without the key of the names; then every file is looked at.
    recorded = record["image_id_hash"] if log.has_key() else None
    found = find_image(
        arguments.studies,
        record["image_hash"],
        is_name=lambda name: recorded is not None and log.name_hash(name) == recorded,
    )
    if found is None:
        raise ReplayError(f"No image below {arguments.studies} has the content {record['image_hash']}.")
    return found


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python apps/sam3d_adapter/replay.py", description=__doc__)
    parser.add_argument("id", help="of the record: the answer's audit_id")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--studies", type=Path, help="folder in which the image lies, under whatever name")
    where.add_argument("--image", type=Path, help="the image itself")
    parser.add_argument("--saved-label", type=Path, help="the label of the image that the request named as 'label'")
    parser.add_argument("--uploaded-label", type=Path, help="the label map that came with the request ('upload')")
    parser.add_argument("--out", type=Path, help="write the mask there (.nii.gz, .nii, .nrrd)")
    parser.add_argument(
        "--audit-dir",
        type=Path,
        default=Conf().audit_dir,
        help="as the server's --conf audit_dir (default: %(default)s)",
    )
    parser.add_argument(
        "--learning-dir",
        type=Path,
        default=Conf().learning_dir,
        help="as the server's --conf learning_dir (default: %(default)s)",
    )
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
