"""The same lesions in series of other orientations, without a browser: voxel index in, mask on the image's grid out."""

import json

import pytest
import requests

from tests.e2e.checks import check_grid, check_place, read_mask
from tests.e2e.scenes import GEOMETRIES, LARGE
from tests.support.dicom_study import Study
from tests.support.server import AppServer

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def test_the_server_sees_all_series(server: AppServer) -> None:
    assert server.info()["datastore"]["total"] == len(GEOMETRIES)


@pytest.mark.parametrize("name", GEOMETRIES)
def test_the_mask_lies_on_the_lesion_and_on_the_grid(name: str, server: AppServer, studies: dict[str, Study]) -> None:
    study = studies[name]
    click = study.geometry.voxel(LARGE.centre)
    params = {"foreground": [click], "background": [], "result_extension": ".nrrd", "result_dtype": "uint8"}
    response = requests.post(
        f"{server.url}/infer/ct",
        params={"image": study.series_uid, "output": "image"},
        files={"params": (None, json.dumps(params))},
        timeout=120,
    )
    assert response.status_code == 200, response.text
    mask = read_mask(response.content)
    check_grid(mask, study.geometry)
    check_place(mask.values, LARGE.inside(study.geometry), study.geometry, [click])
