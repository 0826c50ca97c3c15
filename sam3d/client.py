"""A client of a running server. It needs requests, nibabel and numpy; neither torch nor MONAI Label."""

import gzip
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, cast

import nibabel as nib
import numpy as np
import requests
from nibabel.filebasedimages import ImageFileError
from numpy.typing import ArrayLike

from sam3d.mask import ImageLike, Mask, as_nifti, existing, label_bytes, plain, prompts_of, voxels_of

_FILE_ENDS = (".nii", ".nii.gz", ".nrrd", ".mha", ".dcm")


class ServerError(ValueError):
    """What the server said of a request that it did not carry out, or that nobody answered.

    Attributes:
        status: of HTTP; None where nobody answered.
    """

    def __init__(self, text: str, status: int | None = None) -> None:
        super().__init__(text)
        self.status = status


class Client:
    """Asks a server that ``sam3d serve`` started.

    Args:
        url: where it answers.
        name: yours: the author of the labels that you submit, and who reviews. Next Sample keeps a case for a name.
        certificate: file with the server's certificate, if it signed that itself (``sam3d serve --tls-self-signed``).
        timeout_s: for the connection, and for each piece of the answer, seconds.

    Attributes:
        session: of requests. A login that a proxy asks for goes here: ``client.session.auth = (user, password)``.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        name: str = "",
        certificate: str | os.PathLike[str] | None = None,
        timeout_s: float = 300.0,
    ) -> None:
        self.url, self.name, self._timeout_s = url.rstrip("/"), name, timeout_s
        self.session = requests.Session()
        # With each request: requests prefers the environment's certificates to those of a session.
        self._verify = None if certificate is None else str(certificate)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.session.close()

    def segment(
        self,
        preset: str,
        image: ImageLike,
        foreground: Sequence[Any] = (),
        background: Sequence[Any] = (),
        *,
        box: Any = None,
        start_from: "Mask | ImageLike | None" = None,
        affine: ArrayLike | None = None,
        threshold: float = 0.5,
        refine: bool = False,
    ) -> Mask:
        """Segments the structure that the prompts point at; all but the first argument as in `sam3d.Model.segment`.

        Args:
            preset: its name, such as ``ct_lesion``.
            image: the id of an image of the server; or an image that is sent along: a `Path` or a text that ends in
                .nii.gz, .nii, .nrrd, .mha or .dcm; an array (i, j, k) with its ``affine``; an image of nibabel.
            foreground: clicks on the structure, each (i, j, k), voxels of the image as it is stored, counted from 0.
            background: clicks beside it.
            box: two opposite corners, [(i, j, k), (i, j, k)].
            start_from: mask that the clicks correct.
            affine: (4, 4), voxel index to RAS mm; of an array.
            threshold: foreground probability above which a voxel belongs to the mask.
            refine: whether to look at the surface again at full resolution.

        Returns:
            It knows the image's voxels only if they were given as an array or by nibabel.

        Raises:
            ServerError: the server refuses, or nobody answers.
            ValueError: something that cannot be sent.
        """
        params = prompts_of(foreground, background, box, threshold, refine) | {"result_extension": ".nii.gz"}
        files: dict[str, Any] = {}
        query, voxels, shape = {"image": ""}, None, None
        if isinstance(image, str) and not image.lower().endswith(_FILE_ENDS):
            query["image"] = image
        elif isinstance(image, str | os.PathLike):
            path = existing(image)
            files["file"] = (path.name, path.read_bytes())
        else:
            voxels, affine = voxels_of(image, affine, "The image")
            files["file"], shape = ("image.nii", as_nifti(voxels, affine).to_bytes()), voxels.shape
        if start_from is not None:
            params["start_from"] = "upload"
            files["label"] = label_bytes(start_from, affine, shape)
        files["params"] = (None, json.dumps(params))
        parts = _parts(self._ask("POST", f"/infer/{preset}", params=query, files=files))
        answered = nib.Nifti1Image.from_bytes(gzip.decompress(parts["image"]))
        return Mask(np.asarray(answered.dataobj), answered.affine, json.loads(parts["params"]), voxels)

    def next_case(self, strategy: str = "random") -> str | None:
        """Id of the image to label next; None where all are labelled, or others hold the rest.

        Args:
            strategy: one of the server's; ``random`` gives the one that was shown longest ago.

        Raises:
            ServerError: the server refuses, or nobody answers.
        """
        found = self._json("POST", f"/activelearning/{strategy}", json={"client_id": self.name})
        return found.get("id")

    def image(self, image: str) -> nib.Nifti1Image:
        """An image of the server, as nibabel reads it.

        Raises:
            ServerError: there is none of that id; it is no NIfTI file; nobody answers.
        """
        content = self._ask("GET", "/datastore/image", params={"image": image}).content
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
        try:
            return nib.Nifti1Image.from_bytes(content)
        except ImageFileError as error:
            raise ServerError(f"Image {image} is no NIfTI file; read it where it lies on the server.") from error

    def submit(
        self,
        image: str,
        mask: "Mask | ImageLike",
        labels: str | Mapping[str, int] | None = None,
        *,
        tag: str = "final",
        corrects: str = "",
    ) -> dict[str, Any]:
        """Saves a label that training learns from.

        Args:
            image: id of the image.
            mask: an answer, a file, or an image of nibabel, on the image's grid.
            labels: name of the structure, or names and their values in the mask; None for the answer's own.
            tag: ``final``, or ``draft`` for one that is not learned from.
            corrects: id of the label that this one takes the place of (see `labels`).

        Returns:
            What the server says, with ``warnings`` on how it reads the label.

        Raises:
            ServerError: the server refuses, or nobody answers.
            ValueError: a mask without a name.
        """
        named = labels or (mask.label if isinstance(mask, Mask) else "")
        values = {named: 1} if isinstance(named, str) else dict(named)
        if "" in values:
            raise ValueError("labels is missing; the name of the structure is expected, such as labels='lesion'.")
        params = {
            "label_info": [{"name": name, "idx": plain(value)} for name, value in values.items()],
            **({"author": self.name} if self.name else {}),
            **({"parent": corrects} if corrects else {}),
        }
        form = {"label": label_bytes(mask), "params": (None, json.dumps(params))}
        return self._json("PUT", "/datastore/label", params={"image": image, "tag": tag}, files=form)

    def train(self, preset: str, **settings: Any) -> dict[str, Any]:
        """Starts a training on the submitted labels; `status` says how far it is.

        Args:
            preset: its name.
            settings: such as ``max_epochs`` and ``publish``; docs/learning.md lists them.

        Returns:
            MONAI Label's entry of the training.

        Raises:
            ServerError: a setting that cannot be used; a training runs already (status 429); nobody answers.
        """
        named = {"started_by": self.name} if self.name else {}
        return self._json("POST", f"/train/{preset}", json=named | settings)

    def stop_training(self) -> None:
        """Stops the training that runs; the next `train` goes on with it.

        Raises:
            ServerError: nobody answers.
        """
        self._ask("DELETE", "/train/")

    def status(self) -> dict[str, Any]:
        """How the server stands.

        Returns:
            ``presets``: the version that each serves; ``cases``: how many are in which state; ``training``: of the
            newest one ``status`` (SUBMITTED, RUNNING, DONE, ERROR, STOPPED), ``preset`` and progress, else None.

        Raises:
            ServerError: nobody answers.
        """
        info, cases, training = self._json("GET", "/info/"), self.cases(), None
        try:
            task = self._json("GET", "/train/")
        except ServerError as error:
            if error.status != 404:
                raise
        else:
            preset = task["request"].get("model", "")
            training = {"status": task["status"], "preset": preset, **info["train_stats"].get(preset, {})}
        return {
            "presets": {name: model.get("version") for name, model in info["models"].items()},
            "cases": dict(Counter(case["state"] for case in cases)),
            "training": training,
        }

    def cases(self) -> list[dict[str, Any]]:
        """All images with their state; docs/workflow.md says what the states mean.

        Raises:
            ServerError: nobody answers.
        """
        return list(self._json("GET", "/cases/")["cases"])

    def labels(self, image: str) -> list[dict[str, Any]]:
        """The labels of an image with id, state and author.

        Raises:
            ServerError: there is no such image, or nobody answers.
        """
        return list(self._json("GET", "/labels/", params={"image": image})["labels"])

    def review(self, label: str, decision: str, comment: str = "") -> dict[str, Any]:
        """Says yes or no to a label.

        Args:
            label: its id.
            decision: ``accept``, ``reject`` (with a comment) or ``withdraw``.
            comment: why.

        Raises:
            ServerError: the server refuses, or nobody answers.
        """
        return self._json(
            "POST", "/reviews/", json={"label": label, "decision": decision, "by": self.name, "comment": comment}
        )

    def _json(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        return cast(dict[str, Any], self._ask(method, path, **more).json())

    def _ask(self, method: str, path: str, **more: Any) -> requests.Response:
        try:
            answer = self.session.request(method, self.url + path, timeout=self._timeout_s, verify=self._verify, **more)
        except requests.exceptions.SSLError as error:
            raise ServerError(
                f"The certificate of {self.url} is not trusted: {error}. If it is one of your own, name its file: "
                "Client(url, certificate=...)."
            ) from error
        except requests.exceptions.RequestException as error:
            raise ServerError(
                f"No server answers at {self.url} ({type(error).__name__}). Start one: sam3d serve --studies FOLDER"
            ) from error
        if answer.ok:
            return answer
        try:
            text = str(answer.json()["detail"])
        except (ValueError, KeyError, TypeError):
            text = answer.text or answer.reason
        raise ServerError(f"The server refused (status {answer.status_code}): {text}", answer.status_code)


def _parts(answer: requests.Response) -> dict[str, bytes]:
    """The parts of an answer, by name."""
    boundary = answer.headers["content-type"].partition("boundary=")[2]
    found = {}
    for part in answer.content.split(f"--{boundary}".encode())[1:-1]:
        head, _, body = part.partition(b"\r\n\r\n")
        name = head.partition(b'name="')[2].partition(b'"')[0]
        found[name.decode()] = body.removesuffix(b"\r\n")
    return found
