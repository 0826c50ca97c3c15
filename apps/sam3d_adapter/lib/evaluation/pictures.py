"""A case as a picture: image, truth, mask and clicks in three planes through the largest error."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # files are wanted, on machines without display too

import matplotlib.pyplot as plt
import nibabel as nib
import nibabel.affines
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lib.evaluation.simulated_user import Mask, SimulatedClick, deepest_error

# Name, and the axes (right, anterior, superior) shown from left to right and from bottom to top.
_PLANES = (("axial", 0, 1), ("coronal", 0, 2), ("sagittal", 1, 2))
_TRUTH, _MASK, _POSITIVE, _NEGATIVE = "#2ec4b6", "#ff9f1c", "#7CFC00", "#ff4d6d"
_FAINT = 0.35


def draw_case(
    path: Path,
    image: np.ndarray,
    affine: np.ndarray,
    truth: Mask,
    mask: Mask,
    clicks: Sequence[SimulatedClick],
    title: str,
) -> None:
    """Writes the picture; clicks that lie in other planes are faint.

    Args:
        path: PNG file.
        image: (i, j, k).
        affine: (4, 4), voxel index to RAS mm.
        truth: (i, j, k) bool, not empty.
        mask: (i, j, k) bool.
        clicks: voxel indices (i, j, k).
        title: above the planes.
    """
    centre = deepest_error(mask != truth, seed=42) or deepest_error(truth, seed=42)
    assert centre is not None  # the truth is not empty
    voxels = [centre, *(click.ijk for click in clicks)]
    (image, truth, mask), placed, spacing = upright(affine, (image, truth, mask), voxels)
    figure, panels = plt.subplots(1, 3, figsize=(13, 5))
    for panel, (name, across, up) in zip(panels, _PLANES, strict=True):
        through = 3 - across - up
        at = int(placed[0][through])
        draw_plane(panel, [np.take(array, at, axis=through).T for array in (image, truth, mask)],
                   (spacing[across], spacing[up]))  # fmt: skip
        for voxel, click in zip(placed[1:], clicks, strict=True):
            panel.plot(voxel[across] * spacing[across], voxel[up] * spacing[up], linestyle="none",
                       marker="+" if click.positive else "x", color=_POSITIVE if click.positive else _NEGATIVE,
                       markersize=9, markeredgewidth=2, alpha=1.0 if voxel[through] == at else _FAINT)  # fmt: skip
        panel.set_title(name, fontsize=10)
    figure.suptitle(title, fontsize=11, parse_math=False)  # names of cases may hold $
    add_legend(figure)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def upright(
    affine: np.ndarray, arrays: Sequence[np.ndarray], voxels: Sequence[Sequence[int]]
) -> tuple[list[np.ndarray], list[np.ndarray], tuple[float, float, float]]:
    """Arrays, voxels and voxel sizes along the axes nearest to right, anterior and superior.

    Args:
        affine: (4, 4), voxel index to RAS mm.
        arrays: (i, j, k) each.
        voxels: indices (i, j, k).

    Returns:
        The arrays, the voxels' indices in them, and mm along each axis.
    """
    turn = nib.io_orientation(affine)
    back = np.linalg.inv(nib.orientations.inv_ornt_aff(turn, arrays[0].shape))
    right, anterior, superior = (float(mm) for mm in nib.affines.voxel_sizes(affine @ np.linalg.inv(back)))
    placed = [np.rint(nib.affines.apply_affine(back, voxel)) for voxel in voxels]
    return [nib.apply_orientation(array, turn) for array in arrays], placed, (right, anterior, superior)


def add_legend(figure: Figure) -> None:
    """Says below all planes what the colours are."""
    lines = [Line2D([], [], color=_TRUTH, label="truth"), Line2D([], [], color=_MASK, label="mask")]
    marks = [
        Line2D([], [], color=colour, marker=marker, linestyle="none", label=label)
        for colour, marker, label in ((_POSITIVE, "+", "click on it"), (_NEGATIVE, "x", "click beside it"))
    ]
    figure.legend(handles=[*lines, *marks], ncols=4, loc="lower center", fontsize=9)


def draw_plane(panel: Axes, planes: Sequence[np.ndarray], spacing: tuple[float, float]) -> None:
    """Draws image, truth and mask as radiologists look at a patient: his right is at the left.

    Args:
        panel: takes the plane.
        planes: (up, across) each, of `upright` arrays.
        spacing: mm across and up.
    """
    image, truth, mask = planes
    rows, columns = image.shape
    shown = image[np.isfinite(image)]
    low, high = np.percentile(shown, [1, 99]) if len(shown) else (0.0, 1.0)
    x, y = np.arange(columns) * spacing[0], np.arange(rows) * spacing[1]
    half = spacing[0] / 2, spacing[1] / 2
    extent = (-half[0], x[-1] + half[0], -half[1], y[-1] + half[1])
    panel.imshow(image, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), origin="lower", extent=extent)
    for outline, colour in ((truth, _TRUTH), (mask, _MASK)):
        if outline.any() and not outline.all():
            panel.contour(x, y, outline, levels=[0.5], colors=[colour], linewidths=[1.6])
    panel.invert_xaxis()
    panel.axis("off")
