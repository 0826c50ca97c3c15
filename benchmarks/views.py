"""What the zoom level of a first click decides, and what was tried in its place at test time.

python -m benchmarks.views --data NAME=PRESET=FOLDER [--data ...] [--held-out FILE] --out OUT [--result FILE]

FOLDER holds images/ and labels/. One click on each case, `centre` and `random` (docs/evaluation.md): Dice as served;
at each of several zoom levels; at the best of the preset's own ones, which nobody can know beforehand; and of masks
that are made of several: their mean probability, the one that agrees best with the others, the one that is surest of
its mask, and the mean over the mirrored images. Cases named in the file are left out. Writes OUT/views.json.
"""

import argparse
import functools
import json
import sys
from collections.abc import Set
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from scipy.ndimage import map_coordinates

from benchmarks.dialogues import MODES, Data
from benchmarks.results import add_option, report
from lib.evaluation.evaluated_segmenter import EvaluatedSegmenter, SegmenterChoice
from lib.evaluation.metrics import dice
from lib.evaluation.simulated_user import SimulatedUser
from lib.geometry.paste import paste_patches
from lib.geometry.roi import Roi, place_roi
from lib.presets import Preset, load_preset
from lib.prompts.click import Click
from lib.segmenters.contract import Stages
from lib.segmenters.roi.clicked_component import clicked_component
from lib.segmenters.roi.prediction import RoiPredictions
from lib.segmenters.roi.predictor import Predictor
from lib.segmenters.roi.zoom import ZoomedPrediction, predict_first_click, zoom_spacings_mm
from lib.volumes.volume import Volume, make_volume

APP = Path(__file__).resolve().parent.parent / "apps" / "sam3d_adapter"
SPACINGS_MM = (1.0, 1.4, 2.0, 2.8, 4.0, 5.6, 8.0)


class Viewer:
    """One image and one click, looked at from anywhere."""

    def __init__(self, task: EvaluatedSegmenter, preset: Preset, volume: Volume, click: Click) -> None:
        loaded = task.shared.models.get(task.segmenter.spec, "cpu")
        predictor = Predictor(loaded, task.shared.cache, task.shared.precision)
        self._predictions = RoiPredictions(volume, predictor, task.shared.cache, preset.intensity, Stages())
        self._preset, self._click = preset, click

    @functools.cached_property
    def first(self) -> ZoomedPrediction:
        """What users get."""
        return predict_first_click(self._predictions, self._preset.roi, self._click, 0.5)

    def probability(self, spacing_mm: float) -> np.ndarray:
        """(i, j, k) of the foreground at the image's voxels, NaN outside the view."""
        volume, preset = self._predictions.volume, self._preset.roi
        shape = volume.voxels.shape
        roi = place_roi(
            [self._click], shape, volume.affine, size=preset.size, spacing_mm=spacing_mm, roi_axes=preset.axes
        )
        logits = self._predictions(roi, [self._click])
        return _on_image(roi, torch.sigmoid(logits[1] - logits[0]).numpy())

    def mask(self, probability: np.ndarray) -> np.ndarray:
        """(i, j, k) bool: the clicked piece of what is more probable than not."""
        logits = torch.from_numpy(np.stack([np.full_like(probability, 0.5), np.nan_to_num(probability)]))
        return clicked_component(logits, np.array([self._click.ijk]))[1]


def _on_image(roi: Roi, values: np.ndarray) -> np.ndarray:
    voxels = np.indices(roi.image_shape).reshape(3, -1).T
    dhw = roi.ijk_to_dhw(voxels)
    inside = ((dhw >= -0.5) & (dhw <= np.array(roi.size_dhw) - 0.5)).all(axis=1)
    found = np.full(len(voxels), np.nan, np.float32)
    found[inside] = map_coordinates(values, dhw[inside].T, order=1, mode="nearest")
    return found.reshape(roi.image_shape)


def tried(
    task: EvaluatedSegmenter, preset: Preset, array: np.ndarray, affine: np.ndarray, truth: np.ndarray, click: Click
) -> dict[str, float]:
    """Dice of everything tried on one case, by name."""
    viewer = Viewer(task, preset, make_volume(array, affine, "image"), click)
    own_mm = zoom_spacings_mm(preset.roi)
    seen = {mm: viewer.probability(mm) for mm in dict.fromkeys((*own_mm, *SPACINGS_MM))}
    masks = {mm: viewer.mask(probability) for mm, probability in seen.items()}
    row = {"as served": dice(paste_patches([viewer.first.patch], 0.5) > 0, truth)}
    row |= {f"always {mm:g} mm": dice(masks[mm], truth) for mm in SPACINGS_MM}
    row["best own zoom level"] = max(dice(masks[mm], truth) for mm in own_mm)
    with np.errstate(invalid="ignore"):
        known = np.stack([seen[mm] for mm in own_mm])
    row["mean of own zoom levels"] = dice(viewer.mask(np.nanmean(known, axis=0, where=~np.isnan(known))), truth)
    agreed = [np.mean([dice(masks[a], masks[b]) for b in own_mm if b != a]) if len(own_mm) > 1 else 1 for a in own_mm]
    row["zoom level that others agree with"] = dice(masks[own_mm[int(np.argmax(agreed))]], truth)
    sure = [2 * seen[mm][masks[mm]].sum() / (masks[mm].sum() + np.nansum(seen[mm])) for mm in own_mm]
    row["surest zoom level"] = dice(masks[own_mm[int(np.argmax(sure))]], truth)
    row["mirrored, one zoom level"] = dice(_mirrored(viewer, task, preset, array, affine, click), truth)
    return row


def _mirrored(
    viewer: Viewer, task: EvaluatedSegmenter, preset: Preset, array: np.ndarray, affine: np.ndarray, click: Click
) -> np.ndarray:
    """The mask of the mean over the image and its three mirror images, at the view that was chosen for the image."""
    mm = viewer.first.roi.spacing_mm
    found = [viewer.probability(mm)]
    for axis in range(3):
        at = list(click.ijk)
        at[axis] = array.shape[axis] - 1 - at[axis]
        other = Viewer(task, preset, make_volume(np.flip(array, axis).copy(), affine, "mirrored"), Click((*at,)))
        found.append(np.flip(other.probability(mm), axis))
    return viewer.mask(np.mean(np.nan_to_num(found), axis=0))


def measure(data: Data, left_out: Set[str], limit: int | None) -> dict[str, list[dict[str, float]]]:
    """What `tried` gives for every case, by first click."""
    names = [name for name in data.cases() if name not in left_out]
    if limit:
        names = names[:: max(1, len(names) // limit)][:limit]
    preset = load_preset(APP / "configs" / f"{data.preset}.yaml")
    task = SegmenterChoice(APP, preset, "cpu")()
    found: dict[str, list[dict[str, float]]] = {mode: [] for mode in MODES}
    for number, name in enumerate(names, start=1):
        image = nib.load(data.folder / "images" / f"{name}.nii.gz")
        truth = np.asarray(nib.load(data.folder / "labels" / f"{name}.nii.gz").dataobj) > 0
        spacing = tuple(float(mm) for mm in image.header.get_zooms()[:3])
        for mode, rows in found.items():
            click = Click(SimulatedUser(truth, spacing, mode, 42, f"{name}.nii.gz").first_clicks()[0].ijk)
            rows.append(tried(task, preset, np.asarray(image.dataobj), image.affine, truth, click))
        print(f"{data.name}, {number} of {len(names)}: {name}", file=sys.stderr)
    return found


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", action="append", type=Data.parse, required=True, help="NAME=PRESET=FOLDER")
    parser.add_argument("--held-out", type=Path, help="names of cases that are left out, one a line")
    parser.add_argument("--limit", type=int, help="take so many cases of each folder, evenly")
    parser.add_argument("--out", type=Path, required=True)
    add_option(parser)
    arguments = parser.parse_args()
    left_out = set(arguments.held_out.read_text().split()) if arguments.held_out else set()
    found = {data.name: measure(data, left_out, arguments.limit) for data in arguments.data}
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "views.json").write_text(json.dumps(found, indent=1))
    columns = {f"{name} {mode}": rows for name, modes in found.items() for mode, rows in modes.items()}

    def mean(rows: list[dict[str, float]], answer: str) -> float:
        return round(float(np.mean([row[answer] for row in rows])), 3)

    n = ", ".join(f"{name}: {len(modes[MODES[0]])} cases" for name, modes in found.items())
    answers = next(iter(columns.values()))[0]
    rows = ({"answer": answer, **{name: mean(own, answer) for name, own in columns.items()}} for answer in answers)
    report(rows, n, arguments.result)


if __name__ == "__main__":
    main()
