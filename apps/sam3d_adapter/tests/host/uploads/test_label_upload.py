"""Labels for series of a PACS: what OHIF and 3D Slicer save becomes a DICOM SEG there, and all else a refusal."""

import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import requests
import SimpleITK as sitk
from monailabel.datastore.dicom import DICOMWebDatastore
from monailabel.interfaces.utils.app import app_instance

from tests.support.dicom_study import Study
from tests.support.hostile_images import patched
from tests.support.layered_labels import write_layers
from tests.support.live_app import LiveApp, check_refusal
from tests.support.odd_series import make_series
from tests.support.pacs import Pacs, open_store

pytestmark = [
    pytest.mark.timeout(300),
    # MONAI's, of a decoder for DICOM that is not installed.
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning"),
    # ITK's wrapping raises it on import, on every Python from 3.11; made an error there, it ends the process.
    pytest.mark.filterwarnings("ignore:builtin type [sS]wig:DeprecationWarning"),
]

SEGMENTS = [{"name": "lesion", "idx": 1, "color": [255, 0, 0, 0.5]}]


@pytest.fixture(scope="module")
def study() -> Study:
    return make_series()


@pytest.fixture
def pacs(live: LiveApp, study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pacs]:
    """The PACS behind the application, in place of its folder of images."""
    found = Pacs(list(study.instances))
    monkeypatch.setattr(app_instance(), "_datastore", open_store(found, tmp_path))
    # itkimage2segimage lies beside Python.
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    yield found
    # The host leaves what it converts; a server of its own process sweeps it up.
    for left in Path(tempfile.gettempdir()).iterdir():
        shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)


def mask(study: Study) -> np.ndarray:
    voxels = np.zeros(study.image.shape, np.uint8)
    voxels[2:6, 3:7, 2:5] = 1
    return voxels


def as_nifti(study: Study, voxels: np.ndarray, folder: Path) -> bytes:
    """On the grid of the series, as 3D Slicer saves it."""
    store: DICOMWebDatastore = app_instance().datastore()
    image = sitk.GetImageFromArray(voxels.transpose())
    image.CopyInformation(sitk.ReadImage(store.get_image_uri(study.series_uid)))
    sitk.WriteImage(image, str(folder / "label.nii.gz"), True)
    return (folder / "label.nii.gz").read_bytes()


def save(
    live: LiveApp, study: Study, name: str, content: bytes, params: object = None, tag: str = "", image: str = ""
) -> requests.Response:
    query = {"image": image or study.series_uid, **({"tag": tag} if tag else {})}
    body = {"params": json.dumps(params if params is not None else {"label_info": SEGMENTS})}
    files = {"label": (name, content)}
    return requests.put(f"{live.url}/datastore/label", params=query, data=body, files=files, timeout=60)


def cached(tmp_path: Path) -> set[str]:
    """Files of the data store; those it fetches come and go with the requests."""
    return {str(path) for path in (tmp_path / "cache").rglob("*") if path.is_file() and "labels" in path.parts}


def check_segment(pacs: Pacs, voxels: np.ndarray) -> None:
    (seg,) = pacs.stored
    assert seg.Modality == "SEG" and seg.SegmentSequence[0].SegmentLabel == "lesion"
    assert int(np.unpackbits(np.frombuffer(seg.PixelData, np.uint8)).sum()) == int(voxels.sum())


def test_ohif(live: LiveApp, pacs: Pacs, study: Study) -> None:
    answer = save(live, study, "label.bin", mask(study).tobytes(order="F"))
    assert answer.status_code == 200, answer.text
    check_segment(pacs, mask(study))


def test_slicer(live: LiveApp, pacs: Pacs, study: Study, tmp_path: Path) -> None:
    content = as_nifti(study, mask(study), tmp_path)
    answer = save(live, study, "tmpab_x.nii.gz", content)
    assert answer.json() == {"image": study.series_uid, "label": study.series_uid}, answer.text
    check_segment(pacs, mask(study))
    # What was saved can be had again, which the host alone does not manage.
    label = live.ask("GET", f"/datastore/label?label={study.series_uid}&tag=final")
    assert label.content == content
    assert live.ask("HEAD", f"/datastore/label?image={study.series_uid}&tag=final").status_code == 200
    delete = live.ask("DELETE", f"/datastore/label?id={study.series_uid}&tag=final")
    check_refusal(live, delete, 409, ("DICOMweb",))


@pytest.mark.parametrize(("dtype", "highest"), [(np.int16, 32767), (np.uint8, 254)])
def test_label_that_was_saved_with_scaling(live: LiveApp, pacs: Pacs, study: Study, dtype: type, highest: int) -> None:
    """Its 1 and 2 are a little less or more, of which the host would make 0 and 2, or 1 and 1."""
    voxels = mask(study) * 3
    voxels[10:14, 10:14, 2:5], voxels[20:22, 20:22, 2:5] = 2, 1
    affine = nib.load(app_instance().datastore().get_image_uri(study.series_uid)).affine
    stored = np.rint(voxels * (highest / 3)).astype(dtype)
    content = patched(nib.Nifti1Image(stored, affine).to_bytes(), scl_slope=3 / highest, scl_inter=0)
    segments = [{"name": name, "idx": n, "color": [255, 0, 0]} for n, name in enumerate(("a", "b", "c"), start=1)]
    answer = save(live, study, "x.nii", content, {"label_info": segments})
    assert answer.status_code == 200, answer.text
    (seg,) = pacs.stored
    assert [each.SegmentLabel for each in seg.SegmentSequence] == ["a", "b", "c"]
    drawn = int(np.unpackbits(np.frombuffer(seg.PixelData, np.uint8)).sum())
    assert drawn == np.count_nonzero(voxels)


def test_overlapping_segments_are_segments_of_their_own(
    live: LiveApp, pacs: Pacs, study: Study, tmp_path: Path
) -> None:
    affine = nib.load(app_instance().datastore().get_image_uri(study.series_uid)).affine
    layers = [mask(study), mask(study)]
    path = write_layers(tmp_path / "a.seg.nrrd", layers, [("lesion", 0, 1), ("organ", 1, 1)], affine)
    answer = save(live, study, "a.seg.nrrd", path.read_bytes())
    assert answer.status_code == 200, answer.text
    (seg,) = pacs.stored
    assert [each.SegmentLabel for each in seg.SegmentSequence] == ["lesion", "organ"]
    assert int(np.unpackbits(np.frombuffer(seg.PixelData, np.uint8)).sum()) == 2 * int(mask(study).sum())


def test_host_does_not_send_a_final_label(unpatched: LiveApp, pacs: Pacs, study: Study) -> None:
    assert save(unpatched, study, "label.bin", mask(study).tobytes(order="F")).status_code == 200
    assert unpatched.ask("GET", f"/datastore/label?label={study.series_uid}&tag=final").status_code == 500


def test_original_labels_stay_here(live: LiveApp, pacs: Pacs, study: Study, tmp_path: Path) -> None:
    for voxels in (mask(study), mask(study) * 0):  # no DICOM SEG is made of them, so they may be empty
        content = as_nifti(study, voxels, tmp_path)
        assert save(live, study, "x.nii.gz", content, tag="original").status_code == 200
    assert live.ask("GET", f"/datastore/label?label={study.series_uid}&tag=original").content == content
    assert live.ask("DELETE", f"/datastore/label?id={study.series_uid}&tag=original").status_code == 200
    assert pacs.stored == []


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("label.bin", b"\1" * 100, "100 voxels"),
        ("label.bin", b"", "empty"),
        ("label.bin", None, "empty"),
        ("x.nii.gz", b"zz", "cannot be read"),
        ("x.dcm", b"zz", "x.dcm"),
    ],
)
def test_no_label(
    live: LiveApp, pacs: Pacs, study: Study, tmp_path: Path, name: str, content: bytes | None, words: str
) -> None:
    before = cached(tmp_path)
    content = bytes(mask(study).size) if content is None else content
    check_refusal(live, save(live, study, name, content), 422, (words,))
    assert cached(tmp_path) == before and pacs.stored == []


def test_host_fails_on_what_is_no_label(unpatched: LiveApp, pacs: Pacs, study: Study) -> None:
    for content in (b"\1" * 100, bytes(mask(study).size)):
        assert save(unpatched, study, "label.bin", content).status_code == 500
    assert save(unpatched, study, "label.bin", mask(study).tobytes(), {"label_info": [3]}).status_code == 500


def test_label_on_another_grid_is_let_through(live: LiveApp, pacs: Pacs, study: Study, tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(np.ones((4, 5, 6), np.uint8))
    sitk.WriteImage(image, str(tmp_path / "x.nii.gz"))
    for tag in ("final", "original"):
        answer = save(live, study, "x.nii.gz", (tmp_path / "x.nii.gz").read_bytes(), tag=tag)
        assert answer.status_code == 200, answer.text
    assert len(pacs.stored) == 1


def _break_the_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "itkimage2segimage").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "itkimage2segimage").chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")


def test_tool_that_fails(
    live: LiveApp, pacs: Pacs, study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = mask(study).tobytes(order="F")
    assert save(live, study, "label.bin", content).status_code == 200
    before = cached(tmp_path)
    _break_the_tool(tmp_path, monkeypatch)
    check_refusal(live, save(live, study, "label.bin", content), 422, ("itkimage2segimage",))
    assert cached(tmp_path) == before and len(pacs.stored) == 1


def test_tool_of_the_host_that_fails(
    unpatched: LiveApp, pacs: Pacs, study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _break_the_tool(tmp_path, monkeypatch)
    assert save(unpatched, study, "label.bin", mask(study).tobytes(order="F")).status_code == 500


@pytest.mark.parametrize("segments", ["lesion", [3], [{"name": 3}], [{"color": "red"}], [{"segmentAttribute": 1}]])
def test_segments(live: LiveApp, pacs: Pacs, study: Study, segments: object) -> None:
    content = mask(study).tobytes(order="F")
    check_refusal(live, save(live, study, "label.bin", content, {"label_info": segments}), 422, ("label_info",))
    assert pacs.stored == []


def test_pacs_that_fails(live: LiveApp, pacs: Pacs, study: Study) -> None:
    def fail(datasets: list) -> None:
        raise requests.ConnectionError("refused")

    pacs.store_instances = fail
    check_refusal(live, save(live, study, "label.bin", mask(study).tobytes(order="F")), 503, ("DICOMweb",))


def test_images_come_from_the_pacs_alone(live: LiveApp, pacs: Pacs, study: Study, tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/a.dcm").write_bytes(b"of others")
    assert live.ask("GET", f"/datastore/image?image={study.series_uid}").status_code == 200
    for address in ("../../secret", "..", "secret", "1.2.3", f"{study.series_uid}/..", "%00"):
        for method, path in (("GET", "image?image="), ("HEAD", "image?image="), ("GET", "image/info?image=")):
            assert live.ask(method, f"/datastore/{path}{address}").status_code == 404
        for tag in ("final", "original"):
            assert live.ask("GET", f"/datastore/label?label={address}&tag={tag}").status_code == 404
            assert live.ask("DELETE", f"/datastore/label?id={address}&tag={tag}").status_code == 404
            assert save(live, study, "label.bin", b"x", image=requests.utils.unquote(address)).status_code == 404
    files = {"file": ("x.nii.gz", as_nifti(study, mask(study), tmp_path))}
    put = requests.put(f"{live.url}/datastore/image", params={"image": "x"}, files=files, timeout=60)
    check_refusal(live, put, 409, ("DICOMweb",))
    check_refusal(live, live.ask("DELETE", f"/datastore/image?id={study.series_uid}"), 409, ("DICOMweb",))
    info = {"info": '{"reader": "x"}'}
    assert live.ask("PUT", f"/datastore/image/info?image={study.series_uid}", data=info).status_code == 200


def test_host_reads_any_folder(unpatched: LiveApp, pacs: Pacs, study: Study, tmp_path: Path) -> None:
    app_instance().datastore().get_image_uri(study.series_uid)
    folder = Path(app_instance().datastore()._datastore.image_path(), study.series_uid)
    folder.rename(tmp_path / "secret")
    answer = unpatched.ask("GET", "/datastore/image?image=../../secret")
    assert answer.status_code == 500
