"""A picture of masks after one click, good and bad, on structures that the weights never saw.

python -m benchmarks.first_clicks --data NAME=PRESET=FOLDER [--data ...] --out OUT --picture FILE

OUT is the folder of a finished `benchmarks.structures` or `benchmarks.dialogues` on the same data. Nobody chooses: of
all structures of at least 1 ml, by Dice after one click in the middle, those at 10, 50 and 90 % are drawn.
"""

import argparse
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # a file is wanted, on machines without display too

import matplotlib.pyplot as plt
import nibabel as nib
import numpy as np
from matplotlib.axes import Axes

from benchmarks.dialogues import Data
from benchmarks.structures import names_of
from benchmarks.views import APP
from lib.evaluation.evaluated_segmenter import SegmenterChoice
from lib.evaluation.ledger import read_records
from lib.evaluation.metrics import dice
from lib.evaluation.pictures import add_legend, draw_plane, upright
from lib.evaluation.simulated_user import SimulatedClick
from lib.presets import load_preset

SHARES = (0.1, 0.5, 0.9)
LEAST_ML = 1.0
WIDTH_MM = 160.0


def chosen(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those at `SHARES` of all that were clicked in the middle and are large enough to be seen, worst first."""
    large = [
        record
        for record in records
        if record["mode"] == "centre" and record["object_voxels"] * np.prod(record["spacing"]) / 1000 >= LEAST_ML
    ]
    large.sort(key=lambda record: (record["dice"][0], record["case"]))
    return [large[round(share * (len(large) - 1))] for share in SHARES]


def draw(panel: Axes, data: Data, record: dict[str, Any], name: str) -> None:
    """The axial plane through the click."""
    image = data.folder / "images" / f"{record['patient']}.nii.gz"
    label = np.asarray(nib.load(data.folder / "labels" / image.name).dataobj)
    truth = label == record["label"] if record["label"] is not None else label > 0
    ijk = tuple(record["clicks"][0]["ijk"])
    segment = SegmenterChoice(APP, load_preset(APP / "configs" / f"{data.preset}.yaml"), "cpu")()
    mask = segment(image, [SimulatedClick(ijk, ijk, True)]).mask
    volume = nib.load(image)
    arrays, (click,), (right, anterior, _) = upright(
        volume.affine, (np.asarray(volume.dataobj, np.float32), truth, mask), [ijk]
    )
    draw_plane(panel, [array[:, :, int(click[2])].T for array in arrays], (right, anterior))
    panel.plot(click[0] * right, click[1] * anterior, "+", color="#7CFC00", markersize=11, markeredgewidth=2)
    panel.set_xlim(click[0] * right + WIDTH_MM / 2, click[0] * right - WIDTH_MM / 2)
    panel.set_ylim(click[1] * anterior - WIDTH_MM / 2, click[1] * anterior + WIDTH_MM / 2)
    panel.set_facecolor("black")
    panel.set_title(f"{name.replace('_', ' ')}: Dice {dice(mask, truth):.2f}", fontsize=10)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", action="append", type=Data.parse, required=True, help="NAME=PRESET=FOLDER")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--picture", type=Path, required=True)
    arguments = parser.parse_args()
    figure, panels = plt.subplots(
        len(arguments.data), len(SHARES), squeeze=False, figsize=(10.5, 3.7 * len(arguments.data) + 0.4)
    )
    for row, data in zip(panels, arguments.data, strict=True):
        manifest = data.folder / "manifest.json"
        names = names_of(data.folder) if manifest.exists() else {}
        for panel, record in zip(row, chosen(read_records(arguments.out / data.name)), strict=True):
            name = names.get(record["patient"], {}).get(str(record["label"]), data.name)
            draw(panel, data, record, name)
    add_legend(figure)
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    figure.savefig(arguments.picture, dpi=90)


if __name__ == "__main__":
    main()
