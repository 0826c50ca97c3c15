"""``sam3d finetune``: a training as the server starts it, from the command line and on several processes."""

import json
import logging
import os
from pathlib import Path
from typing import Any

import click

from lib.cli.app_dir import pass_app_dir

# What a request to train may say; values are read as the server reads them.
_SETTINGS = (
    click.option("--max-epochs", help="Epochs of 50 steps, at most; it ends earlier without a gain.  [default: 10]"),
    click.option("--max-minutes", help="A limit in time as well.  [default: none]"),
    click.option("--parent", help="Version to start from: served, best, shipped or an id.  [default: served]"),
    click.option("--label-name", help="The one structure to learn.  [default: what the preset says]"),
    click.option("--started-by", help="Who wants it; it is kept with the version.  [default: unnamed]"),
    click.option("--device", help="cpu, cuda or cuda:N.  [default: first GPU, else cpu]"),
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
@click.option("--preset", required=True, help="Which preset to train, such as ct.")
@click.option("--studies", type=click.Path(path_type=Path), required=True, help="Folder that the server serves.")
@click.option("--learning-dir", help="Folder of the versions, as the server's --conf learning_dir.  [default: model]")
@click.option("--patient-pattern", help="As the server's --conf patient_pattern.")
@click.option("--train-on", help="submitted or accepted, as the server's --conf train_on.  [default: submitted]")
@click.option(
    "--precision",
    default="auto",
    show_default=True,
    help="auto, fp32 or bf16, as the server's --conf precision.",
)
@_settings
@pass_app_dir
def finetune(
    app_dir: Path,
    preset: str,
    studies: Path,
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
    # Before torch is loaded: waiting threads leave the cores to the server and to the other processes.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from lib.configs.task_config import Sam3dAdapterConfig
    from lib.host.studies_datastore import StudiesDatastore
    from lib.learning.settings import read_settings
    from lib.serving.preset_segmenter import MissingWeightsError
    from lib.training.distributed import joined_processes, rank

    request = {name: value for name, value in settings.items() if value}
    conf = {"models": preset, "precision": precision}
    conf |= {"learning_dir": learning_dir} if learning_dir else {}
    conf |= {"patient_pattern": patient_pattern} if patient_pattern else {}
    conf |= {"train_on": train_on} if train_on else {}
    try:
        device_wanted = read_settings(request).device
        if not studies.is_dir():
            raise ValueError(f"The folder {studies} does not exist.")
        config = Sam3dAdapterConfig(app_dir, conf)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    with joined_processes(device_wanted) as device:
        logging.basicConfig(level=logging.WARNING if rank() else logging.INFO, format="%(asctime)s %(message)s")
        trainers = config.trainers()
        if preset not in trainers:
            raise click.UsageError(f"Preset {preset} has no network that can be fine-tuned.")
        datastore = StudiesDatastore(str(studies.resolve()))
        try:
            outcome = trainers[preset]({**request, "device": str(device)}, datastore)
        except MissingWeightsError as error:
            raise click.ClickException(str(error)) from error
        if rank() or not outcome:
            return
    click.echo(json.dumps(outcome, indent=1))
    raise SystemExit(0 if outcome["version"] else 1)
