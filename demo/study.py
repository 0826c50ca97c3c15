"""What is clicked on: a volume in a folder of its own, where to click, and the truth where it is known."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from lib.volumes.nifti import is_on_same_voxels
from lib.volumes.nifti_frame import viewers_affine

Voxel = tuple[int, int, int]

IMAGE_ENDINGS = (".nii.gz", ".nii")
# Where labels usually lie, seen from the folder of images: MONAI Label's own place, then the customary ones.
LABEL_FOLDERS = ("labels/final", "labels", "../labels", "../labelsTr")
_LISTED = 10


class DemoError(Exception):
    """The demo cannot go on, with what to do about it."""


@dataclass(frozen=True)
class Study:
    """A volume to click on.

    Attributes:
        folder: holds this volume alone; MONAI Label writes its index beside it.
        image_id: the volume's name for MONAI Label.
        image: (i, j, k).
        affine: (4, 4), voxel index to RAS mm.
        click: first click, (i, j, k).
        truth: (i, j, k) bool, the structure under the click, or None where nobody drew it.
        what: a few words for the picture's title.
    """

    folder: Path
    image_id: str
    image: np.ndarray
    affine: np.ndarray
    click: Voxel
    truth: np.ndarray | None
    what: str


def user_study(folder: Path, studies: Path, image: str | None, click: Voxel | None) -> Study:
    """One of the user's own volumes, copied, so that nothing is written where it lies.

    Args:
        folder: an empty folder, takes the copy.
        studies: the user's folder of NIfTI files.
        image: name of the volume, with or without ending; None where there is just one.
        click: voxel index (i, j, k); None to click deep inside the known label.

    Raises:
        DemoError: no such folder or volume, not a 3-D volume, or a click that is missing or outside.
    """
    source = _find_image(studies, image)
    image_id = _without_ending(source.name)
    values, affine = _load(source)
    label = _find_label(studies, image_id)
    structures = _load_label(label, source, values.shape, affine) if label is not None else None
    if click is None:
        if structures is None or not structures.any():
            places = ", ".join(f"{studies / place}" for place in LABEL_FOLDERS)
            raise DemoError(
                f"Where to click? Give CLICK=i,j,k, a voxel index of the array of {values.shape}. "
                f"(Without it a click is put inside the label of the same name, but none lies in {places}.)"
            )
        click = deepest_voxel(structures > 0, affine)
    check_inside(click, values.shape)
    truth = None
    if structures is not None and structures[click] != 0:
        truth = structures == structures[click]
    elif structures is not None:
        print(f"note: the label {label} has nothing at the click {click}, so no Dice is computed")
    shutil.copy(source, folder / source.name)
    return Study(folder, image_id, values, affine, click, truth, image_id)


def parse_click(text: str) -> Voxel:
    """``"90,120,31"`` -> (90, 120, 31).

    Raises:
        DemoError: not three whole numbers.
    """
    try:
        i, j, k = (int(part) for part in text.split(","))
    except ValueError as error:
        raise DemoError(
            f"CLICK={text} is not a voxel index; write three whole numbers i,j,k: CLICK=90,120,31"
        ) from error
    return i, j, k


def check_inside(click: Voxel, shape: tuple[int, ...]) -> None:
    """Say it before a server is started.

    Raises:
        DemoError: the click is outside the image.
    """
    if not all(0 <= index < size for index, size in zip(click, shape, strict=True)):
        raise DemoError(
            f"The click {click} is outside the image: indices run from (0, 0, 0) to {tuple(n - 1 for n in shape)}. "
            "CLICK is a voxel index (column, row, slice of the array), not a position in mm."
        )


def deepest_voxel(mask: np.ndarray, affine: np.ndarray) -> Voxel:
    """The voxel of a mask farthest (in mm) from its border: where a person would click.

    Args:
        mask: (i, j, k) bool, not empty.
        affine: (4, 4), voxel index to RAS mm.
    """
    # The sub-box with one voxel around it: the distance transform of a whole volume takes long.
    low = np.maximum(np.argwhere(mask).min(axis=0) - 1, 0)
    high = np.argwhere(mask).max(axis=0) + 2
    box = np.pad(mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))], 1)
    depth = ndimage.distance_transform_edt(box, sampling=nib.affines.voxel_sizes(affine))
    deepest = np.argwhere(depth >= depth.max() * (1 - 1e-6))
    # Many are equally deep in something long: its end is nobody's choice.
    middle = deepest[np.linalg.norm(deepest - deepest.mean(axis=0), axis=1).argmin()]
    i, j, k = (int(n) for n in middle - 1 + low)
    return i, j, k


def dice(mask: np.ndarray, truth: np.ndarray) -> float:
    """Overlap of two bool masks, 0 to 1; 1 if both are empty."""
    total = int(mask.sum()) + int(truth.sum())
    return 2 * int((mask & truth).sum()) / total if total else 1.0


def _find_image(studies: Path, image: str | None) -> Path:
    if not studies.is_dir():
        raise DemoError(f"STUDIES={studies} is not a folder. The demo reads NIfTI; for DICOMweb use 'make serve'.")
    volumes = sorted(path for path in studies.iterdir() if path.name.endswith(IMAGE_ENDINGS) and path.is_file())
    if not volumes:
        raise DemoError(f"STUDIES={studies} holds no NIfTI volume ({', '.join(IMAGE_ENDINGS)}).")
    names = ", ".join(_without_ending(path.name) for path in volumes[:_LISTED])
    if len(volumes) > _LISTED:
        names += f" and {len(volumes) - _LISTED} more"
    if image is None:
        if len(volumes) > 1:
            raise DemoError(f"Which volume? Give IMAGE=, one of: {names}.")
        return volumes[0]
    for path in volumes:
        if image in (path.name, _without_ending(path.name)):
            return path
    raise DemoError(f"IMAGE={image} does not lie in {studies}. There are: {names}.")


def _find_label(studies: Path, image_id: str) -> Path | None:
    candidates = (studies / place / f"{image_id}{ending}" for place in LABEL_FOLDERS for ending in IMAGE_ENDINGS)
    return next((path for path in candidates if path.is_file()), None)


def _load(path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        volume = nib.load(path)
        values = np.asarray(volume.dataobj)
    except (OSError, EOFError, ValueError, nib.filebasedimages.ImageFileError) as error:
        raise DemoError(f"{path} cannot be read as NIfTI: {error}") from error
    if values.ndim != 3:
        raise DemoError(f"{path} has the shape {values.shape}; a volume with three axes is needed.")
    # The server's answer is checked against it.
    return values, viewers_affine(path, volume.header)


def _load_label(path: Path, image: Path, shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
    values, label_affine = _load(path)
    is_there = values.shape == shape and (
        np.allclose(affine, label_affine, atol=1e-2) or is_on_same_voxels(path, image)
    )
    if not is_there:
        raise DemoError(f"The label {path} does not lie on the grid of its image; move it away or mend it.")
    return values


def _without_ending(name: str) -> str:
    for ending in IMAGE_ENDINGS:
        name = name.removesuffix(ending)
    return name
