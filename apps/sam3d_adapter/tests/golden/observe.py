"""Sends the requests of ``cases`` to the real server and keeps what a user sees, without what differs each time.

Nothing of ``lib`` is imported: the goldens must outlive every module's place and name.
"""

import functools
import gzip
import hashlib
import importlib.metadata
import io
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import nrrd
import numpy as np
import requests
import torch
from requests_toolbelt import MultipartDecoder

from tests.golden import images
from tests.golden.cases import BFLOAT16, MASKS, OTHERS, REFUSALS, Call, Click
from tests.support.dicom_study import Geometry, make_study
from tests.support.odd_series import as_file
from tests.support.server import AppServer, copy_app, start_server

THREADS = 1
"""Of PyTorch in the server: how sums are rounded depends on their number, and every machine has one."""

_VOLATILE = (
    (re.compile(r"\d{8}T\d{6,12}-[0-9a-f]{12}"), "<id>"),
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[.\d]*(Z|\+00:00)?"), "<time>"),
    (re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"), "<uuid>"),
    (re.compile(r"boundary=[0-9a-f]+"), "boundary=<boundary>"),
    (re.compile(r"\b(tmp|upload-)[a-z0-9_]{8}(?=[./\"]|$)"), r"<\1>"),
)
# Keys whose value differs each time, or with each release.
_VOLATILE_KEYS = {"ts", "image_id_hash", "kind", "sam3d_adapter", "torch", "monailabel"}
_RELEASE = re.compile(r"\d+\.\d+\.\d+\S*")


@dataclass(frozen=True)
class Observed:
    """What a user sees.

    Attributes:
        answers: by kind (``info``, ``others``, ``masks``, ``bfloat16``, ``refusals``) and name of the request.
        masks: (i, j, k) bool by kind and name, as ``masks/ct: 1 click``.
    """

    answers: dict[str, dict[str, Any]]
    masks: dict[str, np.ndarray]


def observe(folder: Path) -> Observed:
    """Send every request once, in the order of the tables, to servers that are started for it.

    Args:
        folder: takes copies of the app, images and logs.
    """
    answers: dict[str, dict[str, Any]] = {kind: {} for kind in ("info", "others", "masks", "bfloat16", "refusals")}
    masks: dict[str, np.ndarray] = {}
    with _site(folder / "fp32", "fp32") as site:
        answers["info"]["info"] = site.settled(site.server.info())
        for name, call in OTHERS.items():
            answers["others"][name] = site.call(call)
        for name, click in MASKS.items():
            answers["masks"][name] = site.click(click, masks, f"masks/{name}")
        for name, call in REFUSALS.items():
            answers["refusals"][name] = site.call(call)
    with _site(folder / "bf16", "bf16") as site:
        for name in BFLOAT16:
            answers["bfloat16"][name] = site.click(MASKS[name], masks, f"bfloat16/{name}")
    return Observed(answers, masks)


def machine() -> dict[str, Any]:
    """What decides how sums are rounded: masks are promised bit for bit where this is equal."""
    try:
        lines = [line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line]
        cpu = {key.strip(): value.strip() for key, value in reversed(lines)}
    except OSError:
        cpu = {}
    named = {key: cpu.get(key) for key in ("model name", "cpu family", "model")}
    versions = {name: importlib.metadata.version(name) for name in ("torch", "numpy", "scipy", "monai")}
    return {**named, "instructions": torch.backends.cpu.get_cpu_capability(), "threads": THREADS, **versions}


@contextmanager
def _site(folder: Path, precision: str) -> Iterator["_Site"]:
    studies = folder / "studies"
    studies.mkdir(parents=True)
    for name, phantom in images.PHANTOMS.items():
        content = images.packed(images.nifti(phantom.voxels(), phantom.affine))
        (studies / f"{name}.nii.gz").write_bytes(content)
    (studies / "four_d.nii.gz").write_bytes(images.packed(_files()["image of four axes"]))
    threads = {name: str(THREADS) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    (folder / "tmp").mkdir()
    with start_server(
        copy_app(folder / "app"),
        studies,
        folder / "server",
        conf={"precision": precision, "audit_dir": str(folder / "audit")},
        env={**threads, "TMPDIR": str(folder / "tmp")},
        timeout_s=300,
    ) as server:
        yield _Site(server, folder)


class _Site:
    """A server and the folder of all that it writes."""

    def __init__(self, server: AppServer, folder: Path) -> None:
        self.server = server
        self._folder = folder
        self._sessions: dict[str, str] = {}

    def call(self, call: Call) -> dict[str, Any]:
        """Status, headers and body of an answer."""
        files = _files()
        parts = {
            field: (name, files[content], "application/octet-stream") for field, (name, content) in call.files.items()
        }
        form: dict[str, Any] = {field: (None, text) for field, text in call.form.items()}
        answer = requests.request(
            call.method,
            self.server.url + call.address,
            files={**form, **parts} or None,
            json=call.json,
            timeout=120,
        )
        return {"status": answer.status_code, "headers": self._headers(answer.headers), **self._body(call, answer)}

    def click(self, click: Click, masks: dict[str, np.ndarray], key: str) -> dict[str, Any]:
        """Answer, audit record and description of the mask, which is put into ``masks``; or what a refusal says."""
        phantom = images.PHANTOMS[click.image]
        query = {"image": click.image}
        parts: dict[str, Any] = {"params": (None, json.dumps(click.params))}
        if click.sent_as == "session":
            query = {"session_id": self._session(click.image)}
        elif click.sent_as != "stored":
            query = {}
            parts["file"] = (f"a scan.{click.sent_as}", _image_file(phantom, click.sent_as))
        if click.label_map:
            parts["label"] = _label_file(click.image, click.label_map)
        answer = requests.post(f"{self.server.url}/infer/{click.preset}", params=query, files=parts, timeout=300)
        if answer.status_code != 200:
            return {"status": answer.status_code, "text": self.settled(answer.text)}
        told, file = MultipartDecoder.from_response(answer).parts
        params = json.loads(told.content)
        name, kind = (file.headers[key].decode() for key in (b"Content-Disposition", b"Content-Type"))
        voxels, affine = _read_mask(file.content, name)
        masks[key] = voxels != 0
        return {
            "status": answer.status_code,
            "headers": self._headers(answer.headers),
            "answer": self.settled(params),
            "audit": self.settled(self._record(params["audit_id"])),
            "mask": {"file": self.settled(name), "type": kind, **_described(voxels, affine)},
        }

    def settled(self, value: Any, key: str = "") -> Any:
        """A value as it is each time: no times, no names made up, no folders."""
        if key in ("latency_ms", "latencies"):
            # MONAI Label names the transforms of a task there by their classes.
            return {stage: "<times>" for stage in value}
        if key in _VOLATILE_KEYS and not isinstance(value, dict):
            return None if value is None else f"<{key}>"
        if isinstance(value, dict):
            return {self.settled(name): self.settled(inner, name) for name, inner in value.items()}
        if isinstance(value, list):
            return [self.settled(inner) for inner in value]
        if not isinstance(value, str):
            return value
        if key == "version" and _RELEASE.fullmatch(value):
            return "<release>"
        text = value.replace(str(self._folder), "<folder>").replace(self.server.url, "<server>")
        for pattern, instead in _VOLATILE:
            text = pattern.sub(instead, text)
        return text

    def _headers(self, headers: Mapping[str, str]) -> dict[str, Any]:
        """All but when it was sent and how long it is."""
        left = {name.lower(): value for name, value in headers.items()}
        passing = ("date", "content-length", "server", "connection", "last-modified", "etag")
        return {name: self.settled(left[name]) for name in sorted(left) if name not in passing}

    def _body(self, call: Call, answer: requests.Response) -> dict[str, Any]:
        kind = answer.headers.get("content-type", "")
        if not answer.content:
            return {}
        if call.address == "/openapi.json":
            paths = answer.json()["paths"]
            return {"json": sorted(f"{method.upper()} {path}" for path, how in paths.items() for method in how)}
        if kind.startswith("application/json"):
            return {"json": self.settled(answer.json())}
        if kind.startswith("text/"):
            return {"text": self.settled(answer.text).splitlines()}
        return {"sha256": hashlib.sha256(answer.content).hexdigest()}

    def _record(self, record_id: str) -> dict[str, Any]:
        for path in (self._folder / "audit").glob("*.jsonl"):
            for line in path.read_text().splitlines():
                record: dict[str, Any] = json.loads(line)
                if record["id"] == record_id:
                    return record
        raise AssertionError(f"There is no audit record {record_id}.")

    def _session(self, image: str) -> str:
        if image not in self._sessions:
            files = [("files", (f"{rank}.dcm", file)) for rank, file in enumerate(_dicom_series(image))]
            answer = requests.put(f"{self.server.url}/session/", files=files, timeout=60)
            assert answer.status_code == 200, answer.text
            self._sessions[image] = str(answer.json()["session_id"])
        return self._sessions[image]


def _described(voxels: np.ndarray, affine: np.ndarray) -> dict[str, Any]:
    inside = np.argwhere(voxels)
    digest = hashlib.sha256(np.ascontiguousarray(voxels).tobytes() + affine.tobytes())
    return {
        "dtype": str(voxels.dtype),
        "values": np.unique(voxels).tolist(),
        "shape": list(voxels.shape),
        "affine": affine.tolist(),
        "voxels": len(inside),
        "first": inside.min(axis=0).tolist() if len(inside) else None,
        "last": inside.max(axis=0).tolist() if len(inside) else None,
        "sha256": digest.hexdigest(),
    }


def _read_mask(content: bytes, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Voxels (i, j, k) and (4, 4) affine to RAS mm of an answered file."""
    if ".nrrd" in name:
        file = io.BytesIO(content)
        header = nrrd.read_header(file)
        affine = np.eye(4)
        affine[:3, :3], affine[:3, 3] = header["space directions"].T, header["space origin"]
        to_ras = {"left-posterior-superior": [-1.0, -1, 1, 1], "right-anterior-superior": [1.0, 1, 1, 1]}
        return nrrd.read_data(header, file), np.diag(to_ras[header["space"]]) @ affine
    image = nib.Nifti1Image.from_bytes(gzip.decompress(content) if ".gz" in name else content)
    return np.asarray(image.dataobj), np.asarray(image.affine)


def _image_file(phantom: images.Phantom, kind: str) -> bytes:
    voxels, affine = phantom.voxels(), phantom.affine
    match kind:
        case "nii":
            stored = ((voxels.astype(np.int32) + 1024) // 2).astype(np.int16)
            return images.nifti(stored, affine, slope=2, intercept=-1024)
        case "sform.nii":
            return images.nifti(voxels, affine, only_sform=True)
        case "nii.gz":
            return images.packed(images.nifti(voxels, affine))
        case "nrrd":
            return images.nrrd(voxels, affine)
        case "mha":
            return images.mha(voxels, affine)
    raise ValueError(f"Unknown kind of file {kind!r}.")


def _label_file(image: str, kind: str) -> tuple[str, bytes]:
    voxels, affine = images.label_map(image), images.PHANTOMS[image].affine
    match kind:
        case "nifti":
            return "mask.nii.gz", images.packed(images.nifti(voxels, affine))
        case "nrrd":
            return "mask.nrrd", images.nrrd(voxels, affine)
        case "coarse":
            return "mask.nii.gz", images.packed(images.nifti(*images.coarse_label_map(image)))
    raise ValueError(f"Unknown kind of label map {kind!r}.")


def _dicom_series(image: str) -> list[bytes]:
    phantom = images.PHANTOMS[image]
    matrix = np.diag([-1.0, -1, 1, 1]) @ phantom.affine
    i, j, origin = (
        tuple(float(value) for value in values)
        for values in (matrix[:3, 0] / phantom.spacing[0], matrix[:3, 1] / phantom.spacing[1], matrix[:3, 3])
    )
    geometry = Geometry(phantom.shape, phantom.spacing, i, j, origin)  # type: ignore[arg-type]
    study = make_study(phantom.voxels(), geometry, patient_name="GOLDEN")
    return [as_file(instance) for instance in study.instances]


@functools.cache
def _files() -> dict[str, bytes]:
    """Files that calls send, by what they are."""
    phantom, labels = images.PHANTOMS["ct_axial"], images.label_map("ct_axial")
    voxels, affine = phantom.voxels(), phantom.affine
    far, sheared, metres = affine.copy(), affine.copy(), affine.copy()
    far[:3, 3] += 500
    sheared[:3, 2] += 0.5 * affine[:3, 1]
    metres[:3, :3] *= 1000
    image, label = images.nifti(voxels, affine), images.packed(images.nifti(labels, affine))
    return {
        "nothing": b"",
        "text": b"Dear Sir or Madam,\n" * 100,
        "image": image,
        "image cut off": image[:-2000],
        "packed image cut off": images.packed(image)[:-2000],
        "image of four axes": images.nifti(np.zeros((8, 8, 8, 2), np.int16), affine),
        "slice": images.nifti(voxels[:, :, :1], affine),
        "complex image": images.nifti(voxels.astype(np.complex64), affine),
        "image without place": images.nifti(voxels, np.diag([0.0, 0, 0, 1]), only_sform=True),
        "sheared image": images.nifti(voxels, sheared),
        "image of metres": images.nifti(voxels, metres),
        "flat image": images.nifti(np.full_like(voxels, 40), affine),
        "NRRD of another file": images.nrrd(voxels, affine).replace(b"\n", b"\ndata file: /etc/passwd\n", 1),
        "label": label,
        "label far away": images.packed(images.nifti(labels, far)),
        "label of zeros": images.packed(images.nifti(labels * 0, affine)),
        "label of halves": images.packed(images.nifti(labels.astype(np.float32) / 2, affine)),
        "label cut off": label[:-60],
    }
