"""Clicks on real volumes through the running server: right place, right grid, and what each stage costs.

python -m benchmarks.real_volumes --data DIR [--cases 4] [--result FILE]

DIR holds hippocampus, sts_ct, sts_mr_t1 (images/, labels/) and dicom/ (series of .dcm files). The first click is the
voxel deepest inside the label; the second request adds a click in the same region. DICOM goes through Orthanc.
Dice stands in the table for orientation only: the shipped weights were trained on most of these sarcomas.
"""

import argparse
import itertools
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import requests
from scipy.ndimage import distance_transform_edt, gaussian_filter

from benchmarks.results import Row, add_option, report
from demo.client import Answer, send_clicks
from demo.study import Study, deepest_voxel, dice, user_study
from tests.support.orthanc import missing_orthanc, start_orthanc
from tests.support.server import copy_app, start_server

PRESETS = {"hippocampus": "mr", "sts_ct": "ct", "sts_mr_t1": "mr"}


@dataclass(frozen=True)
class Clicked:
    """One case: where it was clicked and what came back.

    Attributes:
        case: Set and image.
        shape: Of the image.
        inside: Whether the clicked voxel belongs to the mask.
        offset_mm: From the click to the nearest voxel of the mask.
        dice: With the label, or None without one.
        first: Answer to one click.
        second: Answer to a further click in the same region.
    """

    case: str
    shape: tuple[int, ...]
    inside: bool
    offset_mm: float
    dice: float | None
    first: Answer
    second: Answer


def click_twice(url: str, study: Study, preset: str, case: str, folder: Path) -> Clicked:
    """Click, then click again two voxels further."""
    first = send_clicks(url, study, preset, [study.click], folder)
    i, j, k = study.click
    second = send_clicks(url, study, preset, [study.click, (min(i + 2, study.image.shape[0] - 1), j, k)], folder)
    spacing = np.linalg.norm(study.affine[:3, :3], axis=0)
    offset = float(distance_transform_edt(~first.mask, sampling=spacing)[study.click]) if first.mask.any() else np.inf
    score = None if study.truth is None else dice(first.mask, study.truth)
    return Clicked(case, study.image.shape, bool(first.mask[study.click]), offset, score, first, second)


def nifti_cases(data: Path, cases: int, folder: Path) -> Iterator[Clicked]:
    """The first cases of each labelled set, one server for all of them."""
    studies = folder / "studies"
    studies.mkdir()
    chosen = [
        (name, path) for name in PRESETS for path in sorted((data / name / "images").glob("*.nii.gz"))[:cases]
    ]  # fmt: skip
    prepared = []
    for name, path in chosen:
        own = folder / f"{name}_{path.name}"
        own.mkdir()
        study = user_study(own, data / name / "images", path.name, None)
        target = studies / f"{name}_{path.name}"
        target.write_bytes(path.read_bytes())
        prepared.append((name, target.name.removesuffix(".nii.gz"), study))
    with start_server(copy_app(folder / "app"), studies, folder / "server") as server:
        for name, image_id, study in prepared:
            renamed = Study(studies, image_id, study.image, study.affine, study.click, study.truth, study.what)
            yield click_twice(server.url, renamed, PRESETS[name], image_id, folder)


def organ_click(image: np.ndarray, affine: np.ndarray) -> tuple[int, int, int]:
    """A voxel deep inside the largest soft-tissue organ of an abdominal CT, for series without a label."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    smooth = gaussian_filter(image.astype(np.float32), 2 / spacing)
    i, j, k = deepest_voxel((smooth > 60) & (smooth < 160), affine)
    return i, j, k


def dicom_cases(data: Path, folder: Path) -> Iterator[Clicked]:
    """Every CT series of the DICOM folder, through a PACS."""
    series = [d for d in sorted((data / "dicom").iterdir()) if d.is_dir()]
    with start_orthanc(folder / "orthanc") as orthanc:
        uids = {}
        for one in series:
            datasets = [pydicom.dcmread(path) for path in sorted(one.glob("*.dcm"))]
            if datasets and datasets[0].Modality == "CT":
                orthanc.store(datasets)
                uids[one.name] = datasets[0].SeriesInstanceUID
        with start_server(copy_app(folder / "dicom_app"), orthanc.dicomweb_url, folder / "dicom_server") as server:
            for name, uid in uids.items():
                converted = folder / f"{name}.nii.gz"
                converted.write_bytes(_download(server.url, uid))
                volume = nib.load(converted)
                image = np.asarray(volume.dataobj)
                click = organ_click(image, volume.affine)
                study = Study(folder, uid, image, volume.affine, click, None, name)
                yield click_twice(server.url, study, "ct", f"dicom {name}", folder)


def _download(url: str, image_id: str) -> bytes:
    response = requests.get(f"{url}/datastore/image", params={"image": image_id}, timeout=120)
    response.raise_for_status()
    return response.content


def told(case: Clicked) -> Row:
    """A row of the table."""
    stages = ("load", "resample", "encode", "decode", "paste", "write")
    return {
        "case": case.case,
        "voxels": " x ".join(map(str, case.shape)),
        "click in mask": "yes" if case.inside else f"{case.offset_mm:.1f} mm away",
        "Dice": None if case.dice is None else round(case.dice, 2),
        **{f"{stage} ms": round(case.first.stages_ms.get(stage, 0)) for stage in stages},
        "request ms": round(case.first.seconds * 1000),
        "further click ms": round(case.second.seconds * 1000),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cases", type=int, default=4, help="of each labelled set")
    add_option(parser)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        cases = [nifti_cases(arguments.data, arguments.cases, Path(name))]
        if reason := missing_orthanc():
            print(f"DICOM left out: {reason}", file=sys.stderr)
        else:
            cases.append(dicom_cases(arguments.data, Path(name)))
        report(map(told, itertools.chain(*cases)), "one run", arguments.result)


if __name__ == "__main__":
    main()
