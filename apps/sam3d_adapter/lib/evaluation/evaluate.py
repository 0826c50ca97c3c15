"""An evaluation from its settings to its folder."""

import contextlib
import dataclasses
import importlib.metadata
import logging
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from lib.audit.machine import processor, software
from lib.evaluation.cases import Case, DataError, Source, Unpaired, data_hash, read_truth, split_hash
from lib.evaluation.evaluated_segmenter import COLD_REQUESTS, SegmenterChoice
from lib.evaluation.interaction import standing
from lib.evaluation.ledger import Ledger
from lib.evaluation.metrics import TOLERANCES_MM
from lib.evaluation.pictures import draw_case
from lib.evaluation.record import ImageFree, Record
from lib.evaluation.report import write_report
from lib.evaluation.run import LazyTask, Plan, find_cases, run, watched
from lib.evaluation.simulated_user import JITTER_SIGMA_MM, SimulatedClick
from lib.evaluation.statistics import CONFIDENCE, RESAMPLES, SEED
from lib.evaluation.summary import summarise
from lib.files.checksums import file_sha256
from lib.models.checkpoint_error import CheckpointError
from lib.presets import Preset
from lib.volumes.read import read_volume
from lib.workers.choice import IN_PROCESS, WorkerChoice
from lib.workers.each_case import Workers

WORST = 3
NO_BASELINES = "The preset has no section 'blind', so no baselines stand beside the scores."
FOREGROUND_ONLY = "The model knows no background clicks: it was given the foreground clicks alone."

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What is evaluated, and how.

    Attributes:
        choice: the segmenter.
        sources: images and labels.
        out: folder of the run.
        modes: of the simulated user.
        seeds: see ``Plan``.
        timeout_s: of a request.
        labels_are_objects: whether each value of a label is a case.
        split: name of the split, if one was chosen.
        unpaired: volumes that lie beside the sources and have no partner.
        version: id of the version whose weights the task has; None where they are of none.
        workers: where cases are clicked on.
    """

    choice: SegmenterChoice
    sources: Sequence[Source]
    out: Path
    modes: tuple[str, ...]
    seeds: tuple[int, ...]
    _: dataclasses.KW_ONLY
    timeout_s: float
    labels_are_objects: bool = False
    split: str | None = None
    unpaired: Unpaired = Unpaired()
    version: str | None = None
    workers: WorkerChoice = IN_PROCESS


def evaluate(evaluation: Evaluation) -> dict[str, Any]:
    """Clicks on every case, or on those that an earlier, stopped run left; writes the folder.

    Returns:
        What ``summary.json`` holds.

    Raises:
        DataError, LedgerError, WorkersError: see there.
        CheckpointError: weights that are missing or do not verify.
    """
    choice = evaluation.choice
    _require_own_folder(evaluation)
    weights, takes_background = _weights(choice)
    image_free = choice.preset.image_free
    plan = Plan(
        modes=evaluation.modes,
        seeds=evaluation.seeds,
        model=_model(evaluation, weights),
        image_free=ImageFree(image_free.ball_mm, image_free.ellipsoid) if image_free else None,
        timeout_s=evaluation.timeout_s,
    )
    with (
        _temporary_folder() as temporary,
        evaluation.workers.start(partial(LazyTask, choice, temporary), device=choice.device) as workers,
    ):
        cases, empty = find_cases(evaluation.sources, workers, labels_are_objects=evaluation.labels_are_objects)
        ledger = Ledger(evaluation.out, _settings(evaluation, plan))
        records = run(cases, plan, workers, ledger)
        summary = summarise(records)
        alone = evaluation.unpaired
        summary["left_out"] = {
            "empty": empty,
            "images_without_label": len(alone.images),
            "labels_without_image": len(alone.labels),
        }
        summary["notes"] = _notes(summary, records, plan, takes_background=takes_background) + _left_alone(alone)
        summary["protocol"] = _protocol(evaluation, plan, cases)
        summary["worst"] = _draw_worst(summary["mode"], cases, records, evaluation.out, workers)
    write_report(evaluation.out, summary, records)
    return summary


def _require_own_folder(evaluation: Evaluation) -> None:
    out = evaluation.out.resolve()
    for source in evaluation.sources:
        for home in {source.image.resolve().parent, source.label.resolve().parent}:
            if out == home or home in out.parents:
                raise DataError(f"OUT={evaluation.out} lies in the folder of the data {home}; choose one outside.")


def _weights(choice: SegmenterChoice) -> tuple[str, bool]:
    """sha256 of the weights, and whether their model knows background clicks; fails before any worker does."""
    segmenter = choice.preset_segmenter()
    opened = segmenter.open(choice.device)
    if opened.model_version != file_sha256(segmenter.spec.weights):
        raise CheckpointError(f"{segmenter.spec.weights} was replaced meanwhile. Start again.")
    return opened.model_version, opened.segmenter.capabilities.background_clicks


def _model(evaluation: Evaluation, weights: str) -> dict[str, str]:
    """What the records name; scores depend on the weights alone, so the version is no setting."""
    model = {"id": evaluation.choice.preset.name, "sha256": weights}
    return model if evaluation.version is None else {**model, "version": evaluation.version}


def _settings(evaluation: Evaluation, plan: Plan) -> dict[str, Any]:
    """All that a score depends on, but for the data."""
    choice = evaluation.choice
    return {
        "protocol": {
            "clicks": plan.clicks,
            "tolerances_mm": list(TOLERANCES_MM),
            "jitter_sigma_mm": JITTER_SIGMA_MM,
            "timeout_s": plan.timeout_s,
            "labels_are_objects": evaluation.labels_are_objects,
        },
        "preset": choice.preset.name,
        "preset_sha256": _without_folders(choice).sha256(),
        "weights_sha256": plan.model["sha256"],
        "blind": None if plan.image_free is None else [*plan.image_free.ball_mm, plan.image_free.ellipsoid],
        "device": choice.device,
        "precision": choice.precision,
        "software": _versions(),
        # Of a checkout: what is between a click and its mask changes with it, not with the version's number.
        "commit": _commit(choice.app_dir),
    }


def _without_folders(choice: SegmenterChoice) -> Preset:
    """The preset without the place of its weights, whose checksum stands beside it."""
    model = dataclasses.replace(choice.preset.model, files=())
    return dataclasses.replace(choice.preset, model=model)


def _protocol(evaluation: Evaluation, plan: Plan, cases: Sequence[Case]) -> dict[str, Any]:
    """What a figure is to be quoted with."""
    choice = evaluation.choice
    return {
        "model": {"id": plan.model["id"], "version": evaluation.version, "weights_sha256": plan.model["sha256"]},
        "modes": list(plan.modes),
        "seeds": list(plan.seeds),
        "seed_of_centre": plan.seeds[0],
        "clicks": plan.clicks,
        "tolerances_mm": list(TOLERANCES_MM),
        "jitter_sigma_mm": JITTER_SIGMA_MM,
        "timeout_s": plan.timeout_s,
        "interval": f"percentile bootstrap over patients, {RESAMPLES} resamples, seed {SEED}, {CONFIDENCE:.0%}",
        "cold_start": f"the first {COLD_REQUESTS} requests of each process, on noise; in no other figure",
        "request": "the segmenter called in its own process; no HTTP, no file of the mask",
        "datasets": sorted({case.source.dataset for case in cases}),
        "split": evaluation.split or "all",
        "split_sha256": split_hash(cases),
        "data_sha256": data_hash(cases),
        "device": choice.device,
        "processor": processor(choice.device),
        "threads": choice.threads,
        "jobs": evaluation.workers.count,
        "precision": choice.precision,
        "software": _versions(),
        "commit": _commit(choice.app_dir),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _notes(summary: dict[str, Any], records: Sequence[Record], plan: Plan, *, takes_background: bool) -> list[str]:
    notes = []
    if plan.image_free is None:
        notes.append(NO_BASELINES)
    if not takes_background:
        notes.append(FOREGROUND_ONLY)
    if summary["left_out"]["empty"]:
        notes.append(f"{summary['left_out']['empty']} label(s) without a voxel were left out.")
    failed = [record for record in records if any(record["failed"])]
    if failed:
        names = sorted({record["case"] for record in failed})
        notes.append(
            f"{len(names)} case(s) had failed requests, which score 0 and stay in every mean: "
            f"{', '.join(names[:5])}{' ...' if len(names) > 5 else ''}. The first: {failed[0]['error']}"
        )
    withdrawn = sum(record["withdrawn"] for record in records)
    if withdrawn:
        notes.append(f"{withdrawn} click(s) were taken back, because a later one in the same voxel had the other sign.")
    return notes


def _left_alone(alone: Unpaired) -> list[str]:
    kinds = (("image", alone.images, "a label"), ("label", alone.labels, "an image"))
    return [
        f"{len(names)} {kind}(s) without {partner} of the same name were left out: {', '.join(names[:5])}"
        f"{' ...' if len(names) > 5 else ''}."
        for kind, names, partner in kinds
        if names
    ]


def _draw_worst(
    mode: str, cases: Sequence[Case], records: Sequence[Record], out: Path, workers: Workers[LazyTask]
) -> list[dict[str, Any]]:
    """Pictures of the cases of lowest Dice after the last click, and what they are."""
    own = [record for record in records if record["mode"] == mode]
    worst: dict[str, Record] = {}
    for record in sorted(own, key=lambda record: (record["dice"][-1], record["case"], record["seed"])):
        worst.setdefault(record["case"], record)
    by_id = {case.id: case for case in cases}
    for old in out.glob("worst_*.png"):
        old.unlink()
    items = [
        (by_id[name], record, out / f"worst_{rank}.png")
        for rank, (name, record) in enumerate(list(worst.items())[:WORST], start=1)
    ]
    for (_, _, path), done in watched(workers.each(_picture, items), len(items), "drawing"):
        if done.exception() is None and (picture := done.result()):
            path.write_bytes(picture)
    return [
        {"case": case.id, "dice": record["dice"], "picture": path.name if path.exists() else None}
        for case, record, path in items
    ]


def _picture(make: LazyTask, item: tuple[Case, Record, Path]) -> bytes | None:
    """A PNG file; None where none can be drawn."""
    case, record, _ = item
    clicks = standing(
        [SimulatedClick(tuple(c["ijk"]), tuple(c["intended_ijk"]), c["positive"]) for c in record["clicks"]]
    )
    truth = read_truth(case)
    # An answer depends on the clicks alone, so the last one is had by asking once more.
    try:
        volume = read_volume(case.source.image)
        mask = make()[0](case.source.image, clicks).mask
        if mask.shape != truth.shape:
            return None
        one, last = record["dice"][0], record["dice"][-1]
        title = f"{case.id}, {record['mode']}: Dice {one:.3f} after the first request, {last:.3f} after the last"
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "worst.png"
            draw_case(path, volume.voxels.numpy(), volume.affine, truth, mask, clicks, title)
            return path.read_bytes()
    # Broad: a case that fails is among the worst and has nothing to be shown, and no picture is worth the figures.
    except Exception as error:
        logger.warning("No picture of %s: %s", case.id, getattr(error, "detail", error))
        return None


@contextlib.contextmanager
def _temporary_folder() -> Iterator[Path]:
    """For all that is written meanwhile; a process that is killed leaves nothing elsewhere."""
    before = tempfile.tempdir
    with tempfile.TemporaryDirectory(prefix="sam3d-evaluate-") as folder:
        try:
            yield Path(folder)
        finally:
            tempfile.tempdir = before


def _versions() -> dict[str, str]:
    names = ("monai", "scipy", "numpy")
    return {**software(), **{name: importlib.metadata.version(name) for name in names}}


def _commit(app_dir: Path) -> str | None:
    """The commit of the checkout, with ``+`` where it was changed; None where there is none."""
    git = ("git", "-C", str(app_dir))
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=20)
        status = subprocess.run(
            [*git, "status", "--porcelain", "--untracked-files=no"],
            capture_output=True, text=True, check=True, timeout=20,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return head.stdout.strip() + ("+" if status.stdout.strip() else "")
