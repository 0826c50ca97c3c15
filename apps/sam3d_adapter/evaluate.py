"""How good a preset is on labelled images: a simulated user clicks on every object, through the code that serves users.

    evaluate.py --images DIR --labels DIR --preset ct --out OUT
    evaluate.py --manifest FILE --preset ct --out OUT
    evaluate.py --images DIR --labels DIR --preset ct --version v0003-1a2b3c4d --out OUT
    evaluate.py --compare OUT_OF_CANDIDATE OUT_OF_PRESENT

What is measured is told in docs/evaluation.md. A run that was stopped goes on when the same command is given again.
"""

import argparse
import logging
import os
import signal
import sys
from pathlib import Path

# Before torch is loaded: waiting threads leave the cores to the other processes.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from lib.evaluation.cases import DataError, Source, Unpaired, from_folders, unpaired, with_patients
from lib.evaluation.compare import CompareError, compare, sentences
from lib.evaluation.evaluate import Evaluation, evaluate
from lib.evaluation.evaluated_task import TaskChoice, with_weights
from lib.evaluation.evaluated_version import SERVED, with_version
from lib.evaluation.interaction import TIMEOUT_S
from lib.evaluation.ledger import LedgerError, write_json
from lib.evaluation.manifest import from_manifest
from lib.evaluation.run import RunError
from lib.evaluation.simulated_user import ModeError, clicks_at_once
from lib.infers.missing_weights import how_to_supply
from lib.infers.options import OptionError, read_device
from lib.models.checkpoint_error import CheckpointError
from lib.models.precision import PRECISIONS
from lib.presets import Preset, PresetError, load_presets
from lib.registry.errors import RegistryError
from lib.registry.registry import DEFAULT_LEARNING_DIR, Registry
from lib.registry.version import SHIPPED

APP_DIR = Path(__file__).resolve().parent
MODE_SETS = {
    "all": ("centre", "random", "jitter"),
    "paper": ("paper-1", "paper-3", "paper-10"),
}
_MOST_JOBS = 8
_REFUSED = (
    *(CheckpointError, CompareError, DataError, LedgerError, ModeError, OptionError, PresetError),
    *(RegistryError, RunError),
)

logger = logging.getLogger("evaluate")


def main(command: list[str] | None = None) -> int:
    """Reads the command line; the exit status is 0, or 1 with a line that says what is wrong."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logger.setLevel(logging.INFO)
    # A terminated run must take its processes and its temporary files along.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    arguments = _arguments(command)
    try:
        if arguments.compare:
            _compare(arguments)
        else:
            _evaluate(arguments)
    except (*_REFUSED, OSError) as error:
        logger.error("%s", " ".join(str(error).split()))
        return 1
    except KeyboardInterrupt:
        logger.error("Stopped. What is finished is kept; the same command goes on from there.")
        return 130
    return 0


def _evaluate(arguments: argparse.Namespace) -> None:
    preset = load_presets(APP_DIR / "configs", (arguments.preset,))[arguments.preset]
    for name, file in (("MODEL", arguments.model), ("BASE", arguments.base)):
        if file is not None and not file.is_file():
            raise DataError(f"{name}={file} is no file.")
    preset, version = _with_weights(preset, arguments)
    missing = [path for path in (APP_DIR / file for file in preset.model.files) if not path.is_file()]
    if missing:
        raise DataError(how_to_supply(preset.name, preset.model.size, missing, APP_DIR))
    device = read_device(arguments.device)
    evaluation = Evaluation(
        choice=TaskChoice(APP_DIR, preset, device, arguments.precision),
        sources=_sources(arguments),
        out=arguments.out,
        modes=_modes(arguments.modes),
        seeds=_seeds(arguments.seeds),
        jobs=arguments.jobs or _jobs(device),
        timeout_s=arguments.timeout,
        labels_are_objects=arguments.labels_are_objects,
        split=arguments.split,
        unpaired=Unpaired() if arguments.manifest else unpaired(arguments.images, arguments.labels),
        version=version,
    )
    if arguments.version is None and version not in (None, SHIPPED):
        logger.info("Preset %s serves version %s, so that is evaluated; VERSION=%s takes the preset's own weights.",
                    preset.name, version, SHIPPED)  # fmt: skip
    evaluate(evaluation)
    text = (arguments.out / "summary.md").read_text(encoding="utf-8").partition("## Protocol")[0]
    sys.stdout.write(text)
    logger.info("%s/summary.json, summary.md, dice_per_click.png, cases.jsonl", arguments.out)


def _with_weights(preset: Preset, arguments: argparse.Namespace) -> tuple[Preset, str | None]:
    """The preset with the weights that are evaluated, and the version that they are; None for a file."""
    if arguments.model is not None:
        return with_weights(preset, arguments.model, arguments.base), None
    # As the server does: against the app folder.
    folder = APP_DIR / (arguments.learning_dir or DEFAULT_LEARNING_DIR).expanduser()
    if arguments.learning_dir is not None and not folder.is_dir():
        raise DataError(f"LEARNING_DIR={arguments.learning_dir}: {folder} is no folder.")
    versions = Registry(folder).of(preset.name, preset.model.size, preset.model.family)
    return with_version(preset, versions, arguments.version or SERVED)


def _compare(arguments: argparse.Namespace) -> None:
    result = compare(*arguments.compare)
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
        write_json(arguments.out / "comparison.json", result)
        (arguments.out / "comparison.txt").write_text("\n".join(sentences(result)) + "\n", encoding="utf-8")
    sys.stdout.write("\n".join(sentences(result)) + "\n")


def _sources(arguments: argparse.Namespace) -> list[Source]:
    if arguments.manifest is not None:
        sources = from_manifest(arguments.manifest, split=arguments.split)
    elif arguments.split is not None:
        raise DataError("--split needs --manifest: folders know no splits.")
    else:
        sources = from_folders(arguments.images, arguments.labels, dataset=arguments.dataset)
    return with_patients(sources, arguments.patient)


def _modes(text: str) -> tuple[str, ...]:
    modes: list[str] = []
    for name in filter(None, (part.strip() for part in text.split(","))):
        modes += MODE_SETS.get(name, (name,))
    for mode in modes:
        clicks_at_once(mode)  # raises for a mode that does not exist
    if not modes:
        raise ModeError("No mode is given.")
    return tuple(dict.fromkeys(modes))


def _seeds(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise ModeError(f"--seeds {text} are no whole numbers; give them like 42,43,44.")
    return tuple(dict.fromkeys(map(int, parts)))


def _jobs(device: str) -> int:
    """A process for each core; of a GPU, whose memory they would share, one."""
    return 1 if device.startswith("cuda") else min(len(os.sched_getaffinity(0)), _MOST_JOBS)


def _arguments(command: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="evaluate.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data = parser.add_mutually_exclusive_group(required=True)
    data.add_argument("--images", type=Path, help="folder of images, or of MONAI Label's studies")
    data.add_argument("--manifest", type=Path, help="JSON or CSV file that lists the cases")
    data.add_argument("--compare", type=Path, nargs=2, metavar=("A", "B"), help="two finished runs: A minus B")
    parser.add_argument("--labels", type=Path, help="folder of labels (default: labels/final or ../labels of --images)")
    parser.add_argument("--preset", help="task preset, a file of configs/")
    parser.add_argument("--out", type=Path, help="folder of the run; outside the data")
    parser.add_argument(
        "--version", metavar="ID", help=f"of the weights; {SHIPPED}: the preset's own; {SERVED} (default): the server's"
    )
    parser.add_argument(
        "--learning-dir",
        type=Path,
        help=f"folder of the versions, as the server's --conf learning_dir (default: {DEFAULT_LEARNING_DIR})",
    )
    parser.add_argument("--model", type=Path, help="weights in place of the preset's own")
    parser.add_argument("--base", type=Path, help="what --model was trained on, where it is not the preset's own base")
    parser.add_argument(
        "--modes", default="centre", help="with commas: centre, random, jitter, paper-K; all, paper (default: centre)"
    )
    parser.add_argument("--seeds", default="42,43,44", help="of the modes that draw (default: %(default)s)")
    parser.add_argument("--jobs", type=int, help="processes (default: one for each core; 1 on a GPU)")
    parser.add_argument("--device", help="cpu, cuda or cuda:N (default: first GPU, else cpu)")
    parser.add_argument("--precision", choices=PRECISIONS, default="auto")
    parser.add_argument("--timeout", type=float, default=TIMEOUT_S, help="seconds for a request (default: %(default)g)")
    parser.add_argument("--labels-are-objects", action="store_true", help="each value of a label is a case of its own")
    parser.add_argument("--patient", metavar="REGEX", help="finds the patient in the name (default: the whole name)")
    parser.add_argument("--dataset", help="name of the data (default: the folder's)")
    parser.add_argument("--split", help="of the manifest; default: all")
    arguments = parser.parse_args(command)
    if not arguments.compare and (arguments.preset is None or arguments.out is None):
        parser.error("--preset and --out are needed")
    if arguments.base is not None and arguments.model is None:
        parser.error("--base needs --model: weights fit no other base than their own")
    if arguments.version is not None and arguments.model is not None:
        parser.error("--version and --model name different weights: give one of them")
    if arguments.jobs is not None and arguments.jobs < 1:
        parser.error("--jobs must be 1 or more")
    if arguments.timeout <= 0:
        parser.error("--timeout must be above 0")
    return arguments


if __name__ == "__main__":
    raise SystemExit(main())
