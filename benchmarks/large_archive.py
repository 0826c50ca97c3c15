"""What scoring costs by the volume, in one process and on workers side by side, and what 1,000 volumes would.

    python -m benchmarks.large_archive --data mr=HIPPOCAMPI/images --data ct=CTS/images

Seconds of a core are counted, which a busy machine changes little; the time on the clock is printed beside them.
"""

import argparse
import itertools
import os
import time
from functools import partial
from pathlib import Path

import torch

from lib.activelearning.scoring import ScoreCase, measure_features, score_case
from lib.evaluation.cases import ENDINGS
from lib.presets import load_presets
from lib.serving.preset_segmenter import OpenSegmenter, PresetSegmenter, SharedState
from lib.workers.choice import WorkerChoice
from lib.workflow.scores import WHOLE
from sam3d import APP_DIR

ARCHIVE = 1000


def timed(preset: str, segmenter: OpenSegmenter, case: ScoreCase) -> float:
    """Seconds of a core that the score of a case takes."""
    began = time.process_time()
    score_case(preset, segmenter, case)
    return time.process_time() - began


def measure(preset: str, folder: Path, most: int, workers: int) -> str:
    """A row of the table."""
    segmenter = PresetSegmenter(load_presets(APP_DIR / "configs", (preset,))[preset], APP_DIR, SharedState.of())
    files = itertools.islice((path for path in sorted(folder.iterdir()) if path.name.endswith(ENDINGS)), most)
    measures = {WHOLE: partial(measure_features, needed_of=preset)}
    cases = [ScoreCase(path.name, path.resolve(), measures, {}) for path in files]
    cells = [preset, str(len(cases))]
    for count in (1, workers):
        began, spent = time.perf_counter(), []
        with WorkerChoice(count).start(partial(segmenter.open, "cpu")) as started:
            for _, done in started.each(partial(timed, preset), cases):
                spent.append(done.result())
        mean = sum(spent) / len(spent)
        cells += [f"{mean:.3f}", f"{time.perf_counter() - began:.0f}", f"{mean * ARCHIVE / 60 / count:.1f}"]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", action="append", required=True, help="PRESET=FOLDER of images")
    parser.add_argument("--cases", type=int, default=60, help="most volumes of each folder")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # as a worker has
    of = "s of a core a volume | s on the clock | min for 1,000, extrapolated"
    print(f"| preset | volumes | one process: {of} | {arguments.workers} workers: {of} |")
    for text in arguments.data:
        preset, _, folder = text.partition("=")
        print(measure(preset, Path(folder), arguments.cases, arguments.workers), flush=True)
    print(f"Load of this machine meanwhile: {os.getloadavg()[1]:.0f} on {os.cpu_count()} cores.")


if __name__ == "__main__":
    main()
