"""The loop on a PACS: labels that were submitted through the server, and beside it, are found and learned from."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import requests
import SimpleITK as sitk
from dicomweb_client.api import DICOMwebClient
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from lib.annotations.label_snapshots import LabelSnapshots
from lib.registry.registry import Registry
from lib.registry.versions import Versions
from tests.e2e.scenes import LARGE, SMALL
from tests.support.dicom_study import Ellipsoid, Study
from tests.support.orthanc import Orthanc
from tests.support.server import APP_DIR, AppServer, start_server
from tests.support.small_app import copy_small_app

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(400),
    # MONAI Label's client closes no connection.
    pytest.mark.filterwarnings("ignore:Exception ignored in. <(socket|_io):pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def learner(orthanc: Orthanc, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppServer]:
    folder = tmp_path_factory.mktemp("pacs_learning")
    with start_server(copy_small_app(folder / "app"), orthanc.dicomweb_url, folder) as running:
        yield running


def submit(server: AppServer, study: Study, lesion: Ellipsoid, folder: Path) -> None:
    """Click, then save what a radiologist would have made of the answer."""
    params = {"foreground": [study.geometry.voxel(lesion.centre)], "result_extension": ".nrrd"}
    answer = requests.post(
        f"{server.url}/infer/test",
        params={"image": study.series_uid, "output": "image"},
        files={"params": (None, json.dumps(params))},
        timeout=120,
    )
    assert answer.status_code == 200, answer.text
    path = folder / f"{study.series_uid}.nrrd"
    path.write_bytes(answer.content)
    mask = sitk.ReadImage(str(path))
    label = sitk.GetImageFromArray(lesion.inside(study.geometry).astype(np.uint8).transpose())
    label.CopyInformation(mask)
    sitk.WriteImage(label, str(path))
    named = {"label_info": [{"name": "lesion", "idx": 1}]}
    server.client.save_label(study.series_uid, str(path), params=named)


def train(server: AppServer) -> dict[str, Any]:
    """One short round, to its end; the stats that viewers show."""
    response = requests.post(f"{server.url}/train/test", json={"max_epochs": 1}, timeout=60)
    assert response.status_code == 200, response.text
    began = time.monotonic()
    while server.client.train_status(False)["status"] in ("SUBMITTED", "RUNNING"):
        assert time.monotonic() - began < 300, server.running.log_tail(60)
        time.sleep(0.5)
    return dict(server.info()["train_stats"]["test"])


def versions_of(server: AppServer) -> Versions:
    return Registry(server.app_dir / "model").of("test", "test")


def segmentations(orthanc: Orthanc) -> list[Dataset]:
    """All DICOM SEG of the PACS."""
    client = DICOMwebClient(orthanc.dicomweb_url)
    found = []
    for one in orthanc.series("SEG"):
        tags = requests.get(f"{orthanc.url}/studies/{one['ParentStudy']}", timeout=30).json()["MainDicomTags"]
        found += client.retrieve_series(tags["StudyInstanceUID"], one["MainDicomTags"]["SeriesInstanceUID"])
    return found


def test_labels_saved_through_the_server_are_in_the_pacs_and_are_learned_from(
    learner: AppServer, orthanc: Orthanc, studies: dict[str, Study], tmp_path: Path
) -> None:
    before = len(orthanc.series("SEG"))
    for name in ("oblique", "sagittal"):
        submit(learner, studies[name], LARGE, tmp_path)
    assert len(orthanc.series("SEG")) == before + 2
    stats = train(learner)
    (version,) = versions_of(learner).versions()
    assert stats["version"] == version.id and not stats["published"], stats
    assert sum(version.metrics["cases"].values()) == 2
    assert len(version.data) == version.metrics["cases"]["train"] >= 1
    assert version.metrics["retention"]["before"]["dice"] >= 0


def test_a_segmentation_that_a_viewer_stored_beside_the_server_replaces_the_older_one(
    learner: AppServer, orthanc: Orthanc, studies: dict[str, Study], tmp_path: Path
) -> None:
    old = versions_of(learner).versions()[-1]
    study = studies["oblique"]
    (seg,) = [one for one in segmentations(orthanc) if _refers_to(one, study) and _names(one) == ["lesion"]]
    submit(learner, study, SMALL, tmp_path)  # and then the viewer stores the one of before again, as its own
    seg.SOPInstanceUID, seg.SeriesInstanceUID = generate_uid(), generate_uid()
    seg.file_meta.MediaStorageSOPInstanceUID = seg.SOPInstanceUID
    seg.Manufacturer, seg.SeriesDescription = "Viewer", "Edited by hand"
    seg.ContentDate = seg.SeriesDate = "20991231"
    seg.ContentTime = seg.SeriesTime = "235959"
    orthanc.store([seg])
    train(learner)
    new = versions_of(learner).versions()[-1]
    assert new.id != old.id and sum(new.metrics["cases"].values()) == 2
    (kept,) = [
        one.label
        for one in LabelSnapshots(learner.app_dir / "model/labels").labels()
        if one.image_id == study.series_uid
    ]
    # The one of before, not the one that the server got last; a SEG holds the slices alone that have something in them.
    learned = sitk.GetArrayFromImage(sitk.ReadImage(str(kept))) > 0
    assert learned.sum() == LARGE.inside(study.geometry).sum() != SMALL.inside(study.geometry).sum()


def test_labels_of_the_pacs_are_exported_beside_the_running_server(
    learner: AppServer, orthanc: Orthanc, studies: dict[str, Study], tmp_path: Path
) -> None:
    study = studies["sagittal"]
    submit(learner, study, SMALL, tmp_path)
    out = tmp_path / "set"
    command = ["labels", "export", str(out), "--format", "dicom-seg", "--train-on", "submitted", "--by", "Dr. Jones"]
    done = subprocess.run(
        [sys.executable, "-m", "sam3d", "--app", str(learner.app_dir), *command, "--studies", orthanc.dicomweb_url],
        env={**os.environ, "PYTHONPATH": str(APP_DIR),
             "MONAI_LABEL_DICOMWEB_CACHE_PATH": str(learner.app_dir.parent / "dicom_cache")},
        cwd=APP_DIR.parents[1], capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    key = json.loads((tmp_path / "set.key.json").read_text())
    (case,) = [case for case, of in key["cases"].items() if of["image"] == study.series_uid]
    seg = pydicom.dcmread(out / f"segs/{case}.dcm")
    drawn = np.unpackbits(np.frombuffer(seg.PixelData, np.uint8)).sum()
    assert _names(seg) == ["lesion"] and drawn == SMALL.inside(study.geometry).sum()
    assert len(list((out / f"images/{case}").iterdir())) == len(study.instances)


def _refers_to(seg: Dataset, study: Study) -> bool:
    return str(seg.ReferencedSeriesSequence[0].SeriesInstanceUID) == study.series_uid


def _names(seg: Dataset) -> list[str]:
    return [str(segment.SegmentLabel).lower() for segment in seg.SegmentSequence]
