"""What the commands on a server's studies share: their options, and the app as that server has it."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lib.cli.app_dir import pass_app_dir

if TYPE_CHECKING:
    from monailabel.datastore.local import LocalDatastore

    from lib.configs.task_config import Sam3dAdapterConfig

_OPTIONS = (
    click.option("--preset", required=True, help="Which preset, such as ct."),
    click.option("--studies", required=True, help="Folder, or DICOMweb address, that the server serves."),
    click.option(
        "--learning-dir", help="Folder of the versions, as the server's --conf learning_dir.  [default: model]"
    ),
    click.option("--device", help="cpu, cuda or cuda:N.  [default: first GPU, else cpu]"),
    click.option(
        "--precision", default="auto", show_default=True, help="auto, fp32 or bf16, as the server's --conf precision."
    ),
)
_LABEL_OPTIONS = (
    click.option("--patient-pattern", help="As the server's --conf patient_pattern."),
    click.option("--train-on", help="submitted or accepted, as the server's --conf train_on.  [default: submitted]"),
)


def on_served_folder(*, reads_labels: bool = False) -> Callable[[Any], Any]:
    """Gives a command the app folder as its first argument, and the options that `open_served_folder` takes.

    Args:
        reads_labels: whether it reads submitted labels as a training does.
    """

    def decorate(command: Any) -> Any:
        command = pass_app_dir(command)
        for option in reversed((*_OPTIONS, *(_LABEL_OPTIONS if reads_labels else ()))):
            command = option(command)
        return command

    return decorate


def open_served_folder(
    app_dir: Path, preset: str, studies: str, **conf: str | None
) -> tuple["Sam3dAdapterConfig", "LocalDatastore"]:
    """The app and the studies, as the server has them.

    Args:
        app_dir: the app folder.
        preset: the only one.
        studies: folder of images; or address of a PACS, of which series of the preset's modality are listed.
        conf: further settings of the server, without those that are empty.

    Raises:
        click.UsageError: the folder is missing, or a setting is wrong.
        click.ClickException: the PACS does not answer.
    """
    # Before torch is loaded: waiting threads leave the cores to the server.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from lib.configs.task_config import Sam3dAdapterConfig
    from lib.host.pacs.lists import modalities_for, with_fresh_lists
    from lib.host.pacs.open_pacs import PacsAway, open_pacs
    from lib.host.studies_datastore import StudiesDatastore

    is_pacs = studies.startswith(("http://", "https://"))
    try:
        if not (is_pacs or Path(studies).is_dir()):
            raise ValueError(f"The folder {studies} does not exist.")
        config = Sam3dAdapterConfig(app_dir, {"models": preset} | {key: value for key, value in conf.items() if value})
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if not is_pacs:
        return config, StudiesDatastore(str(Path(studies).resolve()))
    wanted = config.presets[preset]
    modalities = [{"PET": "PT"}.get(wanted.modality, wanted.modality)] if wanted.modality else modalities_for([wanted])
    try:
        return config, with_fresh_lists(open_pacs(studies), modalities, wanted.labels)
    except PacsAway as error:
        raise click.ClickException(str(error)) from error
