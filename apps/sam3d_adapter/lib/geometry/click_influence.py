"""The influence of clicks: a click changes the answer only within a radius around it."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label

from lib.geometry.roi import Roi
from lib.prompts.click import Click

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

FOREGROUND_RADIUS_MM = 30.0
"""A foreground click changes no voxel of the image farther away than this."""
BACKGROUND_RADIUS_MM = 30.0
"""A background click changes no voxel of the image farther away than this."""


EXTENT = 2.0
"""Correction radius, as a multiple of the click's distance to the nearest correctly labelled voxel."""
LEAST_VOXELS = 2.0
"""Least correction radius, in voxels of the grid: the border to which it is measured may itself be wrong."""


def influence_radius_mm(clicks: Sequence[Click]) -> float:
    """Influence radius of clicks of one kind, mm; at least one click."""
    return FOREGROUND_RADIUS_MM if clicks[0].is_foreground else BACKGROUND_RADIUS_MM


def correction_radius_mm(wrong_mm: float, least_mm: float, click: Click) -> float:
    """How far from a click the answer may be corrected: the farther it lies from the border of the mask, the wider.

    Args:
        wrong_mm: distance to the nearest correctly labelled voxel, mm; infinite if there is none.
        least_mm: least radius, mm.
        click: the click.
    """
    return float(np.clip(EXTENT * wrong_mm, least_mm, influence_radius_mm([click])))


def squared_distance(axes_mm: Sequence[NDArray[np.float64]], clicks_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Squared distance of each voxel of a grid to the nearest click, mm^2; infinite without clicks.

    Args:
        axes_mm: positions of the grid's voxels along each of its three axes, mm.
        clicks_mm: (N, 3) positions of the clicks along the same axes, also outside the grid.
    """
    nearest = np.full(tuple(map(len, axes_mm)), np.inf)
    for click in clicks_mm:
        a, b, c = ((axis - at) ** 2 for axis, at in zip(axes_mm, click, strict=True))
        np.minimum(nearest, a[:, None, None] + b[:, None] + c, out=nearest)
    return nearest


def near_clicks(axes_mm: Sequence[NDArray[np.float64]], clicks_mm: NDArray[np.float64], reach_mm: float) -> Mask:
    """Which voxels of a grid lie within a radius, mm, of any click; see `squared_distance`."""
    return np.asarray(squared_distance(axes_mm, clicks_mm) <= reach_mm**2)


def near_in_roi(roi: Roi, clicks: Sequence[Click], reach_mm: float) -> Mask:
    """Which voxels (D, H, W) of an ROI lie within a radius of any click, plus half a voxel.

    The half voxel gives image voxels just inside the radius something to be interpolated from.
    """
    axes_mm = [np.arange(n) * roi.spacing_mm for n in roi.size_dhw]
    return near_clicks(axes_mm, roi.clicks_to_dhw(clicks) * roi.spacing_mm, reach_mm + roi.spacing_mm / 2)


def border_distance(
    mask: Mask, click_dhw: NDArray[np.float64], sign: bool, spacing: NDArray[np.float64] | float = 1.0
) -> float:
    """Distance from a click to the nearest voxel of the label that it asks for; infinite if there is none.

    Args:
        mask: (D, H, W) that it corrects.
        click_dhw: (3,) index in it.
        sign: true on the structure.
        spacing: of the voxels, or (3,) along each axis; 1 for a distance in voxels.
    """
    voxels = np.argwhere(mask == sign)
    if not len(voxels):
        return float("inf")
    return float(np.sqrt((((voxels - click_dhw) * spacing) ** 2).sum(axis=1).min()))


def unclicked(mask: Mask, support: Mask, clicks_dhw: NDArray[np.float64]) -> Mask:
    """Voxels of the pieces of a mask that hold no click and lie wholly where voxels may change.

    Args:
        mask: (D, H, W).
        support: (D, H, W), voxels that may change.
        clicks_dhw: (N, 3) indices of foreground clicks in the mask's grid.
    """
    pieces, count = label(mask)
    stays = np.zeros(count + 1, bool)
    stays[0] = True
    stays[pieces[~support]] = True
    index = np.clip(np.rint(clicks_dhw).astype(int), 0, np.array(mask.shape) - 1).reshape(-1, 3)
    stays[pieces[tuple(index.T)]] = True
    return ~np.asarray(stays[pieces])
