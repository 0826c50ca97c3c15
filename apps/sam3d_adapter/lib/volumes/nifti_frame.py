"""Where a NIfTI file lies in space, for the viewers.

A header has room for two positions, sform and qform, may have neither, and names its unit. nibabel takes the sform,
whatever the unit; 3D Slicer and MITK leave the choice to ITK, which often takes the qform, and without either lays the
volume along its own axes. They put a mask where its affine says, so that of an image whose header leaves a choice
the affine must be the one ITK takes: ITK itself is asked.
"""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from lib.geometry.axes import Array, transform_points
from lib.volumes.volume import ImageError, require_frame

_SAME_VOXELS = 0.01
"""Voxels by which two affines may differ, at the corners, and still say the same."""
_MM = {1: 1000.0, 3: 0.001}
"""Of the header's codes for units: metre and micrometre; what is neither counts as mm.
https://nifti.nimh.nih.gov/pub/dist/src/niftilib/nifti1.h"""
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def viewers_affine(path: Path, header: Any) -> Array:
    """(4, 4), voxel index to RAS mm, as viewers that read with ITK have it.

    The header's own, which has more digits, where both say the same; so it is where ITK cannot read the file (NIfTI-2,
    axes not at right angles without a qform), for then no such viewer shows it. Axes farther from right angles than
    `make_volume` admits are left to it to refuse: of them some viewers make upright ones, others do not.

    Args:
        path: of the file.
        header: of nibabel, of that file; of one volume.

    Raises:
        HeaderDataError: a header that nibabel finds no position in.
    """
    own = _header_affine(header)
    try:
        require_frame(own, path.name)
        shown = _itk_affine(path)
    except ImageError:
        return own
    shape = header.get_data_shape()[:3]
    return own if shown is None or is_same_affine(own, shown, shape) else shown


def named_affines(path: Path, header: Any) -> list[Array]:
    """All affines that a program may find in a header: voxel index to RAS mm, that of the viewers first.

    Raises:
        HeaderDataError: a header that nibabel finds no position in.
    """
    coded = (header.get_sform(coded=True), header.get_qform(coded=True))
    found = [_in_mm(header, affine) for affine, code in coded if code]
    return [viewers_affine(path, header), *found, _header_affine(header)]


def is_same_affine(one: Array, other: Array, shape: tuple[int, ...]) -> bool:
    """Whether the corners of a volume of that shape lie in the same places by two affines to mm."""
    if not np.linalg.det(one):
        return False
    corners = np.array(list(product(*((0, length - 1) for length in shape[:3]))), np.float64)
    moved = transform_points(np.linalg.inv(one) @ other, corners)
    return bool(np.abs(moved - corners).max() < _SAME_VOXELS)


def _header_affine(header: Any) -> Array:
    return _in_mm(header, header.get_best_affine())


def _in_mm(header: Any, affine: Array) -> Array:
    scaled = np.array(affine, np.float64)
    scaled[:3] *= _MM.get(int(header["xyzt_units"]) & 7, 1.0)
    return scaled


def _itk_affine(path: Path) -> Array | None:
    """What ITK reads in a file's header; None where it refuses the file."""
    reader = sitk.ImageFileReader()
    # By name: another format would be tried for content that looks like it.
    reader.SetImageIO("NiftiImageIO")
    reader.SetFileName(str(path))
    # Its warnings are of what is settled here, and name paths.
    warns = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        return None
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(warns)
    axes = reader.GetDimension()
    affine = np.eye(4)
    directions = np.reshape(reader.GetDirection(), (axes, axes))[:3, :3]
    # A voxel size below 0 turns its axis round when ITK reads the volume itself.
    affine[:3, :3] = directions * reader.GetSpacing()[:3]
    affine[:3, 3] = reader.GetOrigin()[:3]
    return _LPS_TO_RAS @ affine
