"""How often the checks of an image's values warn wrongly, and how often they notice values that are wrong.

python -m benchmarks.value_checks --data DIR [--answers] [--result FOLDER]

DIR holds data sets with a manifest.json (case, image, label, modality). Each image is checked with the preset of its
modality, whole and in fields of view of 48 mm around its structures, at a click in the middle of each of them; then
again with each corruption and with the presets of other modalities. ``--answers`` also segments each whole image but
the hippocampi, and counts warnings about the mask. Thresholds were chosen on every second volume of each data set (the
first, the third, ...), hippocampi left out; the tables have the others, and with ``--choice`` these.
"""

import argparse
import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import center_of_mass

from benchmarks.results import Row, add_option, report
from demo.study import deepest_voxel
from lib.answer_warnings import code_of
from lib.presets import Preset, load_presets
from lib.prompts.click import Click
from lib.prompts.prompts import Prompts
from lib.serving.preset_segmenter import PresetSegmenter, SharedState
from lib.values.checks import mask_warnings, value_warnings
from lib.volumes.read import read_array
from lib.volumes.volume import ImageError, Volume, make_volume

APP = Path(__file__).parent.parent / "apps" / "sam3d_adapter"
PRESETS = {"CT": "ct", "MR": "mr", "PET": "pet"}
NOT_FOR_CHOICE = "hippocampus"
FIELD_MM = 48.0
MOST_CLICKS = 8
LEAST_CHANGED = 0.005
"""Share of the voxels; what changes fewer is not counted."""
Array = NDArray[np.generic]


@dataclass(frozen=True)
class Case:
    """A volume and where it is clicked on.

    Attributes:
        data: name of the data set.
        name: of the volume.
        modality: ``CT``, ``MR`` or ``PET``.
        is_reported: whether it is of the half on which no threshold was chosen.
        array: (i, j, k).
        affine: (4, 4), voxel index to RAS mm.
        clicks: voxels, each in the middle of a structure.
    """

    data: str
    name: str
    modality: str
    is_reported: bool
    array: Array
    affine: Array
    clicks: tuple[tuple[int, ...], ...]


def cases(data: Path) -> Iterator[Case]:
    """The volumes of all data sets that have images, and the DICOM series."""
    for manifest in sorted(data.glob("*/manifest.json")):
        entries = json.loads(manifest.read_text(encoding="utf-8")).get("cases", ())
        for number, entry in enumerate(entry for entry in entries if "image" in entry):
            modality = {"PT": "PET"}.get(entry["modality"], entry["modality"])
            array, affine = read_array(_path(manifest, entry["image"]))
            label = read_array(_path(manifest, entry["label"]))[0] if "label" in entry else None
            clicks = _clicks(array, affine, label)
            is_reported = number % 2 == 1 or manifest.parent.name == NOT_FOR_CHOICE
            yield Case(manifest.parent.name, entry["case"], modality, is_reported, array, affine, clicks)
    for number, series in enumerate(path for path in sorted((data / "dicom").glob("*_ct")) if path.is_dir()):
        array, affine = read_array(series)
        yield Case("dicom", series.name, "CT", number % 2 == 1, array, affine, _clicks(array, affine, None))


def _path(manifest: Path, name: str) -> Path:
    beside = manifest.parent / name
    return beside if beside.exists() else manifest.parent.parent / name


def _clicks(array: Array, affine: Array, label: Array | None) -> tuple[tuple[int, ...], ...]:
    if label is not None:
        values = [value for value in np.unique(label) if value][:: max(1, len(np.unique(label)) // MOST_CLICKS)]
        return tuple(deepest_voxel(label == value, affine) for value in values)
    # Without a label: the middle of the body, and between it and the ends of the body.
    body = array > np.percentile(array, 60)
    middle = np.array(center_of_mass(body))
    inside = np.argwhere(body)
    return tuple(
        tuple(int(part) for part in inside[np.abs(inside - (middle + share * (end - middle))).sum(axis=1).argmin()])
        for end, share in ((inside.min(axis=0), 0.0), (inside.min(axis=0), 0.5), (inside.max(axis=0), 0.5))
    )


def field_of_view(case: Case, click: tuple[int, ...]) -> tuple[Array, tuple[int, ...]]:
    """What lies within half of ``FIELD_MM`` of a click, and the click in it."""
    spacing = np.linalg.norm(case.affine[:3, :3].astype(float), axis=0)
    first = [max(0, at - round(FIELD_MM / 2 / length)) for at, length in zip(click, spacing, strict=True)]
    box = tuple(slice(low, 2 * at - low + 1) for at, low in zip(click, first, strict=True))
    return case.array[box], tuple(at - low for at, low in zip(click, first, strict=True))


def _window(level: float, width: float) -> Callable[[Array], Array]:
    return lambda array: np.clip(array, level - width / 2, level + width / 2)


def _scaled(high: float) -> Callable[[Array], Array]:
    return lambda array: ((array - array.min()) / (float(np.ptp(array)) or 1.0) * high).astype(np.float32)


def _percentiles(low: float, high: float) -> Callable[[Array], Array]:
    return lambda array: np.clip(array, *np.percentile(array, [low, high]))


CT_CORRUPTIONS: Mapping[str, Callable[[Array], Array]] = {
    "HU + 1024": lambda array: (np.maximum(array, -1024) + 1024).astype(np.int32),
    "HU - 1024": lambda array: array.astype(np.int32) - 1024,
    "HU + 1000, padding -1000": lambda array: np.where(array <= -1000, -1000, array + 1000),
    "HU x 10": lambda array: array.astype(np.int32) * 10,
    "inverted": lambda array: 1000 - array.astype(np.int32),
    "0 to 1": _scaled(1),
    "0 to 255": _scaled(255),
    "0 to 255, uint8": lambda array: _scaled(255)(array).astype(np.uint8),
    "-1000 to 1000 HU as 0 to 255": lambda array: ((np.clip(array, -1000, 1000) + 1000) / 2000 * 255).astype(np.uint8),
    "z-score": lambda array: ((array - array.mean()) / (array.std() or 1)).astype(np.float32),
    "window 40/400": _window(40, 400),
    "window 50/350": _window(50, 350),
    "window -600/1500": _window(-600, 1500),
    "window 80/80": _window(80, 80),
    "window 300/1500": _window(300, 1500),
    "window 40/400 as 0 to 255": lambda array: _scaled(255)(_window(40, 400)(array)).astype(np.uint8),
    "constant": lambda array: np.full_like(array, 40),
}
OTHER_CORRUPTIONS: Mapping[str, Callable[[Array], Array]] = {
    "window of 2 to 98 %": _percentiles(2, 98),
    "window of 10 to 90 %": _percentiles(10, 90),
    "window of 0 to 99 %": _percentiles(0, 99),
    "constant": lambda array: np.full_like(array, 40),
}


def codes(preset: Preset, image: Volume, click: tuple[int, ...]) -> frozenset[str]:
    """What is said of an image that is clicked on once; ``refused`` where nothing can be segmented."""
    try:
        return frozenset(map(code_of, value_warnings(preset, image, Prompts((Click(click),)), None)))
    except ImageError:
        return frozenset({"refused"})


def volume(array: Array, affine: Array) -> Volume | None:
    """An image; None for an array that is none, such as a single slice."""
    try:
        return make_volume(np.asfortranarray(array), affine, "image")
    except ImageError:
        return None


class Counts:
    """Warnings by (data set, kind of image, preset, what was done to it)."""

    def __init__(self) -> None:
        self.checked: Counter[tuple[str, ...]] = Counter()
        self.warned: defaultdict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
        self.volumes: defaultdict[tuple[str, ...], set[str]] = defaultdict(set)

    def add(self, key: tuple[str, ...], case: Case, found: frozenset[str]) -> None:
        self.checked[key] += 1
        self.volumes[key].add(f"{case.data}/{case.name}")
        self.warned[key]["any"] += bool(found)
        self.warned[key].update(found)

    def rows(self, names: tuple[str, ...]) -> Iterator[Row]:
        for key, checked in self.checked.items():
            said = ", ".join(f"{code} {n}" for code, n in self.warned[key].most_common() if code != "any")
            yield {
                **dict(zip(names, key, strict=True)),
                "volumes": len(self.volumes[key]),
                "checks": checked,
                "warned": self.warned[key]["any"],
                "rate": round(self.warned[key]["any"] / checked, 3),
                "codes": said,
            }


def measure(data: Path, *, answers: bool, is_reported: bool) -> tuple[Counts, Counts, Counts, list[float]]:
    """False warnings, noticed corruptions, warnings about masks, and ms of the first check of each whole image."""
    presets = load_presets(APP / "configs", tuple(PRESETS.values()))
    false, true, lost, times = Counts(), Counts(), Counts(), []
    shared = SharedState.of()
    for case in cases(data):
        if case.is_reported != is_reported:
            continue
        right = presets[PRESETS[case.modality]]
        whole = volume(case.array, case.affine)
        views = [("whole", case.array, whole, click) for click in case.clicks]
        for click in case.clicks:
            part, moved = field_of_view(case, click)
            views.append((f"{FIELD_MM:.0f} mm", part, volume(part, case.affine), moved))
        for kind, _, image, click in views:
            if image is None:
                continue
            start = time.perf_counter()
            found = codes(right, image, click)
            if kind == "whole":
                times.append((time.perf_counter() - start) * 1000)
            false.add((case.data, kind, right.name), case, found)
            for other in presets.values():
                if other.name != right.name:
                    true.add((case.modality, kind, other.name, "as it is"), case, codes(other, image, click))
        corruptions = CT_CORRUPTIONS if case.modality == "CT" else OTHER_CORRUPTIONS
        for name, corrupt in corruptions.items():
            for kind, array, _, click in [views[0], views[len(case.clicks)]]:
                corrupted = corrupt(array)
                # A window that cuts nothing off leaves nothing to notice.
                changed = volume(corrupted, case.affine) if np.mean(corrupted != array) >= LEAST_CHANGED else None
                if changed is not None:
                    true.add((case.modality, kind, right.name, name), case, codes(right, changed, click))
        if answers and whole is not None and case.data != NOT_FOR_CHOICE:
            segmenter = PresetSegmenter(right, APP, shared)
            for click in case.clicks[:1]:
                segmentation = segmenter.segment(whole, Prompts((Click(click),)))
                found = frozenset(map(code_of, mask_warnings(right, whole, segmentation)))
                lost.add((case.data, "whole", right.name), case, found)
    return false, true, lost, times


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--answers", action="store_true", help="also segment, and count warnings about the mask")
    parser.add_argument("--choice", action="store_true", help="the half of the volumes on which thresholds were chosen")
    add_option(parser, ("value_checks_false", "value_checks_true", "value_checks_masks"))
    arguments = parser.parse_args()
    false, true, lost, times = measure(arguments.data, answers=arguments.answers, is_reported=not arguments.choice)
    print(f"first checks: median {np.median(times):.1f} ms, most {max(times):.1f} ms")
    of = ("data", "image", "preset")
    tables = {"false": (false, of), "true": (true, ("modality", "image", "preset", "values")), "masks": (lost, of)}
    for name, (counts, names) in tables.items():
        path = arguments.result / f"value_checks_{name}.json" if arguments.result else None
        if counts.checked:
            report(counts.rows(names), f"{len(set().union(*counts.volumes.values()))} volumes", path)


if __name__ == "__main__":
    main()
