"""What must hold of a click and its answer; each check raises AssertionError with what it found."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from tests.support.dicom_study import Geometry, Voxel

# Low enough for small networks on a solid they never saw, far above what a mask in another place can reach.
_MIN_DICE = 0.7
_MAX_OFF_MM = 4.0


@dataclass(frozen=True)
class Mask:
    """A mask as a file says it.

    Attributes:
        values: (i, j, k) uint8.
        index_to_lps: (4, 4) voxel index -> LPS mm.
    """

    values: np.ndarray
    index_to_lps: np.ndarray


def read_mask(answer: bytes) -> Mask:
    """Decode an answered NRRD file by another reader than the server's writer."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "answer.nrrd"
        path.write_bytes(answer)
        image = sitk.ReadImage(str(path))
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    matrix[:3, 3] = image.GetOrigin()
    return Mask(sitk.GetArrayFromImage(image).transpose(), matrix)


def check_clicks(sent: list[list[int]], expected: list[Voxel]) -> None:
    """Exactly these voxels were clicked; aimed at are their centres, so that no rounding is to be forgiven."""
    if [tuple(click) for click in sent] != expected:
        raise AssertionError(f"clicks sent: {sent}, aimed at: {expected}")


def check_equal(shown: np.ndarray, answered: np.ndarray) -> None:
    """What is shown is what was answered, voxel for voxel."""
    if shown.shape != answered.shape:
        raise AssertionError(f"shown: {shown.shape} voxels, answered: {answered.shape}")
    if not answered.any():
        raise AssertionError("the answer is empty")
    differing = int(np.count_nonzero(shown != answered))
    if differing:
        raise AssertionError(f"{differing} voxels differ; {np.count_nonzero(answered)} were answered")


def check_grid(mask: Mask, geometry: Geometry) -> None:
    """The file lies on the image's grid: viewers other than OHIF go by its geometry."""
    if mask.values.shape != geometry.shape:
        raise AssertionError(f"mask: {mask.values.shape} voxels, image: {geometry.shape}")
    if not np.allclose(mask.index_to_lps, geometry.index_to_lps, atol=1e-3):
        raise AssertionError(f"mask:\n{mask.index_to_lps}\nimage:\n{geometry.index_to_lps}")


def check_place(values: np.ndarray, solid: np.ndarray, geometry: Geometry, clicks: list[Voxel]) -> None:
    """The mask is the solid that was clicked: it holds the clicks, lies where the solid lies and covers it.

    Args:
        values: (i, j, k), nonzero = mask.
        solid: (i, j, k) bool.
        geometry: of both.
        clicks: voxels within the solid.
    """
    mask = values > 0
    if not mask.any():
        raise AssertionError("the mask is empty")
    outside = [click for click in clicks if not mask[click]]
    if outside:
        raise AssertionError(f"clicks {outside} are not in the mask")
    dice = 2 * np.count_nonzero(mask & solid) / (np.count_nonzero(mask) + np.count_nonzero(solid))
    off_mm = float(np.linalg.norm(_centroid(mask, geometry) - _centroid(solid, geometry)))
    if dice < _MIN_DICE or off_mm > _MAX_OFF_MM:
        raise AssertionError(f"Dice {dice:.2f} (at least {_MIN_DICE}), {off_mm:.1f} mm off (at most {_MAX_OFF_MM})")


def _centroid(mask: np.ndarray, geometry: Geometry) -> np.ndarray:
    return geometry.lps(np.argwhere(mask).mean(axis=0))
