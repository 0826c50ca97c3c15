"""``sam3d evaluate``: how good a preset is on labelled images; two finished runs compared."""

import logging
import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import click

from lib.cli.app_dir import pass_app_dir
from lib.cli.worker_options import with_workers
from lib.registry.errors import RegistryError
from lib.registry.registry import DEFAULT_LEARNING_DIR, Registry
from lib.registry.version import SHIPPED
from lib.workers.choice import IN_PROCESS, WorkerChoice
from lib.workers.each_case import WorkersError

if TYPE_CHECKING:
    from lib.evaluation.cases import Source
    from lib.presets import Preset

_PATH = click.Path(path_type=Path)
_MOST_JOBS = 8

logger = logging.getLogger("evaluate")


@click.command(short_help="Measure how good a preset is on your labelled images.")
@click.option("--images", type=_PATH, help="Folder of images, or the server's folder of studies.")
@click.option("--labels", type=_PATH, help="Folder of labels.  [default: labels/final or ../labels of --images]")
@click.option("--manifest", type=_PATH, help="In place of the two folders: JSON or CSV file that lists the cases.")
@click.option("--compare", type=_PATH, nargs=2, metavar="A B", help="Compare two finished runs: A minus B.")
@click.option("--preset", help="Which preset, a file of configs/.")
@click.option("--out", type=_PATH, help="Folder for the results; outside the data.")
@click.option(
    "--version",
    metavar="ID",
    help=f"Whose weights: an id of 'versions list'; {SHIPPED}: the preset's own.  [default: served, the server's]",
)
@click.option(
    "--learning-dir",
    type=_PATH,
    help=f"Folder of the versions, as the server's --conf learning_dir.  [default: {DEFAULT_LEARNING_DIR}]",
)
@click.option("--model", type=_PATH, help="Weights file in place of the preset's own.")
@click.option("--base", type=_PATH, help="What --model was trained on, where it is not the preset's own base.")
@click.option(
    "--modes",
    default="centre",
    show_default=True,
    help="How the simulated user clicks, with commas: centre, random, jitter, paper-K; all, paper.",
)
@click.option("--seeds", default="42,43,44", show_default=True, help="Of the modes that draw.")
@click.option(
    "--jobs", type=click.IntRange(min=1), help="Processes, without Ray.  [default: one for each core; 1 on a GPU]"
)
@with_workers
@click.option("--device", help="cpu, cuda or cuda:N.  [default: first GPU, else cpu]")
@click.option("--precision", type=click.Choice(("auto", "fp32", "bf16")), default="auto", show_default=True)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=90.0,
    show_default=True,
    help="Seconds after which a request counts as failed.",
)
@click.option("--labels-are-objects", is_flag=True, help="Each value of a label is a case of its own.")
@click.option("--patient", metavar="REGEX", help="Finds the patient in the name.  [default: the whole name]")
@click.option("--dataset", help="Name of the data.  [default: the folder's]")
@click.option("--split", help="Which split of the manifest.  [default: all]")
@pass_app_dir
def evaluate(app_dir: Path, **options: Any) -> None:
    """Measure how good a preset is on labelled images.

    A simulated user clicks on every object, through the code that serves users. Image and label have the same name.
    A run that was stopped goes on when the same command is given again. docs/evaluation.md says what is measured.

    \b
    Examples:
      sam3d evaluate --images DIR --labels DIR --preset ct --out OUT
      sam3d evaluate --manifest FILE --preset ct --out OUT
      sam3d evaluate --images DIR --labels DIR --preset ct --version v0003-1a2b3c4d --out OUT
      sam3d evaluate --compare OUT_OF_CANDIDATE OUT_OF_PRESENT
    """
    given = SimpleNamespace(**options)
    _check_usage(given)
    raise SystemExit(_run(app_dir, given))


def _check_usage(given: SimpleNamespace) -> None:
    if sum(source is not None for source in (given.images, given.manifest, given.compare)) != 1:
        raise click.UsageError("Give one of --images, --manifest and --compare.")
    if not given.compare and (given.preset is None or given.out is None):
        raise click.UsageError("--preset and --out are needed")
    if given.base is not None and given.model is None:
        raise click.UsageError("--base needs --model: weights fit no other base than their own")
    if given.jobs is not None and given.workers != IN_PROCESS:
        raise click.UsageError("--jobs is for work without Ray: give --workers alone")
    if given.version is not None and given.model is not None:
        raise click.UsageError("--version and --model name different weights: give one of them")


def _run(app_dir: Path, given: SimpleNamespace) -> int:
    """Exit status: 0, 1 with a line that says what is wrong, or 130 where it was interrupted."""
    # Before torch is loaded: waiting threads leave the cores to the other processes.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from lib.evaluation.cases import DataError
    from lib.evaluation.compare import CompareError
    from lib.evaluation.ledger import LedgerError
    from lib.evaluation.simulated_user import ModeError
    from lib.models.checkpoint import CheckpointError
    from lib.presets import PresetError
    from lib.serving.devices import DeviceError

    refused = (CheckpointError, CompareError, DataError, LedgerError, ModeError, DeviceError, PresetError)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logger.setLevel(logging.INFO)
    # A terminated run must take its processes and its temporary files along.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        if given.compare:
            _compare(given)
        else:
            _evaluate(app_dir, given)
    except (*refused, RegistryError, WorkersError, OSError) as error:
        logger.error("%s", " ".join(str(error).split()))
        return 1
    except KeyboardInterrupt:
        logger.error("Stopped. What is finished is kept; the same command goes on from there.")
        return 130
    return 0


def _evaluate(app_dir: Path, given: SimpleNamespace) -> None:
    from lib.evaluation.cases import DataError, Unpaired, unpaired
    from lib.evaluation.evaluate import Evaluation
    from lib.evaluation.evaluate import evaluate as evaluate_cases
    from lib.evaluation.evaluated_segmenter import SegmenterChoice
    from lib.evaluation.mode_lists import read_modes, read_seeds
    from lib.presets import load_presets
    from lib.serving.devices import read_device
    from lib.serving.preset_segmenter import how_to_supply

    preset = load_presets(app_dir / "configs", (given.preset,))[given.preset]
    for name, file in (("MODEL", given.model), ("BASE", given.base)):
        if file is not None and not file.is_file():
            raise DataError(f"{name}={file} is no file.")
    preset, version = _with_weights(app_dir, preset, given)
    missing = [path for path in (app_dir / file for file in preset.model.files) if not path.is_file()]
    if missing:
        raise DataError(how_to_supply(preset, missing, app_dir))
    device = read_device(given.device)
    sources = _sources(given)
    evaluation = Evaluation(
        choice=SegmenterChoice(app_dir, preset, device, given.precision),
        sources=sources,
        out=given.out,
        modes=read_modes(given.modes),
        seeds=read_seeds(given.seeds),
        timeout_s=given.timeout,
        labels_are_objects=given.labels_are_objects,
        split=given.split,
        unpaired=Unpaired() if given.manifest else unpaired(given.images, given.labels),
        version=version,
        workers=_workers(app_dir, given, device, sources),
    )
    if given.version is None and version not in (None, SHIPPED):
        logger.info("Preset %s serves version %s, so that is evaluated; VERSION=%s takes the preset's own weights.",
                    preset.name, version, SHIPPED)  # fmt: skip
    evaluate_cases(evaluation)
    text = (given.out / "summary.md").read_text(encoding="utf-8").partition("## Protocol")[0]
    sys.stdout.write(text)
    logger.info("%s/summary.json, summary.md, dice_per_click.png, cases.jsonl", given.out)


def _with_weights(app_dir: Path, preset: "Preset", given: SimpleNamespace) -> "tuple[Preset, str | None]":
    """The preset with the weights that are evaluated, and the version that they are; None for a file."""
    from lib.evaluation.cases import DataError
    from lib.evaluation.evaluated_version import SERVED, with_version

    if given.model is not None:
        return preset.with_weights(given.model, given.base), None
    # As the server does: against the app folder.
    folder = app_dir / (given.learning_dir or DEFAULT_LEARNING_DIR).expanduser()
    if given.learning_dir is not None and not folder.is_dir():
        raise DataError(f"LEARNING_DIR={given.learning_dir}: {folder} is no folder.")
    versions = Registry(folder).of(preset.name, preset.model.size, preset.model.family)
    return with_version(preset, versions, given.version or SERVED)


def _sources(given: SimpleNamespace) -> "list[Source]":
    from lib.evaluation.cases import DataError, from_folders, with_patients
    from lib.evaluation.manifest import from_manifest

    if given.manifest is not None:
        sources = from_manifest(given.manifest, split=given.split)
    elif given.split is not None:
        raise DataError("--split needs --manifest: folders know no splits.")
    else:
        sources = from_folders(given.images, given.labels, dataset=given.dataset)
    return with_patients(sources, given.patient)


def _workers(app_dir: Path, given: SimpleNamespace, device: str, sources: "list[Source]") -> WorkerChoice:
    if given.workers == IN_PROCESS:
        return WorkerChoice(given.jobs or _jobs(device), with_ray=False)
    folders = {file.parent for source in sources for file in (source.image, source.label)}
    return given.workers.reading(app_dir, *sorted(folders))


def _jobs(device: str) -> int:
    """A process for each core; of a GPU, whose memory they would share, one."""
    return 1 if device.startswith("cuda") else min(len(os.sched_getaffinity(0)), _MOST_JOBS)


def _compare(given: SimpleNamespace) -> None:
    from lib.evaluation.compare import compare, sentences
    from lib.evaluation.ledger import write_json

    result = compare(*given.compare)
    if given.out is not None:
        given.out.mkdir(parents=True, exist_ok=True)
        write_json(given.out / "comparison.json", result)
        (given.out / "comparison.txt").write_text("\n".join(sentences(result)) + "\n", encoding="utf-8")
    sys.stdout.write("\n".join(sentences(result)) + "\n")
