"""Next Sample in front of a PACS, with nothing set: every modality that can be clicked on, and no labelled case."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
import requests
import SimpleITK as sitk

from lib.host.pacs.lists import EXPIRY_S
from lib.host.process.launch import RunningServer, running_server
from tests.e2e.conftest import require
from tests.support.dicom_study import Study, ball, centred_geometry, make_study, paint_scene
from tests.support.orthanc import missing_orthanc, start_orthanc
from tests.support.server import copy_app

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

GEOMETRY = centred_geometry((24, 20, 12), (2.0, 2.0, 3.0), centre=(0.0, 0.0, 0.0))
TUMOUR = ball((3.0, -4.0, 5.0), 9.0, 100.0)


def make_series(modality: str) -> Study:
    study = make_study(paint_scene([TUMOUR], GEOMETRY, noise_hu=5, seed=1), GEOMETRY, patient_name=modality)
    for instance in study.instances:
        instance.Modality = modality
    return study


def served(server: RunningServer, times: int = 6) -> set[str]:
    """Ids of the cases that an annotator gets who leafs through them."""
    answers = [
        requests.post(f"{server.url}/activelearning/random", json={"client_id": "anna"}, timeout=60)
        for _ in range(times)
    ]
    assert all(answer.status_code == 200 for answer in answers), answers[0].text
    return {answer.json()["id"] for answer in answers if answer.json()}


def save_label(server: RunningServer, study: Study, folder: Path) -> None:
    image = requests.get(f"{server.url}/datastore/image", params={"image": study.series_uid}, timeout=60)
    (folder / "image.nii.gz").write_bytes(image.content)
    label = sitk.GetImageFromArray(TUMOUR.inside(GEOMETRY).astype(np.uint8).transpose())
    label.CopyInformation(sitk.ReadImage(str(folder / "image.nii.gz")))
    sitk.WriteImage(label, str(folder / "label.nii.gz"))
    answer = requests.put(
        f"{server.url}/datastore/label",
        params={"image": study.series_uid, "tag": "final"},
        data={"params": '{"label_info": [{"name": "lesion", "idx": 1}]}'},
        files={"label": ("label.nii.gz", (folder / "label.nii.gz").read_bytes())},
        timeout=60,
    )
    assert answer.status_code == 200, answer.text


def test_next_sample_in_front_of_a_pacs(tmp_path: Path) -> None:
    require(missing_orthanc())
    assert not [name for name in os.environ if name.startswith("MONAI_LABEL_DICOMWEB")]
    studies = {modality: make_series(modality) for modality in ("CT", "MR", "PT", "US")}
    later = make_series("MR")
    env = {"CUDA_VISIBLE_DEVICES": "", "MONAI_LABEL_DICOMWEB_CACHE_PATH": str(tmp_path / "cache")}
    with start_orthanc(tmp_path / "orthanc") as pacs:
        for study in studies.values():
            pacs.store(study.instances)
        with running_server(
            copy_app(tmp_path / "app"), pacs.dicomweb_url, log_path=tmp_path / "logs/server.log", env=env
        ) as server:
            wanted = {studies[modality].series_uid for modality in ("CT", "MR", "PT")}
            assert served(server) == wanted
            save_label(server, studies["MR"], tmp_path)
            assert served(server) == wanted - {studies["MR"].series_uid}
            pacs.store(later.instances)
            time.sleep(EXPIRY_S + 1)
            assert served(server) == wanted - {studies["MR"].series_uid} | {later.series_uid}
