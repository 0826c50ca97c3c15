"""``sam3d score``: the scores of images that the strategy ``coverage`` chooses cases by, worked out ahead."""

import logging
import os
from pathlib import Path
from typing import Any

import click

from lib.cli.app_dir import pass_app_dir

logger = logging.getLogger("score")


@click.command(short_help="Score images, so that Next Sample can choose by coverage.")
@click.option("--preset", required=True, help="With whose network: the first preset that the server offers.")
@click.option("--studies", type=click.Path(path_type=Path), required=True, help="Folder that the server serves.")
@click.option("--learning-dir", help="Folder of the versions, as the server's --conf learning_dir.  [default: model]")
@click.option("--device", help="cpu, cuda or cuda:N.  [default: first GPU, else cpu]")
@click.option(
    "--precision", default="auto", show_default=True, help="auto, fp32 or bf16, as the server's --conf precision."
)
@pass_app_dir
def score(
    app_dir: Path, preset: str, studies: Path, learning_dir: str | None, device: str | None, precision: str
) -> None:
    """Work out what the network sees in each image, for a server with --conf strategy coverage.

    That server does the same by itself, at low priority. What is scored already is passed over, so a run that was
    stopped goes on when the same command is given again. An image that cannot be scored is said, and the next one
    follows. Exit status 0: every image has a score; 1: some have none.

    \b
    Examples:
      sam3d score --preset ct --studies path/to/niftis
    """
    # Before torch is loaded: waiting threads leave the cores to the server.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from lib.activelearning.background import COVERAGE
    from lib.activelearning.scoring import FAILED, SCORED, UP_TO_DATE, NoFeatures
    from lib.configs.task_config import Sam3dAdapterConfig
    from lib.host.studies_datastore import StudiesDatastore
    from lib.models.checkpoint_error import CheckpointError
    from lib.serving.devices import DeviceError

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    conf = {"models": preset, "precision": precision, "strategy": "coverage"}
    conf |= {"learning_dir": learning_dir} if learning_dir else {}
    try:
        if not studies.is_dir():
            raise ValueError(f"The folder {studies} does not exist.")
        method = Sam3dAdapterConfig(app_dir, conf).scoring_methods()[COVERAGE]
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    request: dict[str, Any] = {"device": device} if device else {}
    try:
        counts = method(
            request, StudiesDatastore(str(studies.resolve())), lambda *done: click.echo("{}: {}".format(*done))
        )
    except (CheckpointError, DeviceError, NoFeatures, OSError) as error:
        raise click.ClickException(" ".join(str(error).split())) from error
    click.echo(f"{counts[SCORED]} scored, {counts[UP_TO_DATE]} up to date, {counts[FAILED]} without a score")
    raise SystemExit(1 if counts[FAILED] else 0)
