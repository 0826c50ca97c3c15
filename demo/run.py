"""``make demo``: clicks through the real server, Dice, times and pictures; and, on phantoms, the loop of learning."""

import argparse
import contextlib
import logging
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from demo import APP_DIR, REPOSITORY
from demo.client import Answer, send_clicks
from demo.loop import PATIENTS, WINDOW, Round, go_round
from demo.phantom import phantom_study
from demo.picture import PLANES, Scene, draw, draw_story
from demo.progress import Progress
from demo.study import DemoError, Study, Voxel, deepest_voxel, dice, parse_click, user_study
from lib.host.process.launch import LaunchError, running_server
from lib.presets import Preset, PresetError, load_presets
from lib.segmenters.intensity_settings import WindowIntensity

# Beyond that a second click would only correct the outermost voxels.
GOOD_DICE = 0.97
LEARNING = "demo_learning"


def main() -> int:
    arguments = _arguments()
    # A terminated demo must take its server along.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    logging.basicConfig(level=logging.WARNING)
    try:
        with tempfile.TemporaryDirectory(prefix="sam3d-demo-") as folder:
            run(arguments, Path(folder))
    except (DemoError, LaunchError, PresetError) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130
    return 0


def run(arguments: argparse.Namespace, folder: Path) -> None:
    """Make or fetch the volume, start the server, click twice, show what came.

    Args:
        arguments: of the command line.
        folder: an empty folder for files that need not stay.

    Raises:
        DemoError, LaunchError, PresetError: with what to do about it.
    """
    preset = load_presets(APP_DIR / "configs", (arguments.preset,))[arguments.preset]
    studies = folder / "studies"
    studies.mkdir()
    study = _study(arguments, studies)
    spacing = np.linalg.norm(study.affine[:3, :3], axis=0)
    print(
        f"  {study.image_id}: {' x '.join(map(str, study.image.shape))} voxels of "
        f"{' x '.join(f'{mm:.2f}' for mm in spacing)} mm; preset '{preset.name}'"
    )
    answers: list[tuple[str, list[Voxel], Answer]] = []
    log_path = arguments.out / "server.log"
    with contextlib.ExitStack() as stack:
        with Progress("Starting the server (MONAI Label, loopback only)"):
            server = stack.enter_context(
                running_server(APP_DIR, studies, log_path=log_path, port=arguments.port, conf=_conf(arguments))
            )
        with Progress(f"First click at {study.click}"):
            first = send_clicks(server.url, study, preset.name, [study.click], folder)
        answers.append(("first click", [study.click], first))
        click, is_missing = _next_click(study, first)
        foreground, background = ([study.click, click], []) if is_missing else ([study.click], [click])
        with Progress(f"Second click at {click}, {'on' if is_missing else 'beside'} the structure"):
            second = send_clicks(server.url, study, preset.name, foreground, folder, background)
        answers.append(("second click", [study.click, click], second))
        _print_table(study, answers)
        path = arguments.out / "demo.png"
        _picture(path, study, preset, answers)
        print(f"\npicture    {_short(path)}")
        if not answers[0][2].mask.any():
            raise DemoError("The mask is empty: the model sees nothing at this click.")
        if _shows_the_loop(arguments):
            picture = arguments.out / "loop.png"
            learned = go_round(server.url, preset.name, folder, picture)
            story = arguments.out / "story.png"
            draw_story(story, _story(study, preset, answers, learned))
            print(f"\npictures   {_short(picture)}, {_short(story)}")
            for page in sorted((arguments.out / LEARNING).rglob("versions.html")):
                print(f"versions   {_short(page)}")
    print(f"server log {_short(log_path)}")


def _shows_the_loop(arguments: argparse.Namespace) -> bool:
    return arguments.studies is None and not arguments.no_loop


def _conf(arguments: argparse.Namespace) -> dict[str, str]:
    """What is learned from phantoms stays out of the app's own folder."""
    learning = arguments.out / LEARNING
    shutil.rmtree(learning, ignore_errors=True)
    return {"learning_dir": str(learning)}


def _study(arguments: argparse.Namespace, studies: Path) -> Study:
    if arguments.studies is None:
        if arguments.image is not None or arguments.click is not None:
            raise DemoError("IMAGE= and CLICK= need STUDIES=, the folder of the volume.")
        with Progress(f"Making a phantom (seed {arguments.seed})"):
            return phantom_study(studies, seed=arguments.seed)
    click = None if arguments.click is None else parse_click(arguments.click)
    with Progress("Reading the volume"):
        return user_study(studies, arguments.studies, arguments.image, click)


def _next_click(study: Study, answer: Answer) -> tuple[Voxel, bool]:
    """Deep inside the largest error, as a user would click, and whether the mask misses it.

    The same voxel again where nothing is known to be wrong.
    """
    if study.truth is None or dice(answer.mask, study.truth) > GOOD_DICE:
        return study.click, True
    missed, excess = study.truth & ~answer.mask, answer.mask & ~study.truth
    is_missing = missed.sum() >= excess.sum()
    return deepest_voxel(missed if is_missing else excess, study.affine), bool(is_missing)


def _print_table(study: Study, answers: Sequence[tuple[str, list[Voxel], Answer]]) -> None:
    voxel_ml = abs(float(np.linalg.det(study.affine[:3, :3]))) / 1000
    print()
    for name, clicks, answer in answers:
        overlap = "" if study.truth is None else f"Dice {dice(answer.mask, study.truth):.3f}  "
        volume = float(answer.mask.sum()) * voxel_ml
        print(f"{name:<13}{clicks[-1]!s:<18}{overlap}mask {volume:.1f} ml  {answer.seconds:.2f} s in all")
        if answer.stages_ms:
            print(" " * 13 + ", ".join(f"{stage} {ms:.0f} ms" for stage, ms in answer.stages_ms.items()))
        for warning in answer.warnings:
            print(" " * 13 + f"warning: {warning}")


def _picture(path: Path, study: Study, preset: Preset, answers: Sequence[tuple[str, list[Voxel], Answer]]) -> None:
    first, second = (answer for _, _, answer in answers)
    overlap = "" if study.truth is None else f"Dice {dice(first.mask, study.truth):.3f}, "
    draw(
        path,
        image=study.image,
        affine=study.affine,
        clicks=np.array([study.click]),
        mask=first.mask,
        truth=study.truth,
        window=_window(preset, study.image),
        title=f"One click: {overlap}{first.seconds:.1f} s; the next click in {second.seconds:.1f} s",
        subtitle=f"{study.what}; preset '{preset.name}', voxel {study.click}",
    )


def _story(
    study: Study, preset: Preset, answers: Sequence[tuple[str, list[Voxel], Answer]], learned: Round
) -> list[Scene]:
    """A click, its correction, and a click before and after learning."""
    assert study.truth is not None  # of a phantom
    scenes = []
    for title, (_, clicks, answer) in zip(("1. One click", "2. A second click corrects"), answers, strict=True):
        text = f"{title}: Dice {dice(answer.mask, study.truth):.2f}"
        window = _window(preset, study.image)
        scenes.append(
            Scene(text, study.image, study.affine, np.array(clicks[-1]), answer.mask, study.truth, window, PLANES[1])
        )
    new = learned.study
    for title, answer in (("3. A new kind of lesion", learned.before), (f"4. After {PATIENTS} labels", learned.after)):
        text = f"{title}: Dice {dice(answer.mask, learned.truth):.2f}"
        scenes.append(Scene(text, new.image, new.affine, np.array(new.click), answer.mask, learned.truth, WINDOW))
    return scenes


def _window(preset: Preset, image: np.ndarray) -> tuple[float, float]:
    """Black and white of the picture: the preset's own window, or nearly all of what the volume holds."""
    if isinstance(preset.intensity, WindowIntensity):
        return preset.intensity.clip_hu
    values = image[::2, ::2, ::2]
    low, high = np.percentile(values[np.isfinite(values) & (values != 0)], (1, 99.5))
    return float(low), float(high)


def _short(path: Path) -> Path:
    return path.relative_to(REPOSITORY) if path.is_relative_to(REPOSITORY) else path


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m demo.run", description=__doc__)
    parser.add_argument("--studies", type=Path, help="folder of your own NIfTI volumes; without it a phantom is made")
    parser.add_argument("--image", help="which volume of the folder")
    parser.add_argument("--click", help="voxel index i,j,k; without it, deep inside the label of the same name")
    parser.add_argument("--preset", default="ct", help="task preset, a file of configs/ (default: %(default)s)")
    parser.add_argument("--port", type=int, help="TCP port of the server (default: a free one)")
    parser.add_argument("--no-loop", action="store_true", help="click only, without submitting labels and training")
    parser.add_argument("--seed", type=int, default=12, help="which phantom (default: %(default)s)")
    parser.add_argument(
        "--out", type=Path, default=REPOSITORY / "demo" / "out", help="folder of the picture and the log"
    )
    arguments = parser.parse_args()
    arguments.out = arguments.out.resolve()
    return arguments


if __name__ == "__main__":
    raise SystemExit(main())
