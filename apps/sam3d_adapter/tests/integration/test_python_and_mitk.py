"""`sam3d serve --tls-self-signed` as MITK and the Python client use it, and what Python answers without a server."""

import os
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import yaml

import sam3d
from lib.host.process.launch import free_port, stop, wait_for_answer
from tests.support.hospital import AFFINE, SIDE
from tests.support.mitk import MitkError, MitkTool
from tests.support.program import REPOSITORY
from tests.support.server import copy_app, quiet_environment
from tests.support.small_app import small_preset
from tests.support.weights import write_test_weights

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

CERTIFICATE = "tls/certificate.pem"
SHAPE = (64, 56, 44)
# Flipped, permuted and anisotropic: i runs to anterior, j to the left, k to inferior.
TILTED = np.array([[0, -1.25, 0, 20], [1, 0, 0, -31], [0, 0, -1.5, 44], [0, 0, 0, 1]], dtype=float)
CENTRE = (30, 28, 22)
BESIDE = (48, 28, 22)
EDGE = (38, 28, 22)


@dataclass(frozen=True)
class Site:
    """A server that answers https.

    Attributes:
        port: of the loopback device.
        folder: the folder ``studies`` in it has the images, ``app`` is the app folder.
        client: trusts the server's certificate.
    """

    port: int
    folder: Path
    client: sam3d.Client

    @property
    def image(self) -> Path:
        """A ball of 9 mm, brighter by 100 HU."""
        return self.folder / "studies/ball.nii.gz"

    def model(self) -> sam3d.Model:
        return sam3d.load("ct", device="cpu", app=self.folder / "app")


def write_images(studies: Path) -> None:
    """One ball, and small patients with a bright block each, of which all but the last two are labelled."""
    axes = zip(np.ogrid[:64, :56, :44], CENTRE, np.linalg.norm(TILTED[:3, :3], axis=0), strict=True)
    inside = sum(((axis - at) * mm) ** 2 for axis, at, mm in axes) <= 9**2
    values = 40 + 100 * inside + np.random.default_rng(0).normal(0, 5, SHAPE)
    values[:6], values[6:10] = -1000, -90  # air and fat, as a CT has them
    (studies / "labels/final").mkdir(parents=True)
    nib.save(nib.Nifti1Image(values.astype(np.int16), TILTED), studies / "ball.nii.gz")
    for number in range(8):
        rng = np.random.default_rng(number)
        labels = np.zeros((SIDE, SIDE, SIDE), np.uint8)
        labels[tuple(slice(a, a + 10) for a in rng.integers(5, 11, 3))] = 1
        image = (60 * labels + rng.normal(0, 10, labels.shape)).astype(np.int16)
        nib.save(nib.Nifti1Image(image, AFFINE), studies / f"p{number}.nii.gz")
        if number < 6:
            nib.save(nib.Nifti1Image(labels, AFFINE), studies / f"labels/final/p{number}.nii.gz")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    app = copy_app(folder / "app", presets={"test": yaml.safe_dump(small_preset())})
    write_test_weights(app / "weights")
    write_images(folder / "studies")
    port = free_port()
    command = [sys.executable, "-m", "sam3d", "--app", app, "serve", "--studies", "studies", "--port", str(port)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--preset", "ct,test", "--tls-self-signed"],
            cwd=folder,
            env=os.environ | quiet_environment(folder) | {"PYTHONPATH": str(REPOSITORY)},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    certificate = app / CERTIFICATE
    try:
        while not certificate.exists():
            assert process.poll() is None, (folder / "log").read_text()
            time.sleep(0.05)
        url, trusted = f"https://127.0.0.1:{port}", ssl.create_default_context(cafile=certificate)
        wait_for_answer(process, f"{url}/info/", log_path=folder / "log", timeout_s=300, trusted=trusted)
        with sam3d.Client(url, name="Dr. Roe", certificate=certificate) as client:
            yield Site(port, folder, client)
    finally:
        stop(process)


PROMPTS = {
    "a click": {"foreground": [CENTRE]},
    "clicks of both signs, as arrays": {"foreground": np.array([CENTRE, EDGE]), "background": [np.array(BESIDE)]},
    "a box": {"box": [(20, 18, 14), (40, 38, 30)]},
    "options": {"foreground": [CENTRE], "threshold": np.float32(0.75), "refine": True},
    "warnings": {"foreground": [(2, 3, 3)]},
}


@pytest.mark.parametrize("prompts", PROMPTS.values(), ids=PROMPTS)
def test_python_answers_as_the_server_does(site: Site, prompts: dict) -> None:
    here, there = site.model().segment(site.image, **prompts), site.client.segment("ct", "ball", **prompts)
    assert there.array.dtype == here.array.dtype == np.uint8 and here.array.any()
    np.testing.assert_array_equal(here.array, there.array)
    np.testing.assert_allclose(here.affine, there.affine, atol=1e-5)
    same = ("label", "version", "model_version", "image_hash", "mask_hash", "clicks", "box", "warnings", "mask_voxels")
    assert {key: here.info[key] for key in same} == {key: there.info[key] for key in same}


def test_images_and_masks_are_sent_in_every_form(site: Site, tmp_path: Path) -> None:
    model, client, loaded = site.model(), site.client, nib.load(site.image)
    first = model.segment(site.image, [CENTRE])
    first.save(tmp_path / "first.nii.gz")
    voxels, affine = np.asarray(loaded.dataobj), loaded.affine
    corrected = model.segment(site.image, [EDGE], start_from=first)
    assert corrected.info["start_mask"]["voxels"] == first.array.sum() and corrected.array[EDGE] == 1
    masks = [first, first.array.astype(bool), tmp_path / "first.nii.gz", nib.load(tmp_path / "first.nii.gz")]
    for mask in masks:
        for image, more in ((loaded, {}), (voxels, {"affine": affine})):
            here = model.segment(image, [EDGE], start_from=mask, **more)
            np.testing.assert_array_equal(here.array, corrected.array)
        there = client.segment("ct", voxels, [EDGE], start_from=mask, affine=affine)
        np.testing.assert_array_equal(there.array, corrected.array)
    for image in (site.image, str(site.image), loaded):
        there = client.segment("ct", image, [EDGE], start_from=first)
        np.testing.assert_array_equal(there.array, corrected.array)
    np.testing.assert_array_equal(client.segment("ct", "ball", [EDGE], start_from=first).array, corrected.array)


def test_the_client_labels_reviews_and_trains(site: Site) -> None:
    client = site.client
    assert client.status()["cases"] == {"new": 3, "submitted": 6} and client.status()["training"] is None
    for _ in range(3):
        case = client.next_case()
        assert case in ("ball", "p6", "p7")
        image = client.image(case)
        values = np.asarray(image.dataobj)
        assert values.shape == nib.load(site.folder / f"studies/{case}.nii.gz").shape
        drawn = nib.Nifti1Image((values > 40).astype(np.uint8), image.affine)
        assert client.submit(case, drawn, "lesion")["image"] == case
    assert client.next_case() is None
    (label,) = client.labels("p6")
    assert label["author"] == "Dr. Roe" and label["state"] == "submitted"
    with pytest.raises(sam3d.ServerError, match="own") as refused:
        client.review(label["id"], "accept")
    assert refused.value.status == 403
    with sam3d.Client(client.url, name="Dr. Poe", certificate=site.folder / "app" / CERTIFICATE) as second:
        second.review(label["id"], "reject", "The block is noise.")
    assert next(case for case in client.cases() if case["id"] == "p6")["comment"] == "The block is noise."
    corrected = client.submit("p6", client.segment("test", "p6", [(14, 14, 14)]), corrects=label["id"])
    assert corrected["image"] == "p6" and {one["state"] for one in client.labels("p6")} == {"corrected", "submitted"}
    client.train("test", max_epochs=1, publish=False)
    while not (training := training_of(client)).get("cases"):
        assert training["status"] in ("SUBMITTED", "RUNNING"), training
        time.sleep(0.2)
    assert training["preset"] == "test" and sum(training["cases"].values()) >= 7
    client.stop_training()
    while (training := training_of(client))["status"] == "RUNNING":
        time.sleep(0.2)
    assert training["status"] == "STOPPED"


def training_of(client: sam3d.Client) -> dict[str, Any]:
    return dict(client.status()["training"])


def test_what_the_server_refuses_is_said_in_its_words(site: Site) -> None:
    client = site.client
    with pytest.raises(sam3d.ServerError, match=r"status 422.*outside the image of 64 x 56 x 44") as refused:
        client.segment("ct", "ball", [(64, 0, 0)])
    assert refused.value.status == 422
    with pytest.raises(sam3d.ServerError, match="status 404.*nobody"):
        client.segment("ct", "nobody", [CENTRE])
    with pytest.raises(sam3d.ServerError, match=r"certificate=\.\.\."), sam3d.Client(client.url) as distrustful:
        distrustful.status()


def windowed(path: Path, low: int, high: int) -> nib.Nifti1Image:
    image = nib.load(path)
    return nib.Nifti1Image(np.clip(np.asarray(image.dataobj), low, high), image.affine)


def test_mitk_clicks_corrects_and_undoes(site: Site) -> None:
    tool = MitkTool("127.0.0.1", site.port)
    models = tool.fetch_info()
    assert models["ct"].is_interactive and models["ct"].dimension == 3 and models["ct"].labels == {"lesion": 1}
    image = windowed(site.image, -1024, 1024)
    said, mask = tool.click("ct", image, [(30.9, 28.4, 22.0)])
    assert said["clicks"] == [list(CENTRE)] and said["label_names"] == {"lesion": 1}
    np.testing.assert_allclose(mask.affine, TILTED, atol=1e-4)
    first = np.asarray(mask.dataobj)
    np.testing.assert_array_equal(first, site.model().segment(image, [CENTRE]).array)
    assert set(np.unique(first)) == {0, 1}
    said, mask = tool.click("ct", image, [CENTRE], [BESIDE])
    assert said["background_clicks"] == [list(BESIDE)] and np.asarray(mask.dataobj)[BESIDE] == 0
    # The point is deleted.
    np.testing.assert_array_equal(np.asarray(tool.click("ct", image, [CENTRE])[1].dataobj), first)
    # MITK leaves out what lies outside of the image, and so asks without a click.
    with pytest.raises(MitkError):
        tool.click("ct", image, [(200, 0, 0)])


def test_a_window_of_mitk_narrower_than_the_presets_changes_the_mask_and_is_warned_of(site: Site) -> None:
    tool, whole = MitkTool("127.0.0.1", site.port), site.model().segment(site.image, [CENTRE]).array
    _, mask = tool.click("ct", windowed(site.image, -160, 240), [CENTRE])
    np.testing.assert_array_equal(np.asarray(mask.dataobj), whole)
    said, mask = tool.click("ct", windowed(site.image, 0, 100), [CENTRE])
    assert (np.asarray(mask.dataobj) != whole).any()
    assert any(warning.startswith("clipped-window: ") for warning in said["warnings"])
