"""Fine-tune a preset on a folder of studies from the command line, on one or several GPUs or machines.

    python finetune.py --preset ct --studies DIR
    torchrun --nproc-per-node 4 finetune.py --preset ct --studies DIR

It does what MONAI Label's train button does, with the same labels, split, gate and registry: the final labels that the
server saved in DIR. A server that runs on the same app folder serves what the gate publishes.
"""

import argparse
import json
import logging
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from monailabel.datastore.local import LocalDatastore

from lib.configs.task_config import Sam3dAdapterConfig
from lib.learning.settings import TrainSettings, read_settings
from lib.training.distributed import joined_processes, rank

logger = logging.getLogger(__name__)


def main(app_dir: Path, arguments: Sequence[str] | None = None) -> int:
    """The exit status: 0 where a version was made, 1 where not.

    Args:
        app_dir: the app folder.
        arguments: of the command line.
    """
    parser = argparse.ArgumentParser(
        prog="finetune.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", required=True, help="whose network")
    parser.add_argument("--studies", type=Path, required=True, help="folder that MONAI Label serves")
    parser.add_argument("--learning-dir", help="as the server's --conf learning_dir")
    parser.add_argument("--patient-pattern", help="as the server's --conf patient_pattern")
    parser.add_argument("--precision", default="auto", help="as the server's --conf precision")
    for setting in fields(TrainSettings):
        parser.add_argument(f"--{setting.name.replace('_', '-')}", help=f"as '{setting.name}' of a request to train")
    read = parser.parse_args(arguments)
    request = {name: value for name in (f.name for f in fields(TrainSettings)) if (value := getattr(read, name))}
    conf = {"models": read.preset, "precision": read.precision}
    conf |= {key: value for key in ("learning_dir", "patient_pattern") if (value := getattr(read, key))}
    try:
        settings = read_settings(request)
        if not read.studies.is_dir():
            raise ValueError(f"The folder {read.studies} does not exist.")
        config = Sam3dAdapterConfig(app_dir, conf)
    except ValueError as error:
        parser.error(str(error))
    with joined_processes(settings.device) as device:
        logging.basicConfig(level=logging.WARNING if rank() else logging.INFO, format="%(asctime)s %(message)s")
        trainers = config.trainers()
        if read.preset not in trainers:
            parser.error(f"Preset {read.preset} has no network that can be fine-tuned.")
        datastore = LocalDatastore(str(read.studies.resolve()), auto_reload=False)
        outcome = trainers[read.preset]({**request, "device": str(device)}, datastore)
        if rank() or not outcome:
            return 0
    print(json.dumps(outcome, indent=1))
    return 0 if outcome["version"] else 1
