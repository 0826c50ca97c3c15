"""The Python interface: a preset's model answers prompts as the server does, in this process."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lib.infers.answer import answer_request
from lib.presets import Preset, load_presets
from lib.registry.registry import DEFAULT_LEARNING_DIR, Registry
from lib.requests.request import LABEL_FILE_KEY, Request
from lib.serving.preset_segmenter import PresetSegmenter, SharedState
from lib.volumes.modality import source_modality
from lib.volumes.read import open_volume
from lib.volumes.volume import Volume, make_volume
from sam3d.mask import ImageLike, Mask, existing, label_bytes, plain, prompts_of, voxels_of

_FLIPS = {"ras": np.array([1.0, 1.0, 1.0]), "lps": np.array([-1.0, -1.0, 1.0])}
"""Signs of the axes that turn a position in mm into RAS."""


class Model:
    """Answers prompts with one version of a preset's weights, as a server on the same app folder does.

    Attributes:
        preset: its values: ``name``, ``label``, ``modality``, ``description``.
        version: id of the version, or ``shipped``.
        device: ``cpu`` or ``cuda:N``.
    """

    def __init__(self, preset: Preset, segmenter: PresetSegmenter, device: str | None) -> None:
        self.preset = preset
        self._served, self._volumes = segmenter.open(device), segmenter.shared.volumes
        self.version, self.device = self._served.version, self._served.device

    def segment(
        self,
        image: ImageLike,
        foreground: Sequence[Any] = (),
        background: Sequence[Any] = (),
        *,
        box: Any = None,
        start_from: "Mask | ImageLike | None" = None,
        coordinates: str = "voxel",
        affine: ArrayLike | None = None,
        threshold: float = 0.5,
        refine: bool = False,
    ) -> Mask:
        """Segments the structure that the prompts point at.

        Nothing is remembered from one call to the next: give all clicks each time. Leave the last one out to undo it.

        Args:
            image: a file (NIfTI, NRRD, MetaImage), a folder with one DICOM series, an array (i, j, k), or an image of
                nibabel.
            foreground: clicks on the structure, each (i, j, k): column, row and slice, counted from 0, of the image as
                it is stored. ``array[i, j, k]`` of the voxels as nibabel reads them is the clicked one.
            background: clicks beside the structure.
            box: two opposite corners, [(i, j, k), (i, j, k)]; both belong to it.
            start_from: mask that the clicks correct: an earlier answer, a file, an image of nibabel, or an array on
                the image's grid. Its one value above 0 is the structure.
            coordinates: of clicks and box: ``"voxel"``; ``"ras"`` for mm as nibabel has them; ``"lps"`` for mm as
                DICOM and ITK have them. Places in mm are rounded to the nearest voxel.
            affine: (4, 4), voxel index to RAS mm; needed with an array.
            threshold: foreground probability above which a voxel belongs to the mask.
            refine: whether to look at the surface again at full resolution.

        Raises:
            ValueError: an image, prompt or option that cannot be used: what was given, what is expected, what to do.
        """
        volume, modality = self._read(image, affine)
        sent = prompts_of(foreground, background, box, threshold, refine)
        if coordinates != "voxel":
            sent |= {key: in_voxels(sent[key], volume.affine, coordinates, key) for key in _PLACES if sent[key]}
        with tempfile.TemporaryDirectory() as folder:
            if start_from is not None:
                name, content = label_bytes(start_from, volume.affine, tuple(volume.voxels.shape))
                path = Path(folder, name)
                path.write_bytes(content)
                sent |= {"start_from": "upload", LABEL_FILE_KEY: str(path)}
            request = Request.read(sent | {"device": self.device}, self.preset.label)
            answer = answer_request(self.preset, request, volume, self._served, modality=modality, cache=self._volumes)
        voxels = volume.voxels.numpy()
        voxels.flags.writeable = False  # shared with later answers
        return Mask(answer.mask, np.array(volume.affine), answer.description, voxels)

    def _read(self, image: ImageLike, affine: ArrayLike | None) -> tuple[Volume, str | None]:
        """The image, and the modality that its source names."""
        if not isinstance(image, str | os.PathLike):
            voxels, affine = voxels_of(image, affine, "The image")
            return make_volume(voxels, affine, "given as an array"), None
        if affine is not None:
            raise ValueError(
                f"An affine was given for {Path(image).name}, which is a file and has its own; leave it out."
            )
        path = existing(image)
        return open_volume(path, self._volumes), source_modality(path)


_PLACES = ("foreground", "background", "box")


def in_voxels(points: Any, affine: NDArray[np.float64], coordinates: str, what: str) -> list[list[int]]:
    """Places in mm as voxel indices, rounded.

    Args:
        points: (N, 3) mm.
        affine: (4, 4), voxel index to RAS mm.
        coordinates: ``"ras"`` or ``"lps"``.
        what: for messages.

    Raises:
        ValueError: other coordinates, or no list of three finite numbers each.
    """
    if coordinates not in _FLIPS:
        raise ValueError(f"coordinates is {coordinates!r}; choose from: voxel, {', '.join(_FLIPS)}.")
    try:
        mm = np.array(points, np.float64)
    except (TypeError, ValueError):
        mm = np.empty(0)
    if mm.ndim != 2 or mm.shape[1] != 3 or not np.isfinite(mm).all():
        raise ValueError(f"{what} is {points!r}; a list of places (x, y, z) in mm is expected.")
    homogeneous = np.column_stack([mm * _FLIPS[coordinates], np.ones(len(mm))])
    found: list[list[int]] = plain(np.rint(homogeneous @ np.linalg.inv(affine).T)[:, :3].astype(int))
    return found


def load(preset: str, *, device: str | None = None, app: str | os.PathLike[str] | None = None) -> Model:
    """The model of a preset, with the version of its weights that a server on this folder would serve.

    Args:
        preset: its name, such as ``ct_lesion``.
        device: ``cpu``, ``cuda:N``; None for the first GPU, else the CPU.
        app: app folder; None for the default of the program ``sam3d``.

    Raises:
        ValueError: no such preset or device, or no weights; the message says how to get them.
    """
    from sam3d.app_folder import app_folder

    folder = app_folder(None if app is None else Path(app))
    found = load_presets(folder / "configs", (preset,))[preset]
    versions = Registry(folder / DEFAULT_LEARNING_DIR).of(preset, found.model.size, found.model.family)
    return Model(found, PresetSegmenter(found, folder, SharedState.of(), versions), device)
