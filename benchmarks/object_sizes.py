"""First masks of objects far smaller and far larger than an ROI, through the running server: time and Dice.

python -m benchmarks.object_sizes [--preset ct] [--diameters 12 30 60 120 200 300] [--result FILE]

A CT of 512 x 512 x 300 voxels for each, with a ball that is brighter than what is around it by 80 HU in noise of 18 HU,
and one click in its middle. The weights are loaded before; the volume is read by the request that is timed, as it is
for the first click of a user. Times in ms.
"""

import argparse
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np

from benchmarks.results import Row, add_option, report
from demo.client import Answer, send_clicks
from demo.study import Study
from tests.support.server import APP_DIR, copy_app, start_server

SHAPE, SPACING = (512, 512, 300), (0.8, 0.8, 1.25)
STAGES = ("load", "resample", "encode", "decode", "paste", "write", "total")


def write_ball(folder: Path, diameter_mm: float) -> Study:
    """The image, alone in what MONAI Label serves, and its truth."""
    off = [((np.arange(n) - n // 2) * mm) ** 2 for n, mm in zip(SHAPE, SPACING, strict=True)]
    truth = off[0][:, None, None] + off[1][:, None] + off[2] <= (diameter_mm / 2) ** 2
    noise = np.random.default_rng(0).standard_normal(SHAPE, dtype=np.float32) * 18
    image = (noise + 80 * truth).astype(np.int16)
    affine = np.diag([*SPACING, 1.0])
    name = f"ball_{diameter_mm:g}"
    nib.save(nib.Nifti1Image(image, affine), folder / f"{name}.nii.gz")
    i, j, k = (n // 2 for n in SHAPE)
    return Study(folder, name, image, affine, (i, j, k), truth, f"ball of {diameter_mm:g} mm")


def row(diameter_mm: float, study: Study, answer: Answer) -> Row:
    """Of the table."""
    assert study.truth is not None  # every ball has one
    dice = 2 * np.count_nonzero(answer.mask & study.truth) / (answer.mask.sum() + study.truth.sum())
    stages = {f"{stage} ms": round(answer.stages_ms.get(stage, 0.0)) for stage in STAGES}
    own = {"diameter mm": diameter_mm, "encoder passes": answer.encodes, "Dice": round(float(dice), 3)}
    return {**own, **stages, "client ms": round(answer.seconds * 1000)}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="ct")
    parser.add_argument("--diameters", type=float, nargs="+", default=[12, 30, 60, 120, 200, 300], help="mm")
    add_option(parser)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        studies = Path(folder) / "studies"
        studies.mkdir()
        # Weights are loaded with the very first click of a server.
        warm = write_ball(studies, 20)
        balls = {diameter_mm: write_ball(studies, diameter_mm) for diameter_mm in arguments.diameters}
        with start_server(copy_app(Path(folder) / "app", source=APP_DIR), studies, Path(folder) / "run") as server:
            send_clicks(server.url, warm, arguments.preset, [warm.click], Path(folder))
            asked = (
                row(mm, study, send_clicks(server.url, study, arguments.preset, [study.click], Path(folder)))
                for mm, study in balls.items()
            )
            report(asked, "1 request a size", arguments.result)


if __name__ == "__main__":
    main()
