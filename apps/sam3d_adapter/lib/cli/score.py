"""``sam3d score``: what a strategy of Next Sample chooses cases by, worked out ahead."""

import logging
from pathlib import Path
from typing import Any

import click

from lib.cli.served_folder import on_served_folder, open_served_folder
from lib.cli.worker_options import with_workers
from lib.workers.choice import WorkerChoice
from lib.workers.each_case import WorkersError
from lib.workflow.scores import BY_SCORE


@click.command(short_help="Score images, so that Next Sample can choose by scores.")
@on_served_folder()
@with_workers
@click.option(
    "--strategy",
    type=click.Choice(BY_SCORE),
    default=BY_SCORE[0],
    show_default=True,
    help="As the server's --conf strategy.",
)
def score(app_dir: Path, device: str | None, strategy: str, workers: WorkerChoice, **options: Any) -> None:
    """Work out what the network sees in each image, or how well it answers first clicks, for a server's Next Sample.

    The preset is the first one that this server offers. The server does the same by itself, at low priority. What is
    scored already is passed over, so a run that was stopped goes on when the same command is given again. An image that
    cannot be scored is said, and the next one follows. Exit status 0: done; 1: some images have no score.

    \b
    Examples:
      sam3d score --preset ct --studies path/to/niftis
      sam3d score --preset ct --studies path/to/niftis --strategy predicted_error
    """
    config, datastore = open_served_folder(app_dir, strategy=strategy, **options)
    from lib.activelearning.scoring import FAILED, NOTHING, SCORED, UP_TO_DATE, NoFeatures
    from lib.models.checkpoint_error import CheckpointError
    from lib.serving.devices import DeviceError

    workers = workers.reading(app_dir, Path(datastore._datastore_path))
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    request: dict[str, Any] = {"device": device} if device else {}
    try:
        method = config.scoring_methods()[strategy]
        counts = method(request, datastore, lambda *done: click.echo("{}: {}".format(*done)), workers=workers)
    except (CheckpointError, DeviceError, NoFeatures, OSError, WorkersError) as error:
        raise click.ClickException(" ".join(str(error).split())) from error
    nothing = f", {counts[NOTHING]} with nothing found" if strategy != "coverage" else ""
    click.echo(f"{counts[SCORED]} scored, {counts[UP_TO_DATE]} up to date{nothing}, {counts[FAILED]} without a score")
    raise SystemExit(1 if counts[FAILED] else 0)
