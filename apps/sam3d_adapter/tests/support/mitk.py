"""MITK's MONAI Label tool, as far as its requests go.

Written after Modules/Segmentation/Interactions/mitkMonaiLabelTool.cpp and QmitkMonaiLabelToolGUI.cpp of MITK (tool of
2024.06 and later), and the multipart form after cpp-httplib, with which it sends. It speaks TLS alone, checks no
certificate, makes a connection for each request, and takes the answer apart by its own string search.
"""

import gzip
import http.client
import json
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np

Place = tuple[float, float, float]

_BOUNDARY = "--cpp-httplib-multipart-data-0a1B2c3D4e5F6g7H"


class MitkError(RuntimeError):
    """What MITK shows."""


@dataclass(frozen=True)
class Model:
    """What MITK reads of a model; a null of them ends its reading."""

    name: str
    labels: dict[str, int]
    type: str
    dimension: int
    description: str

    @property
    def is_interactive(self) -> bool:
        """Whether Shift and a click ask for a mask."""
        return self.type in ("deepgrow", "deepedit")


@dataclass(frozen=True)
class MitkTool:
    """The tool, connected to a server.

    Attributes:
        host, port: of the URL that the user typed; its path is not used.
    """

    host: str
    port: int

    def fetch_info(self) -> dict[str, Model]:
        """The models by name (`FetchOverallInfo`, `from_json`)."""
        status, _, body = self._send("GET", "/info/")
        assert status == 200
        info = json.loads(body)
        assert isinstance(info["name"], str) and isinstance(info["description"], str)
        assert all(isinstance(label, str) for label in info["labels"])
        models = {}
        for name, model in info["models"].items():
            assert all(type(value) is int for value in model["labels"].values())
            assert all(isinstance(model[key], str) for key in ("type", "description"))
            assert type(model["dimension"]) is int
            models[name] = Model(name, **{key: model[key] for key in ("labels", "type", "dimension", "description")})
        return models

    def click(
        self, model: str, image: nib.Nifti1Image, positive: Sequence[Place], negative: Sequence[Place] = ()
    ) -> tuple[dict[str, Any], nib.Nifti1Image]:
        """The metadata and the mask for all points so far (`DoUpdatePreview`, `PostInferRequest`).

        Args:
            model: its name.
            image: as MITK has it, clipped to the window (`ApplyLevelWindowEffect`).
            positive, negative: places, index of voxels with fractions.

        Raises:
            MitkError: the server is away, or refuses.
        """
        if self._send("GET", "/info/")[0] != 200:
            raise MitkError("A connection to MONAILabel server cannot be established.")
        shape = image.shape
        reset = "true" if len(positive) == 1 and not negative else "false"
        params = (
            f'{{"foreground":{_points(positive, shape)},"background":{_points(negative, shape)},"reset_state":{reset}}}'
        )
        file = gzip.compress(image.to_bytes(), compresslevel=1)
        body = (
            _item('name="params"', params.encode())
            + _item('name="file"; filename="post_from_mitk.nii.gz"', file, "application/octet-stream")
            + f"--{_BOUNDARY}--\r\n".encode()
        )
        status, content_type, answer = self._send("POST", f"/infer/{model}", body)
        if status != 200:
            raise MitkError("An HTTP POST error: Success occurred.")
        boundary = b"--" + content_type[content_type.find("boundary=") + len("boundary=") :].encode()
        metadata, mask = [part for part in answer.split(boundary)[:-1] if part]
        read = json.loads(metadata[metadata.find(b"Content-Type: application/json") + 30 :])
        stream = b"Content-Type: application/octet-stream"
        written = mask[mask.find(stream) + len(stream) :].lstrip(b" \n\r")
        # zlib stops at the end of the stream; the line break behind it stays unread.
        return read, nib.Nifti1Image.from_bytes(gzip.decompress(written.removesuffix(b"\r\n")))

    def _send(self, method: str, path: str, body: bytes | None = None) -> tuple[int, str, bytes]:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        head = f"{method} {path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\nAccept: */*\r\nConnection: close\r\n"
        head += "User-Agent: cpp-httplib/0.14.0\r\n"
        if body is not None:
            head += f"Content-Length: {len(body)}\r\nContent-Type: multipart/form-data; boundary={_BOUNDARY}\r\n"
        with (
            socket.create_connection((self.host, self.port), timeout=180) as plain,
            context.wrap_socket(plain, server_hostname=self.host) as secure,
        ):
            secure.sendall(head.encode() + b"\r\n" + (body or b""))
            with http.client.HTTPResponse(secure, method=method) as answer:
                answer.begin()
                return answer.status, answer.getheader("content-type", ""), answer.read()


def _item(disposition: str, content: bytes, content_type: str = "") -> bytes:
    typed = f"Content-Type: {content_type}\r\n" if content_type else ""
    return f"--{_BOUNDARY}\r\nContent-Disposition: form-data; {disposition}\r\n{typed}\r\n".encode() + content + b"\r\n"


def _points(places: Sequence[Place], shape: Sequence[int]) -> str:
    """As `ConvertPointsAsListString` writes them: cut off to whole numbers, and without those outside of the image."""
    inside = [place for place in places if all(-0.5 <= at < n - 0.5 for at, n in zip(place, shape, strict=True))]
    return "[" + ",".join(f"[{','.join(str(int(np.trunc(at))) for at in place)}]" for place in inside) + "]"
