"""``sam3d score``: the scores of images that the strategy ``coverage`` chooses cases by, worked out ahead."""

import logging
from pathlib import Path
from typing import Any

import click

from lib.cli.served_folder import on_served_folder, open_served_folder
from lib.cli.worker_options import with_workers
from lib.workers.choice import WorkerChoice
from lib.workers.each_case import WorkersError


@click.command(short_help="Score images, so that Next Sample can choose by coverage.")
@on_served_folder()
@with_workers
def score(app_dir: Path, device: str | None, workers: WorkerChoice, **options: Any) -> None:
    """Work out what the network sees in each image, for a server with --conf strategy coverage.

    The preset is the first one that this server offers. The server does the same by itself, at low priority. What is
    scored already is passed over, so a run that was stopped goes on when the same command is given again. An image that
    cannot be scored is said, and the next one follows. Exit status 0: every image has a score; 1: some have none.

    \b
    Examples:
      sam3d score --preset ct --studies path/to/niftis
    """
    config, datastore = open_served_folder(app_dir, strategy="coverage", **options)
    from lib.activelearning.background import COVERAGE
    from lib.activelearning.scoring import FAILED, SCORED, UP_TO_DATE, NoFeatures
    from lib.models.checkpoint_error import CheckpointError
    from lib.serving.devices import DeviceError

    workers = workers.reading(app_dir, Path(datastore._datastore_path))
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    request: dict[str, Any] = {"device": device} if device else {}
    try:
        method = config.scoring_methods()[COVERAGE]
        counts = method(request, datastore, lambda *done: click.echo("{}: {}".format(*done)), workers=workers)
    except (CheckpointError, DeviceError, NoFeatures, OSError, WorkersError) as error:
        raise click.ClickException(" ".join(str(error).split())) from error
    click.echo(f"{counts[SCORED]} scored, {counts[UP_TO_DATE]} up to date, {counts[FAILED]} without a score")
    raise SystemExit(1 if counts[FAILED] else 0)
