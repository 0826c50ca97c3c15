"""The program: ``sam3d COMMAND``, or ``python -m sam3d COMMAND`` in a checkout."""

from pathlib import Path

import click

from lib.cli.calibrate import calibrate
from lib.cli.convert import convert
from lib.cli.evaluate import evaluate
from lib.cli.finetune import finetune
from lib.cli.labels import labels
from lib.cli.propose import propose
from lib.cli.replay import replay
from lib.cli.score import score
from lib.cli.serve import serve
from lib.cli.versions import versions
from lib.cli.weights import weights
from sam3d import __version__
from sam3d.app_folder import AppFolderError, app_folder

COMMANDS = (serve, evaluate, finetune, calibrate, score, propose, versions, labels, replay, convert, weights)


class _InOrder(click.Group):
    """Lists the commands as they were added; the first ones are those that a newcomer needs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=_InOrder, context_settings={"max_content_width": 100, "show_default": True})
@click.option(
    "--app",
    type=click.Path(path_type=Path),
    envvar="SAM3D_APP",
    show_envvar=True,
    metavar="FOLDER",
    help="App folder: presets, weights, trained versions, logs. A new folder is filled with links to the program's "
    "own files.  [default: apps/sam3d_adapter in a checkout; ~/.local/share/sam3d_adapter if installed]",
)
@click.version_option(__version__, prog_name="sam3d")
@click.pass_context
def main(ctx: click.Context, app: Path | None) -> None:
    """Click on a structure in OHIF, 3D Slicer or MITK and get its 3-D mask.

    This program starts the server, measures how good it is on your images, and trains it on the labels that you
    submitted. Research use only, not a medical device.

    \b
    Examples:
      sam3d serve --studies path/to/niftis            3D Slicer: http://127.0.0.1:8000
      sam3d serve --studies http://pacs/dicom-web     OHIF: http://127.0.0.1:8000/ohif/
      sam3d evaluate --images DIR --labels DIR --preset ct --out RUN
      sam3d finetune --studies path/to/niftis --preset ct
      sam3d COMMAND --help
    \b
    In a checkout that is not installed: python -m sam3d COMMAND
    """

    def found() -> Path:
        try:
            return app_folder(app)
        except AppFolderError as error:
            raise click.ClickException(str(error)) from error

    ctx.obj = found


for command in COMMANDS:
    main.add_command(command)


if __name__ == "__main__":
    main()
