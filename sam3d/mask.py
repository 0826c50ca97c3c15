"""A mask on the grid of its image: what `sam3d.load` and `sam3d.Client` answer with. No torch is needed."""

import io
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import nibabel as nib
import numpy as np
from nibabel.spatialimages import SpatialImage
from numpy.typing import ArrayLike, NDArray

_AROUND = 16
"""Voxels around the mask from which the picture takes its window."""
SUFFIXES = (".nii.gz", ".nii")
ImageLike: TypeAlias = str | os.PathLike[str] | ArrayLike | SpatialImage
"""A file, an array (i, j, k), or an image of nibabel."""


@dataclass(frozen=True, eq=False, repr=False)
class Mask:
    """The answer to prompts about an image.

    Attributes:
        array: (i, j, k) uint8 on the image's grid: 1 in the structure, 0 elsewhere; k + 1 for the k-th further label.
        affine: (4, 4), voxel index to RAS mm.
        info: what the server's answer says beside the mask: clicks used, version of the weights, hashes.
        image: (i, j, k) voxels that `plot` shows; None where they are not here.
    """

    array: NDArray[np.uint8]
    affine: NDArray[np.float64]
    info: dict[str, Any] = field(default_factory=dict)
    image: NDArray[Any] | None = None

    def __repr__(self) -> str:
        codes = ", ".join(warning.partition(":")[0] for warning in self.warnings)
        return f"{self.label or 'mask'}, {self.volume_ml:.1f} ml" + (f"; warnings: {codes}" if codes else "")

    @property
    def label(self) -> str:
        """Name of the structure."""
        return str(self.info.get("label", ""))

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to know before trusting the mask: ``code: Sentence.``"""
        return tuple(self.info.get("warnings", ()))

    @property
    def predicted_dice(self) -> dict[str, Any] | None:
        """``dice``, and the Dice ``at_least`` that 9 in 10 answers reach for cases like those of the ``patients`` that
        are labelled; None while fewer than 20 are, and of answers to other prompts than clicks."""
        return self.info.get("predicted_dice")

    @property
    def volume_ml(self) -> float:
        """Of all that is not 0."""
        return float(np.count_nonzero(self.array) * abs(np.linalg.det(self.affine[:3, :3])) / 1000)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a NIfTI file.

        Raises:
            ValueError: a name that does not end in .nii.gz or .nii.
        """
        if not str(path).lower().endswith(SUFFIXES):
            raise ValueError(f"The file is to be {Path(path).name}; a name that ends in .nii.gz or .nii is expected.")
        nib.save(as_nifti(self.array, self.affine), path)

    def plot(self) -> Any:
        """A matplotlib figure: in each direction the slice with most of the mask, and its outline on the image.

        Slices are seen as radiologists look at them, the patient's right at the left.
        """
        from matplotlib.figure import Figure  # not needed by a client that only sends labels

        figure = Figure(figsize=(10, 4), layout="constrained")
        voxels = np.zeros(self.array.shape, np.uint8) if self.image is None else self.image
        turn = nib.orientations.ornt_transform(
            nib.io_orientation(self.affine), nib.orientations.axcodes2ornt(("L", "A", "S"))
        )
        mask, image = (nib.orientations.apply_orientation(array, turn) for array in (self.array > 0, voxels))
        there = np.argwhere(mask) if mask.any() else np.array([mask.shape]) // 2
        near = tuple(slice(max(0, a - _AROUND), b + _AROUND) for a, b in zip(there.min(0), there.max(0), strict=True))
        low, high = np.nanpercentile(image[near], (1, 99))
        spacing = np.empty(3)
        spacing[turn[:, 0].astype(int)] = np.linalg.norm(self.affine[:3, :3], axis=0)
        for axes, name, across in zip(figure.subplots(1, 3), ("sagittal", "coronal", "axial"), range(3), strict=True):
            others = [axis for axis in range(3) if axis != across]
            at = int(mask.sum(axis=tuple(others)).argmax()) if mask.any() else mask.shape[across] // 2
            shown, outline = image.take(at, across).T, mask.take(at, across).T
            axes.imshow(
                shown, cmap="gray", vmin=low, vmax=high, origin="lower", aspect=spacing[others[1]] / spacing[others[0]]
            )
            if outline.any():
                axes.contour(outline, levels=[0.5], colors="orange")
            axes.set_title(name)
            axes.set_axis_off()
        figure.suptitle(repr(self))
        return figure

    def _repr_png_(self) -> bytes:
        """What a notebook shows."""
        buffer = io.BytesIO()
        self.plot().savefig(buffer, format="png", dpi=80)
        return buffer.getvalue()


def existing(path: str | os.PathLike[str]) -> Path:
    """The path of a file or folder that is there.

    Raises:
        ValueError: it is not.
    """
    found = Path(path).expanduser()
    if not found.exists():
        raise ValueError(f"There is no file or folder {found}; the path of an existing one is expected.")
    return found


def as_nifti(array: NDArray[Any], affine: ArrayLike) -> nib.Nifti1Image:
    """An image of nibabel with both positions of the header set, for programs that read only one."""
    voxels = array.astype(np.uint8) if array.dtype == bool else array
    image = nib.Nifti1Image(voxels, np.asarray(affine, np.float64), dtype=voxels.dtype)
    image.set_sform(image.affine, code=1)
    image.set_qform(image.affine, code=1)
    return image


def voxels_of(image: ImageLike, affine: ArrayLike | None, what: str) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """The voxels (i, j, k) and the affine of an image that is no file.

    Args:
        image: an array, or an image of nibabel.
        affine: (4, 4), of an array.
        what: for messages.

    Raises:
        ValueError: an array without affine, or an affine beside an image that has one.
    """
    if isinstance(image, SpatialImage):
        if affine is not None:
            raise ValueError(f"{what} has an affine of its own, and another one was given; leave that out.")
        return np.asanyarray(image.dataobj), np.asarray(image.affine, np.float64)
    if affine is None:
        raise ValueError(
            f"{what} is an array without an affine; the (4, 4) matrix from voxel index to RAS mm is expected, such as "
            "affine=np.diag([dx, dy, dz, 1]) for voxels of dx x dy x dz mm."
        )
    found = np.asarray(affine, np.float64)
    if found.shape != (4, 4):
        raise ValueError(f"affine has the shape {found.shape}; (4, 4) is expected, from voxel index to RAS mm.")
    return np.asarray(image), found


def label_bytes(
    mask: "Mask | ImageLike", affine: ArrayLike | None = None, shape: tuple[int, ...] | None = None
) -> tuple[str, bytes]:
    """A file for a label map: name and content.

    Args:
        mask: of an earlier answer, a file, an image of nibabel, or an array on the image's grid.
        affine: (4, 4), of the image; None where it is not here.
        shape: of the image.

    Raises:
        ValueError: no such file, an array of another shape, or one of which nobody knows where it lies.
        OSError: the file cannot be read.
    """
    if isinstance(mask, str | os.PathLike):
        path = existing(mask)
        return path.name, path.read_bytes()
    if isinstance(mask, Mask):
        return "label.nii", as_nifti(mask.array, mask.affine).to_bytes()
    if isinstance(mask, SpatialImage):
        return "label.nii", as_nifti(*voxels_of(mask, None, "The mask")).to_bytes()
    voxels, found = voxels_of(mask, affine, "The mask")
    if shape is not None and voxels.shape != tuple(shape):
        raise ValueError(f"The mask is an array of {voxels.shape} voxels; those of the image are expected, {shape}.")
    return "label.nii", as_nifti(voxels, found).to_bytes()


def plain(value: Any) -> Any:
    """As the server would get it: arrays and numpy's numbers become lists and numbers.

    Raises:
        ValueError: something that no request can hold.
    """
    try:
        return json.loads(json.dumps(value, default=lambda other: other.tolist()))
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{value!r} cannot be sent; numbers, lists and arrays of numbers are expected.") from error


def prompts_of(
    foreground: Sequence[Any], background: Sequence[Any], box: Any, threshold: float, refine: bool
) -> dict[str, Any]:
    """The part of a request that both ways to ask have in common."""
    return {
        "foreground": plain(foreground),
        "background": plain(background),
        "box": plain(box),
        "threshold": plain(threshold),
        "refine": refine,
    }
