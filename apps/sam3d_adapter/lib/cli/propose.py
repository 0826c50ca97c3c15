"""``sam3d propose``: masks of one structure for cases that nobody has labelled, for people to correct."""

import logging
import os
from pathlib import Path

import click

from lib.cli.app_dir import pass_app_dir


@click.command(short_help="Propose masks for unlabelled images, to be corrected.")
@click.option("--preset", required=True, help="With whose network.")
@click.option("--structure", required=True, help="What to look for, as it is called in the labels that there are.")
@click.option("--studies", type=click.Path(path_type=Path), required=True, help="Folder that the server serves.")
@click.option("--learning-dir", help="Folder of the versions, as the server's --conf learning_dir.  [default: model]")
@click.option("--device", help="cpu, cuda or cuda:N.  [default: first GPU, else cpu]")
@click.option(
    "--precision", default="auto", show_default=True, help="auto, fp32 or bf16, as the server's --conf precision."
)
@pass_app_dir
def propose(
    app_dir: Path,
    preset: str,
    structure: str,
    studies: Path,
    learning_dir: str | None,
    device: str | None,
    precision: str,
) -> None:
    """Save a mask of STRUCTURE, with a confidence, for each image that has no label, draft or mark.

    It clicks where the structure lies in the labels that were submitted; three at least are needed. A run that was
    stopped goes on when the same command is given again. Exit status 0: done; 1: some images failed.

    \b
    Examples:
      sam3d propose --preset mr --structure hippocampus --studies path/to/niftis
    """
    # Before torch is loaded: waiting threads leave the cores to the server.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from lib.activelearning.proposing import FAILED, NOTHING, PROPOSED, UP_TO_DATE, NoPlace
    from lib.configs.task_config import Sam3dAdapterConfig
    from lib.host.studies_datastore import StudiesDatastore
    from lib.models.checkpoint_error import CheckpointError
    from lib.serving.devices import DeviceError
    from lib.serving.preset_segmenter import MissingWeightsError

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    conf = {"models": preset, "precision": precision} | ({"learning_dir": learning_dir} if learning_dir else {})
    try:
        if not studies.is_dir():
            raise ValueError(f"The folder {studies} does not exist.")
        proposing = Sam3dAdapterConfig(app_dir, conf).proposing(preset)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    try:
        counts = proposing(
            structure,
            StudiesDatastore(str(studies.resolve())),
            device=device,
            told=lambda *done: click.echo("{}: {}".format(*done)),
        )
    except (CheckpointError, DeviceError, MissingWeightsError, NoPlace, OSError) as error:
        raise click.ClickException(" ".join(str(error).split())) from error
    click.echo(
        f"{counts[PROPOSED]} proposed, {counts[UP_TO_DATE]} up to date, {counts[NOTHING]} with nothing found, "
        f"{counts[FAILED]} failed"
    )
    raise SystemExit(1 if counts[FAILED] else 0)
