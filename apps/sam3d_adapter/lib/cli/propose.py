"""``sam3d propose``: masks of one structure for cases that nobody has labelled, for people to correct."""

import logging
from pathlib import Path
from typing import Any

import click

from lib.cli.served_folder import on_served_folder, open_served_folder
from lib.cli.worker_options import with_workers
from lib.workers.choice import WorkerChoice
from lib.workers.each_case import WorkersError


@click.command(short_help="Propose masks for unlabelled images, to be corrected.")
@on_served_folder()
@with_workers
@click.option("--structure", required=True, help="What to look for, as it is called in the labels that there are.")
def propose(app_dir: Path, structure: str, device: str | None, workers: WorkerChoice, **options: Any) -> None:
    """Save a mask of STRUCTURE for each image that has no label, draft or mark.

    It clicks where the structure lies in the labels that were submitted; three at least are needed. Where 20 patients
    are labelled (sam3d calibrate), each mask comes with the Dice that it is predicted to have. Proposals for a PACS
    stay in this server's cache. A run that was stopped goes on when the same command is given again. Exit status 0:
    done; 1: some images failed.

    \b
    Examples:
      sam3d propose --preset mr --structure hippocampus --studies path/to/niftis
      sam3d propose --preset ct --structure lesion --studies http://pacs/dicom-web
    """
    config, datastore = open_served_folder(app_dir, **options)
    from lib.activelearning.proposing import FAILED, NOTHING, PROPOSED, UP_TO_DATE, NoPlace
    from lib.models.checkpoint_error import CheckpointError
    from lib.serving.devices import DeviceError

    workers = workers.reading(app_dir, Path(datastore._datastore_path))
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    proposing = config.proposing(options["preset"])
    try:
        counts = proposing(
            structure, datastore, device=device, told=lambda *done: click.echo("{}: {}".format(*done)), workers=workers
        )
    except (CheckpointError, DeviceError, NoPlace, OSError, WorkersError) as error:
        raise click.ClickException(" ".join(str(error).split())) from error
    click.echo(
        f"{counts[PROPOSED]} proposed, {counts[UP_TO_DATE]} up to date, {counts[NOTHING]} with nothing found, "
        f"{counts[FAILED]} failed"
    )
    raise SystemExit(1 if counts[FAILED] else 0)
