"""``sam3d labels export`` and ``import``: submitted labels as other programs read them."""

import logging
import sys
from pathlib import Path
from typing import Any

import click

from lib.cli.app_dir import pass_app_dir
from lib.studies.label_changes import By

logger = logging.getLogger("labels")

_studies = click.option("--studies", required=True, type=click.Path(path_type=Path), help="Folder of images.")
_by = click.option("--by", required=True, metavar="NAME", help="Who does it; it is written down.")
_audit_dir = click.option(
    "--audit-dir",
    type=click.Path(path_type=Path),
    default=Path("logs/audit"),
    show_default=True,
    help="Folder of the records, as the server's --conf audit_dir; it has the key of the pseudonyms.",
)


@click.command("export", short_help="Write labels for nnU-Net, as MSD, NIfTI or DICOM SEG.")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--studies", required=True, help="Folder of images, or the URL of a DICOMweb server.")
@click.option(
    "--format",
    "layout",
    required=True,
    type=click.Choice(["nnunet", "msd", "nifti", "dicom-seg"]),
    help="nnunet: raw folder with splits; msd: Medical Segmentation Decathlon; nifti: pairs of files; "
    "dicom-seg: slices and DICOM SEG, from a PACS.",
)
@click.option(
    "--train-on",
    type=click.Choice(["accepted", "submitted"]),
    default="accepted",
    show_default=True,
    help="Which labels, as the server's --conf train_on.",
)
@click.option("--preset", help="What this preset learns from, such as ct.  [default: all that is drawn]")
@click.option("--patient-pattern", help="As the server's --conf patient_pattern.")
@click.option(
    "--learning-dir",
    type=click.Path(path_type=Path),
    default=Path("model"),
    show_default=True,
    help="As the server's --conf learning_dir; for a PACS.",
)
@click.option("--identified", is_flag=True, help="Keep the names of images, patients and readers.")
@_by
@_audit_dir
@pass_app_dir
def export_labels(
    app_dir: Path,
    out: Path,
    studies: str,
    layout: str,
    train_on: str,
    preset: str | None,
    patient_pattern: str | None,
    learning_dir: Path,
    identified: bool,
    by: str,
    audit_dir: Path,
) -> None:
    """Write the labels of a folder of studies, with their images, into a new folder OUT.

    Names of images, patients and readers are replaced. Whom they stand for is in OUT.key.json beside the folder: keep
    that file where the images come from. A killed export leaves no OUT, only a folder .OUT.*.partial to delete.

    \b
    Examples:
      sam3d labels export Dataset101_Lesions --format nnunet --studies path/to/niftis --by "Dr. Jones"
      sam3d labels export pairs --format nifti --train-on submitted --studies path/to/niftis --by "Dr. Jones"
    """
    import os

    from monailabel.datastore.local import LocalDatastore

    from lib.annotations.label_snapshots import LabelSnapshots
    from lib.annotations.made_with import listed_modalities
    from lib.annotations.patients import PatientBook, PatientsError
    from lib.annotations.real_clicks import answers_on
    from lib.annotations.reviewed import choose_labels
    from lib.annotations.submitted import Learner
    from lib.audit.auditor import Auditor
    from lib.audit.log import AuditError, AuditLog
    from lib.configs.settings import Conf
    from lib.host.pacs.labels import pacs_labels
    from lib.host.pacs.open_pacs import PacsAway, open_pacs
    from lib.host.pacs.seg_export import dicom_layout
    from lib.host.process.launch import server_environment
    from lib.host.saved_labels import saved_labels, studies_folder
    from lib.host.studies_datastore import StudiesDatastore
    from lib.host.workflow import Workflow
    from lib.label_sets.chosen_cases import choose_cases
    from lib.label_sets.export import export
    from lib.label_sets.layouts import LAYOUTS, LayoutError
    from lib.label_sets.names import Names
    from lib.presets import load_presets

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    is_pacs = studies.startswith(("http://", "https://"))
    if layout == "dicom-seg" and not is_pacs:
        raise click.UsageError(
            "A folder of studies holds NIfTI and NRRD, and a DICOM SEG has to name the DICOM slices that it was drawn "
            "on. Serve the images from a PACS: then each submitted label is stored there as DICOM SEG. From a folder, "
            "export nifti, msd or nnunet."
        )
    # With the program that writes DICOM SEG.
    os.environ.update(server_environment())
    log = AuditLog(app_dir / audit_dir, Conf().audit_bytes)
    presets = load_presets(app_dir / "configs")
    if preset is not None and preset not in presets:
        raise click.UsageError(f"There is no preset {preset!r}; expected is one of {', '.join(presets)}.")
    try:
        datastore: Any
        if is_pacs:
            datastore = open_pacs(studies)
            snapshots = LabelSnapshots(app_dir / learning_dir / "labels")
            images = {*LocalDatastore.list_images(datastore), *(label.image_id for label in snapshots.labels())}
            answers = answers_on(log, images)
            structures = [label for one in presets.values() for label in one.labels]
            saved = pacs_labels(datastore, snapshots, expected=structures, clicked=answers)
        else:
            datastore = StudiesDatastore(str(Path(studies).expanduser().resolve()), read_only=True)
            saved = saved_labels(datastore)
            answers = answers_on(log, [one.image_id for one in saved])
        folder = studies_folder(datastore)
        known = Workflow(app_dir / learning_dir).read(datastore)
        chosen = choose_labels(saved, known.newest, known.marks, train_on)
        book, modalities = PatientBook(folder, patient_pattern), listed_modalities(folder)
        learner = Learner(presets[preset], None, presets, answers, modalities) if preset is not None else None
        cases, skipped = choose_cases(chosen, known.newest, book, modalities, learner)
        names = Names(None if identified else log.name_hash)
        form = dicom_layout() if layout == "dicom-seg" else LAYOUTS[layout]
        done = export(cases, layout, form, out.expanduser().absolute(), names)
    except (OSError, LayoutError, PatientsError, AuditError, PacsAway) as error:
        logger.error("%s", " ".join(str(error).split()))
        raise SystemExit(1) from error
    sent = [(one.case.image_id, one.case.label_sha256) for one in done.cases]
    Auditor(log, {}).record_export(sent, By(by), done.manifest_sha256)
    lines = [one.sentence for one in (*skipped, *done.skipped)]
    for name in done.values:
        lacking = sum(name not in one.structures for one in done.cases)
        if lacking:
            lines.append(f"{lacking} of {len(done.cases)} cases have no {name!r}: a network learns that there is none.")
    structures = sorted({name for one in done.cases for name in one.structures})
    lines.append(f"Exported: {len(done.cases)} cases with {', '.join(structures)}, to {out}.")
    if done.key is not None:
        lines.append(f"{done.key.name} says whom the pseudonyms stand for. Keep it here; do not hand it on.")
    sys.stdout.write("\n".join([*lines, ""]))


@click.command("import", short_help="Submit the labels of such a folder.")
@click.argument("folder", type=click.Path(path_type=Path))
@_studies
@click.option(
    "--key",
    type=click.Path(path_type=Path),
    help="OUT.key.json of the export that FOLDER is: what was changed since is submitted for the original images.",
)
@_by
@_audit_dir
@pass_app_dir
def import_labels(app_dir: Path, folder: Path, studies: Path, key: Path | None, by: str, audit_dir: Path) -> None:
    """Submit the labels of FOLDER, with their images, into a folder of studies.

    FOLDER is nnU-Net's raw folder (of one channel), one of the Medical Segmentation Decathlon, or has the folders
    images and labels with equal names of files. Each label is looked at as one from a viewer. Repeat it after an
    interruption: what is there already stays.

    \b
    Examples:
      sam3d labels import Dataset101_Lesions --studies path/to/niftis --by "Dr. Jones"
      sam3d labels import pairs --key pairs.key.json --studies path/to/niftis --by "Dr. Jones"
    """
    from lib.audit.auditor import Auditor
    from lib.audit.log import AuditLog
    from lib.configs.settings import Conf
    from lib.label_sets.read_set import SetError, read_key, read_set
    from lib.label_sets.take_in import take_in
    from lib.studies.folder import StudiesFolder

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    auditor = Auditor(AuditLog(app_dir / audit_dir, Conf().audit_bytes), {})
    try:
        into = StudiesFolder(studies.expanduser().resolve(), told=auditor.record_label)
        into.open()
        into.require()
        cases = read_set(folder)
        done = take_in(cases, into, By(by), read_key(key, folder) if key is not None else None)
    except (OSError, SetError) as error:
        logger.error("%s", " ".join(str(error).split()))
        raise SystemExit(1) from error
    lines = [*(one.sentence for one in done.skipped), *done.notes]
    lines.append(f"Submitted: {len(done.new)} labels; {len(done.known)} were there already.")
    sys.stdout.write("\n".join([*lines, ""]))
    if not done.new and not done.known:
        raise SystemExit(1)
