"""``sam3d finetune``: a training as the server starts it, from the command line and on several processes."""

import json
import logging
from pathlib import Path
from typing import Any

import click

from lib.cli.served_folder import on_served_folder, open_served_folder

# What a request to train may say; values are read as the server reads them.
_SETTINGS = (
    click.option("--max-epochs", help="Epochs of 50 steps, at most; it ends earlier without a gain.  [default: 10]"),
    click.option("--max-minutes", help="A limit in time as well.  [default: none]"),
    click.option("--parent", help="Version to start from: served, best, shipped or an id.  [default: served]"),
    click.option("--label-name", help="The one structure to learn.  [default: what the preset says]"),
    click.option("--started-by", help="Who wants it; it is kept with the version.  [default: unnamed]"),
    click.option("--tracking", help="Write the curve there as well: tensorboard or mlflow.  [default: none]"),
    click.option("--fresh", help="true: drop a training that was stopped, in place of going on.  [default: false]"),
    click.option("--publish", help="false: keep the version without publishing it.  [default: true]"),
    click.option("--seed", help="Of everything that is drawn.  [default: 1]"),
)


def _settings(command: Any) -> Any:
    for option in reversed(_SETTINGS):
        command = option(command)
    return command


@click.command(short_help="Train a preset on the labels that were submitted.")
@on_served_folder(reads_labels=True)
@_settings
def finetune(
    app_dir: Path,
    preset: str,
    studies: str,
    learning_dir: str | None,
    patient_pattern: str | None,
    train_on: str | None,
    precision: str,
    **settings: str | None,
) -> None:
    """Train a preset on the final labels that the server saved in its folder of studies.

    Labels, split, gate and registry are those of the server. A server with the same app folder serves what the gate
    publishes. Exit status 0: a version was made; 1: none was, with the reasons.

    \b
    Examples:
      sam3d finetune --preset ct --studies path/to/niftis
      torchrun --nproc-per-node 4 -m sam3d finetune --preset ct --studies path/to/niftis
    """
    config, datastore = open_served_folder(
        app_dir,
        preset,
        studies,
        learning_dir=learning_dir,
        patient_pattern=patient_pattern,
        train_on=train_on,
        precision=precision,
    )
    from lib.learning.settings import read_settings
    from lib.serving.preset_segmenter import MissingWeightsError
    from lib.training.distributed import joined_processes, rank

    request = {name: value for name, value in settings.items() if value}
    try:
        device_wanted = read_settings(request).device
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    with joined_processes(device_wanted) as device:
        logging.basicConfig(level=logging.WARNING if rank() else logging.INFO, format="%(asctime)s %(message)s")
        trainers = config.trainers()
        if preset not in trainers:
            raise click.UsageError(f"Preset {preset} has no network that can be fine-tuned.")
        try:
            outcome = trainers[preset]({**request, "device": str(device)}, datastore)
        except MissingWeightsError as error:
            raise click.ClickException(str(error)) from error
        if rank() or not outcome:
            return
    click.echo(json.dumps(outcome, indent=1))
    raise SystemExit(0 if outcome["version"] else 1)
