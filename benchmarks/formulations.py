"""What the cheap formulations save: time and peak memory beside the plain ones, same weights, one run.

python -m benchmarks.formulations [--sizes tiny vit_b] [--threads 2]

Each row runs in a fresh process, so that its peak memory is its own; the rows of one size follow one another, so that a
shared machine's noise falls on all of them. The ROI has 128 voxels a side; weights are random.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from benchmarks.plain import plain_decode, plain_encode
from lib.models.build import build_model
from lib.models.prompts import Prompts
from lib.models.sam3d import Sam3dAdapter

T = TypeVar("T")


def peak_mib() -> float:
    """Largest resident set of this process so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def timed(function: Callable[[], T], repeats: int) -> tuple[T, float]:
    """Result and median seconds."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = function()
        seconds.append(time.perf_counter() - start)
    return result, statistics.median(seconds)


def measure(model: Sam3dAdapter, form: str, repeats: int) -> tuple[float, float, float]:
    """Seconds of encode, of a further click, and of a first click as a whole."""
    roi = torch.randn(1, 1, 128, 128, 128, generator=torch.Generator().manual_seed(0))
    clicks = torch.tensor([[[64.0, 64.0, 64.0]]])
    if form == "ours":
        embedding, encode = timed(lambda: model.encode(roi), repeats)
        _, click = timed(lambda: model.decode(embedding, Prompts(clicks)), repeats)
        return encode, click, encode + click
    maps: list[Tensor]
    maps, encode = timed(lambda: plain_encode(model.image_encoder, roi), repeats)
    _, decode = timed(lambda: plain_decode(model, roi, maps, clicks), repeats)
    # Nothing is kept between clicks: each one pays for both.
    return encode, encode + decode, encode + decode


def one_row(size: str, form: str, dtype: str, repeats: int) -> None:
    """Measure in this process and print a row of the table."""
    torch.manual_seed(0)  # the same weights in the process of every row
    model = build_model(size)
    base = peak_mib()
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == "bf16"):
        encode, click, first = measure(model, form, repeats)
    print(
        f"| {size} | {form} | {dtype} | {encode:.2f} | {click:.2f} | {first:.2f} | {peak_mib():.0f} | {base:.0f} |",
        flush=True,
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["tiny", "vit_b"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--row", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.row:
        size, form, dtype = arguments.row
        one_row(size, form, dtype, repeats=5 if size == "tiny" else 1)
        return
    print("| size | form | type | encode s | further click s | first click s | peak MiB | of it before the first ROI |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for size in arguments.sizes:
        for dtype in ("fp32", "bf16"):
            for form in ("plain", "ours"):
                command = [sys.executable, "-m", "benchmarks.formulations", "--threads", str(arguments.threads)]
                subprocess.run([*command, "--row", size, form, dtype], check=True)


if __name__ == "__main__":
    main()
