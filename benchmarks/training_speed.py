"""How many training steps of the tiny network an hour of one core gives, and what they are spent on.

python -m benchmarks.training_speed [--app DIR ...] [--steps 30] [--result FILE]

Each app (this one's by default; give an older checkout's beside it to compare) trains on the same phantoms, from the
shipped weights, with the same dialogues, in turns of a few steps each, so that a shared machine's noise falls on all.
A step has two regions, as in each of the processes that train together. Times are CPU time of one thread, in ms.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from time import process_time
from typing import Any

from benchmarks.results import Row, add_option, report
from lib.phantoms.data_set import write_phantoms

APP_DIR = Path(__file__).resolve().parents[1] / "apps" / "sam3d_adapter"
SEEDS = range(900_000, 900_006)
TURNS = 5
STAGES = ("sample", "encode", "decode", "click", "loss", "backward", "update", "other")


def measure(phantoms: Path, steps: int) -> None:
    """Train in the process of one app: a turn for each line of stdin, answered by the ms of each stage."""
    import torch

    from lib.models.checkpoint import load_model
    from lib.presets import load_preset
    from lib.training import interaction, interactions, train
    from lib.training.data_sets import DataSet
    from lib.training.sampling import for_training
    from lib.training.state import MovingAverage
    from lib.training.stream import SampleStream

    torch.set_num_threads(1)
    app = Path(train.__file__).resolve().parents[2]
    preset = load_preset(app / "configs/ct.yaml")
    base, weights = (app / "weights" / f"tiny_{part}.safetensors" for part in ("base", "lesions"))
    model: Any = load_model(size="tiny", base=base, weights=weights)[0].requires_grad_(True).train()
    batches = iter(SampleStream([DataSet(phantoms, preset)], for_training(preset.roi.size), seed=1))
    config = train.TrainingConfig(steps=1)
    objective = interactions.Interactions(model, config)
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=1e-5, fused=True)
    average = MovingAverage(model, config.ema_decay)
    spent: dict[str, float] = defaultdict(float)

    def timed(stage: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            began = process_time()
            try:
                return work(*given, **named)
            finally:
                spent[stage] += process_time() - began

        return call

    def update() -> None:
        torch.nn.utils.clip_grad_norm_(parameters, config.gradient_norm)
        optimizer.step()
        average.update(1000)

    model.encode, model.decode = timed("encode", model.encode), timed("decode", model.decode)
    interaction.corrective_click = timed("click", interaction.corrective_click)
    interactions.interaction_loss = timed("loss", interactions.interaction_loss)
    torch.Tensor.backward = timed("backward", torch.Tensor.backward)  # type: ignore[method-assign]
    draw, update = timed("sample", lambda: next(batches)), timed("update", update)
    step = 0
    for _ in sys.stdin:
        spent.clear()
        began = process_time()
        for _ in range(steps):
            optimizer.zero_grad()
            objective.loss(draw(), step).backward()
            update()
            step += 1
        total = process_time() - began
        spent["other"] = total - sum(spent.values())
        print(*(1000 * spent[stage] / steps for stage in STAGES), flush=True)


def compare(apps: list[Path], steps: int) -> list[Row]:
    """Medians over the turns of each app."""
    with tempfile.TemporaryDirectory() as folder:
        write_phantoms(Path(folder), SEEDS)
        measuring = f"from benchmarks.training_speed import measure, Path; measure(Path({folder!r}), {steps})"
        running = [
            subprocess.Popen(
                [sys.executable, "-c", f"import benchmarks, sys; sys.path.insert(0, {str(app)!r}); {measuring}"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
            )
            for app in apps
        ]  # fmt: skip
        turns: list[list[list[float]]] = [[] for _ in apps]
        for turn in range(TURNS + 1):
            for process, found in zip(running, turns, strict=True):
                process.stdin.write("\n")
                process.stdin.flush()
                values = [float(value) for value in process.stdout.readline().split()]
                if not values:
                    raise RuntimeError(f"{process.args[2]} ended without a result; its error stands above.")
                if turn:  # the first one reads the phantoms
                    found.append(values)
        for process in running:
            process.stdin.close()
            process.wait()
    rows: list[Row] = []
    for app, found in zip(apps, turns, strict=True):
        stages = {
            stage: statistics.median(column) for stage, column in zip(STAGES, zip(*found, strict=True), strict=True)
        }
        total = statistics.median(map(sum, found))
        row = {"app": app.parents[1].name, "steps an hour": round(3.6e6 / total), "step ms": round(total)}
        rows.append(row | {f"{stage} ms": round(ms, 1) for stage, ms in stages.items()})
    return rows


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--app", type=Path, nargs="+", default=[APP_DIR])
    parser.add_argument("--steps", type=int, default=30, help="of a turn")
    add_option(parser)
    arguments = parser.parse_args()
    rows = compare([app.resolve() for app in arguments.app], arguments.steps)
    report(rows, f"median of {TURNS} turns of {arguments.steps} steps", arguments.result)


if __name__ == "__main__":
    main()
