"""``sam3d calibrate``: learning from the submitted labels to predict the Dice of answers."""

import logging
import os
from pathlib import Path

import click

from lib.cli.app_dir import pass_app_dir


@click.command(short_help="Learn from submitted labels to predict the Dice of answers.")
@click.option("--preset", required=True, help="Of which preset, such as ct.")
@click.option("--studies", type=click.Path(path_type=Path), required=True, help="Folder that the server serves.")
@click.option("--learning-dir", help="Folder of the versions, as the server's --conf learning_dir.  [default: model]")
@click.option("--patient-pattern", help="As the server's --conf patient_pattern.")
@click.option("--train-on", help="submitted or accepted, as the server's --conf train_on.  [default: submitted]")
@click.option("--device", help="cpu, cuda or cuda:N.  [default: first GPU, else cpu]")
@click.option(
    "--precision", default="auto", show_default=True, help="auto, fp32 or bf16, as the server's --conf precision."
)
@pass_app_dir
def calibrate(
    app_dir: Path,
    preset: str,
    studies: Path,
    learning_dir: str | None,
    patient_pattern: str | None,
    train_on: str | None,
    device: str | None,
    precision: str,
) -> None:
    """Click on the labels of patients whom the served version never learned from, and learn what its answers are worth.

    From then on answers carry a predicted Dice, and one that 9 in 10 of them reach. It needs 20 such patients. The
    server does the same by itself, at low priority, and so does each training at its end. Exit status 0: Dice is
    predicted; 1: it is not, with the reason.

    \b
    Examples:
      sam3d calibrate --preset ct --studies path/to/niftis
    """
    # Before torch is loaded: waiting threads leave the cores to the server.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from lib.configs.task_config import Sam3dAdapterConfig
    from lib.host.studies_datastore import StudiesDatastore
    from lib.serving.devices import read_device

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    conf = {"models": preset, "precision": precision}
    conf |= {"learning_dir": learning_dir} if learning_dir else {}
    conf |= {"patient_pattern": patient_pattern} if patient_pattern else {}
    conf |= {"train_on": train_on} if train_on else {}
    try:
        if not studies.is_dir():
            raise ValueError(f"The folder {studies} does not exist.")
        trainers, on = Sam3dAdapterConfig(app_dir, conf).trainers(), read_device(device)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if preset not in trainers:
        raise click.UsageError(f"Preset {preset} has no network whose answers can be predicted.")
    try:
        found = trainers[preset].calibrate(StudiesDatastore(str(studies.resolve())), on)
    except (ValueError, OSError) as error:
        raise click.ClickException(" ".join(str(error).split())) from error
    click.echo(f"Dice is predicted from {found.patients} patients.")
