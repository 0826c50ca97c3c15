"""``sam3d calibrate``: learning from the submitted labels to predict the Dice of answers."""

import logging
from pathlib import Path
from typing import Any

import click

from lib.cli.served_folder import on_served_folder, open_served_folder


@click.command(short_help="Learn from submitted labels to predict the Dice of answers.")
@on_served_folder(reads_labels=True)
def calibrate(app_dir: Path, preset: str, device: str | None, **options: Any) -> None:
    """Click on the labels of patients whom the served version never learned from, and learn what its answers are worth.

    From then on answers carry a predicted Dice, and one that 9 in 10 of them reach. It needs 20 such patients. The
    server does the same by itself, at low priority, and so does each training at its end. Exit status 0: Dice is
    predicted; 1: it is not, with the reason.

    \b
    Examples:
      sam3d calibrate --preset ct --studies path/to/niftis
    """
    config, datastore = open_served_folder(app_dir, preset, **options)
    from lib.serving.devices import DeviceError, read_device

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        trainers, on = config.trainers(), read_device(device)
    except DeviceError as error:
        raise click.UsageError(str(error)) from error
    if preset not in trainers:
        raise click.UsageError(f"Preset {preset} has no network whose answers can be predicted.")
    try:
        found = trainers[preset].calibrate(datastore, on)
    except (ValueError, OSError) as error:
        raise click.ClickException(" ".join(str(error).split())) from error
    click.echo(f"Dice is predicted from {found.patients} patients.")
