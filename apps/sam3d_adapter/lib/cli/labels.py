"""``sam3d labels``: what was submitted, what was there before, bringing that back, how far readers agree,
and labels in the forms of other programs."""

import logging
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from lib.cli.app_dir import pass_app_dir
from lib.cli.label_sets import export_labels, import_labels
from lib.cli.table import table
from lib.studies.folder import StudiesFolder, Unknown
from lib.studies.label_changes import By, LabelChange
from lib.workflow.database import database_beside

logger = logging.getLogger("labels")

_image = click.argument("image")
_tag = click.option("--tag", default="final", show_default=True, help="Which label of the image.")


@click.group(short_help="List labels, bring former ones back, export and import them.")
def labels() -> None:
    """The labels in a folder of studies: what there is, who saved it, what was there before; export and import.

    A running server serves what is restored at the next question. Exit status 0: done; 1: refused, with the reason.

    \b
    Examples:
      sam3d labels list --studies path/to/niftis
      sam3d labels history patient_02 --studies path/to/niftis
      sam3d labels agreement --studies path/to/niftis
      sam3d labels restore patient_02 --studies path/to/niftis --by "Dr. Jones"
      sam3d labels export Dataset101_Lesions --format nnunet --studies path/to/niftis --by "Dr. Jones"
    """


labels.add_command(export_labels)
labels.add_command(import_labels)


def _of_a_folder(action: Callable[..., str]) -> Callable[..., None]:
    """A command of `labels` from a function of the folder that returns what to print."""

    @click.option("--studies", required=True, type=click.Path(path_type=Path), help="Folder of images.")
    @click.option(
        "--audit-dir",
        type=click.Path(path_type=Path),
        default=Path("logs/audit"),
        show_default=True,
        help="Folder of the records, as the server's --conf audit_dir.",
    )
    @pass_app_dir
    @wraps(action)
    def command(app_dir: Path, studies: Path, audit_dir: Path, **options: Any) -> None:
        from lib.audit.auditor import Auditor
        from lib.audit.log import AuditLog
        from lib.configs.settings import Conf

        logging.basicConfig(level=logging.WARNING, format="%(message)s")
        auditor = Auditor(AuditLog(app_dir / audit_dir, Conf().audit_bytes), {})
        try:
            folder = StudiesFolder(studies.expanduser().resolve(), told=auditor.record_label)
            folder.require()
            text = action(folder, **options)
        except (Unknown, OSError) as error:
            logger.error("%s", " ".join(str(error).split()))
            raise SystemExit(1) from error
        sys.stdout.write(f"{text}\n")

    return command


@labels.command("list")
@_of_a_folder
def _list(folder: StudiesFolder) -> str:
    """List all labels, with who saved them and how many former ones are kept."""
    rows = [("image", "tag", "saved (UTC)", "by", "former")]
    former: dict[tuple[str, str], int] = {}
    for change in folder.history():
        if folder.former(change):
            former[change.image, change.tag] = former.get((change.image, change.tag), 0) + 1
    there = {(image, tag) for image, case in folder.index()["objects"].items() for tag in case["labels"]}
    for image, tag in sorted(there | former.keys()):
        note = folder.note(image, tag) if (image, tag) in there else None
        saved = (note["saved_at"][:19], _by(note.get("user"), note.get("address"))) if note else ("", "")
        if (image, tag) not in there:
            saved = ("deleted", "")
        rows.append((image, tag, *saved, str(former.get((image, tag), 0))))
    return "\n".join(table(rows))


@labels.command("history")
@_image
@click.option("--tag", default=None, help="Of labels with this tag alone.  [default: all]")
@_of_a_folder
def _history(folder: StudiesFolder, image: str, tag: str | None) -> str:
    """Show what was done to the labels of IMAGE; where there is a file, it can be restored by its id."""
    rows = [("id", "tag", "action", "by", "label of before, saved (UTC)", "its sha256")]
    changes = folder.history(image, tag)
    if not changes:
        raise Unknown(f"Nothing is known of labels of an image {image!r}; 'sam3d labels list' names the images.")
    rows += [(change.id, change.tag, change.action, _by(change.user, change.address), *_before(folder, change))
             for change in changes]  # fmt: skip
    return "\n".join(table(rows))


@labels.command("restore")
@_image
@click.argument("id", required=False)
@_tag
@click.option("--by", required=True, metavar="NAME", help="Who does it; it is written down.")
@_of_a_folder
def _restore(folder: StudiesFolder, image: str, id: str | None, tag: str, by: str) -> str:
    """Bring back the label of IMAGE that the change ID replaced or deleted; without ID, the last one.

    The present label goes into the history, so that this can be undone in the same way.
    """
    change = folder.restore_label(image, tag, id, By(by))
    assert change.new is not None  # a label was restored
    return f"Restored: label '{tag}' of {image}, sha256 {change.new['sha256']}."


@labels.command("agreement")
@click.argument("image", required=False)
@_of_a_folder
def _agreement(folder: StudiesFolder, image: str | None) -> str:
    """Compare what several readers drew on IMAGE, or on every image: Dice and surface Dice (2 mm) per pair.

    Of each reader, the last label that he submitted counts, also one that was replaced since.
    """
    from lib.annotations.agreement import agreement_in, mean_agreement

    objects = folder.index()["objects"]
    if image is not None and image not in objects:
        raise Unknown(f"There is no image {image!r}; 'sam3d labels list' names the images.")
    found = {one: agreement_in(folder, one) for one in ([image] if image is not None else sorted(objects))}
    rows = [("image", "structure", "reader", "reader", "Dice", "surface Dice")]
    rows += [
        (one, pair.structure, *pair.readers, f"{pair.dice:.3f}", f"{pair.surface_dice:.3f}")
        for one, pairs in found.items()
        for pair in pairs
    ]
    if len(rows) == 1:
        return "No image has submitted labels of two readers whose names are known."
    rows += [
        (f"mean of {count}", mean.structure, *mean.readers, f"{mean.dice:.3f}", f"{mean.surface_dice:.3f}")
        for mean, count in mean_agreement([pair for pairs in found.values() for pair in pairs])
    ]
    return "\n".join(table(rows))


@labels.command("schema")
@click.option("--to", type=int, required=True, help="Version of the tables, which the older release asks for.")
@_of_a_folder
def _schema(folder: StudiesFolder, to: int) -> str:
    """Bring the workflow database back to an older version, before you return to an older release.

    What that version has no tables for is lost. Stop the server first: this release brings it forward again.
    """
    database_beside(folder.path).migrate(to)
    return f"The workflow database now has version {to}."


def _before(folder: StudiesFolder, change: LabelChange) -> tuple[str, str]:
    if change.old is None or folder.former(change) is None:
        return "", ""
    return change.old["saved_at"][:19], change.old["sha256"][:16]


def _by(user: str | None, address: str | None) -> str:
    return user or address or "unknown"
