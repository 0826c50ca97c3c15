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
_LONGEST_QUATERNION = 1.01
"""Beyond this a quaternion is no rotation that was rounded: 3 decimals make one of length 1 at most 0.001 longer."""
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
        header: of nibabel, of that file, not checked; of one volume.

    Raises:
        ImageError: the header has a damaged field, of which each program makes another position.
    """
    own = _header_affine(_repaired(header))
    try:
        require_frame(own, path.name)
    except ImageError:
        return own
    # ITK prints what it thinks of numbers that are not finite.
    is_finite = np.isfinite(header.get_sform()).all() or header["sform_code"] <= 0
    shown = _itk_affine(path) if is_finite else None
    if shown is not None and is_same_affine(own, shown, header.get_data_shape()):
        return own
    if damage := _damage(header):
        raise ImageError(
            f"Image {path.name} has no usable position in space: {damage}, of which each program makes another "
            "position. Export it again."
        )
    return own if shown is None else shown


def named_affines(path: Path, header: Any) -> list[Array]:
    """All affines that a program may find in a header: voxel index to RAS mm, that of the viewers first.

    Raises:
        ImageError: as `viewers_affine`.
    """
    repaired = _repaired(header)
    coded = (repaired.get_sform(coded=True), repaired.get_qform(coded=True))
    found = [_in_mm(header, affine) for affine, code in coded if code]
    return [viewers_affine(path, header), *found, _header_affine(repaired)]


def _repaired(header: Any) -> Any:
    """A copy with the fields mended that the standard, nibabel and ITK mend alike.

    qfac is 1 unless it is -1, voxel sizes are positive, codes from 1 on name a position, a quaternion that rounding
    made longer than 1 is shortened, and a position that is none counts as absent.
    """
    copy = header.copy()
    sizes = np.abs(copy["pixdim"][1:4])
    copy["pixdim"][1:4] = np.where(np.isfinite(sizes) & (sizes > 0), sizes, 1)
    copy["pixdim"][0] = -1 if copy["pixdim"][0] == -1 else 1
    copy["sform_code"] = 0 if _problem_of_sform(header) else max(int(copy["sform_code"]), 0)
    copy["qform_code"] = 0 if _problem_of_qform(header) else max(int(copy["qform_code"]), 0)
    quaternion = _quaternion(copy)
    length = float(np.linalg.norm(quaternion))
    if not length <= 1:
        # A little shorter, or float32 would exceed it again.
        shortened = quaternion / length * (1 - 1e-7) if np.isfinite(length) else np.zeros(3)
        copy["quatern_b"], copy["quatern_c"], copy["quatern_d"] = shortened
    return copy


def _damage(header: Any) -> str:
    """What in a header is no mistake of rounding; empty where nothing is."""
    problem, has_qform = _problem_of_sform(header), header["qform_code"] > 0
    # ITK passes over an sform that maps no volume, to a qform.
    is_passed_over = has_qform and np.isfinite(header.get_sform()).all()
    if header["sform_code"] > 0 and problem and not is_passed_over:
        return problem
    problem = _problem_of_sizes(header)
    return _problem_of_qform(header) if has_qform and not problem else problem


def _problem_of_sform(header: Any) -> str:
    sform = header.get_sform()
    if not np.isfinite(sform).all():
        return "its sform holds values that are not finite"
    return "" if np.linalg.det(sform[:3, :3]) else "its sform maps no volume"


def _problem_of_sizes(header: Any) -> str:
    sizes = header["pixdim"][1:4]
    is_good = np.isfinite(sizes).all() and sizes.all()
    return "" if is_good else f"its voxel sizes (pixdim) are {_listed(sizes)}"


def _problem_of_qform(header: Any) -> str:
    offset = np.array([header[f"qoffset_{axis}"] for axis in "xyz"], np.float64)
    quaternion, qfac = _quaternion(header), float(header["pixdim"][0])
    if not (np.isfinite(quaternion).all() and np.isfinite(offset).all()):
        return "its qform holds values that are not finite"
    if np.linalg.norm(quaternion) > _LONGEST_QUATERNION:
        return f"its quaternion {_listed(quaternion)} is longer than 1"
    if qfac < 0 and qfac != -1:
        return f"its qfac (pixdim[0]) is {qfac:g} instead of 1 or -1"
    return _problem_of_sizes(header)


def _quaternion(header: Any) -> Array:
    return np.array([header[f"quatern_{part}"] for part in "bcd"], np.float64)


def _listed(values: Any) -> str:
    return ", ".join(f"{float(value):g}" for value in values)


def is_same_affine(one: Array, other: Array, shape: tuple[int, ...], *, tolerance: float = _SAME_VOXELS) -> bool:
    """Whether the corners of a volume of that shape lie in the same places by two affines to mm.

    Args:
        one: (4, 4).
        other: (4, 4).
        shape: voxels along each axis.
        tolerance: voxels by which they may differ.
    """
    if not np.linalg.det(one):
        return False
    corners = np.array(list(product(*((0, length - 1) for length in shape[:3]))), np.float64)
    moved = transform_points(np.linalg.inv(one) @ other, corners)
    return bool(np.abs(moved - corners).max() < tolerance)


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
