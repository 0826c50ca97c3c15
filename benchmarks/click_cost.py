"""What a click costs by stage, on a short and on a long CT, through the running server.

python -m benchmarks.click_cost [--slices 41 400] [--app DIR ...] [--result FILE]

Each app (this one's by default; give an older checkout's beside it to compare) is served in turn, and asked the same
requests about synthetic CTs of 512 x 512 voxels a slice, compressed as scanners' exports are. Times in ms, medians.
"""

import argparse
import itertools
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np

from benchmarks.results import Row, add_option, report
from demo.client import Answer, send_clicks
from demo.study import Study
from tests.support.server import APP_DIR, copy_app, start_server

STAGES = ("load", "resample", "encode", "decode", "paste", "write", "total")
REPEATS = 5


def write_ct(path: Path, slices: int) -> Study:
    """An ellipse of soft tissue with noise of 15 HU and a lesion in the middle; 0.8 x 0.8 x 1.5 mm."""
    rng = np.random.default_rng(slices)
    image = np.full((512, 512, slices), -1000, np.int16, order="F")
    i, j = (np.arange(512) - 256)[:, None], (np.arange(512) - 256)[None]
    body = (i / 200) ** 2 + (j / 140) ** 2 < 1
    for k in range(slices):
        tissue = 50 + 60 * (i**2 + j**2 + (2 * (k - slices // 2)) ** 2 < 18**2)
        image[..., k] = np.where(body, tissue, -1000) + rng.normal(0, 15, (512, 512))
    affine = np.diag([-0.8, -0.8, 1.5, 1.0])
    nib.save(nib.Nifti1Image(image, affine), path)
    name = path.name.removesuffix(".nii.gz")
    return Study(path.parent, name, image, affine, (256, 256, slices // 2), None, "synthetic CT")


def ask(url: str, study: Study, clicks: Sequence[tuple[int, int, int]], folder: Path) -> Answer:
    """One request to the preset ct."""
    return send_clicks(url, study, "ct", clicks, folder)


def row(app: str, slices: int, what: str, answers: list[Answer]) -> Row:
    """Of the table: medians in ms."""
    stages = {
        f"{stage} ms": round(statistics.median(answer.stages_ms.get(stage, 0.0) for answer in answers))
        for stage in STAGES
    }
    client = round(statistics.median(answer.seconds for answer in answers) * 1000)
    return {"version": app, "slices": slices, "request": what, **stages, "client ms": client}


def measure(app: Path, name: str, all_slices: Sequence[int], folder: Path) -> Iterator[Row]:
    """Serve one app, and ask it."""
    studies = folder / "studies"
    studies.mkdir(exist_ok=True)
    cts = {slices: write_ct(studies / f"ct_{slices}.nii.gz", slices) for slices in all_slices}
    warm = write_ct(studies / "warm.nii.gz", 12)
    with start_server(copy_app(folder / name, source=app), studies, folder / f"run_{name}") as server:
        # Weights are loaded with the very first click of a server.
        ask(server.url, warm, [warm.click], folder)
        for slices, study in cts.items():
            i, j, k = study.click
            first = ask(server.url, study, [study.click], folder)
            yield row(name, slices, "first click", [first])
            further = [ask(server.url, study, [study.click, (i + 2 + n, j, k)], folder) for n in range(REPEATS)]
            yield row(name, slices, "further click", further)
            elsewhere = [ask(server.url, study, [(i - 80 - 10 * n, j, k)], folder) for n in range(REPEATS)]
            yield row(name, slices, "click elsewhere", elsewhere)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, nargs="+", default=[41, 400])
    parser.add_argument("--app", type=Path, nargs="+", default=[APP_DIR])
    add_option(parser)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        apps = enumerate(arguments.app, start=1)
        rows = (measure(app.resolve(), f"app_{number}", arguments.slices, Path(folder)) for number, app in apps)
        n = f"median of {REPEATS} requests; first click: 1"
        report(itertools.chain.from_iterable(rows), n, arguments.result)


if __name__ == "__main__":
    main()
