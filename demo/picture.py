"""The picture of a click: three planes through it, in millimetres."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # a file is wanted, on machines without display too

import matplotlib.pyplot as plt
import nibabel as nib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

_BACKGROUND = "#0e1116"
_TEXT = "#e6e9ee"
_MASK = "#ff9f1c"
_TRUTH = "#2ec4b6"
_CLICK = "#ffffff"
_MIN_VIEW_MM = 110.0
_VIEW_PER_OBJECT = 2.6


@dataclass(frozen=True)
class Plane:
    """How one plane is shown: the canonical (right, anterior, superior) axes it spans and the letters at its edges.

    Attributes:
        name: title.
        across: axis shown from left to right.
        up: axis shown from bottom to top.
        mirrored: whether ``across`` grows to the left, as radiologists look at a patient: from the feet, face to face.
        letters: at the left, right, bottom and top edge.
    """

    name: str
    across: int
    up: int
    mirrored: bool
    letters: tuple[str, str, str, str]


PLANES = (
    Plane("axial", 0, 1, True, ("R", "L", "P", "A")),
    Plane("coronal", 0, 2, True, ("R", "L", "I", "S")),
    Plane("sagittal", 1, 2, True, ("A", "P", "I", "S")),
)


@dataclass(frozen=True)
class Canonical:
    """Image, masks and clicks with axes turned (not resampled) to right, anterior, superior.

    Attributes:
        image: (x, y, z).
        spacing_mm: along x, y, z.
        masks: name to (x, y, z) bool.
        clicks: (N, 3) voxel indices.
    """

    image: np.ndarray
    spacing_mm: np.ndarray
    masks: dict[str, np.ndarray]
    clicks: np.ndarray


def to_canonical(image: np.ndarray, affine: np.ndarray, masks: dict[str, np.ndarray], clicks: np.ndarray) -> Canonical:
    """Turn everything to the nearest right, anterior, superior axes.

    Args:
        image: (i, j, k).
        affine: (4, 4), voxel index to RAS mm.
        masks: name to (i, j, k) bool.
        clicks: (N, 3) voxel indices (i, j, k).
    """
    turn = nib.io_orientation(affine)
    to_original = nib.orientations.inv_ornt_aff(turn, image.shape)
    turned_clicks = nib.affines.apply_affine(np.linalg.inv(to_original), clicks)
    return Canonical(
        image=nib.apply_orientation(image, turn),
        spacing_mm=nib.affines.voxel_sizes(affine @ to_original),
        masks={name: nib.apply_orientation(mask, turn) for name, mask in masks.items()},
        clicks=np.rint(turned_clicks).astype(int),
    )


def draw(
    path: Path,
    *,
    image: np.ndarray,
    affine: np.ndarray,
    clicks: np.ndarray,
    mask: np.ndarray,
    truth: np.ndarray | None,
    window: tuple[float, float],
    title: str,
    subtitle: str,
) -> None:
    """Write the picture.

    Args:
        path: PNG file.
        image: (i, j, k).
        affine: (4, 4), voxel index to RAS mm.
        clicks: (N, 3) voxel indices; the planes go through the first one.
        mask: (i, j, k) bool, the answer.
        truth: (i, j, k) bool, or None where nobody drew it.
        window: values shown black and white.
        title: first line.
        subtitle: second line.
    """
    masks = {"mask": mask} if truth is None else {"truth": truth, "mask": mask}
    view = to_canonical(image, affine, masks, clicks)
    side_mm = _view_mm(view)
    figure, axes = plt.subplots(1, 3, figsize=(15, 5.9), facecolor=_BACKGROUND)
    for plane, panel in zip(PLANES, axes, strict=True):
        _draw_plane(panel, plane, view, window, side_mm)
    figure.suptitle(title, color=_TEXT, fontsize=17, x=0.02, y=0.98, ha="left", weight="bold")
    figure.text(0.02, 0.89, subtitle, color=_TEXT, fontsize=11.5, alpha=0.8)
    _legend(figure, has_truth=truth is not None)
    figure.subplots_adjust(left=0.02, right=0.98, bottom=0.03, top=0.85, wspace=0.04)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, facecolor=_BACKGROUND)
    plt.close(figure)


def draw_change(
    path: Path,
    *,
    image: np.ndarray,
    affine: np.ndarray,
    click: np.ndarray,
    masks: Sequence[tuple[str, np.ndarray]],
    truth: np.ndarray,
    window: tuple[float, float],
    title: str,
) -> None:
    """Write a picture of several answers to one click, a row each.

    Args:
        path: PNG file.
        image: (i, j, k).
        affine: (4, 4), voxel index to RAS mm.
        click: (3,) voxel index; the planes go through it.
        masks: name and (i, j, k) bool of each answer.
        truth: (i, j, k) bool.
        window: values shown black and white.
        title: of the whole.
    """
    figure, axes = plt.subplots(len(masks), 3, figsize=(12, 4.2 * len(masks) + 0.8), facecolor=_BACKGROUND)
    for row, (name, mask) in zip(axes, masks, strict=True):
        view = to_canonical(image, affine, {"truth": truth, "mask": mask}, click[None])
        for plane, panel in zip(PLANES, row, strict=True):
            _draw_plane(panel, plane, view, window, _view_mm(view))
        row[0].set_title(name, color=_TEXT, fontsize=13, loc="left")
    figure.suptitle(title, color=_TEXT, fontsize=16, x=0.02, y=0.985, ha="left", weight="bold")
    _legend(figure, has_truth=True)
    figure.subplots_adjust(left=0.02, right=0.98, bottom=0.02, top=0.9, wspace=0.04, hspace=0.12)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, facecolor=_BACKGROUND)
    plt.close(figure)


@dataclass(frozen=True)
class Scene:
    """One answer of a story.

    Attributes:
        title: above its picture.
        image: (i, j, k).
        affine: (4, 4), voxel index to RAS mm.
        click: (3,) voxel index; the plane goes through it.
        mask: (i, j, k) bool, the answer.
        truth: (i, j, k) bool.
        window: values shown black and white.
        plane: that is shown.
    """

    title: str
    image: np.ndarray
    affine: np.ndarray
    click: np.ndarray
    mask: np.ndarray
    truth: np.ndarray
    window: tuple[float, float]
    plane: Plane = PLANES[0]


def draw_story(path: Path, scenes: Sequence[Scene]) -> None:
    """Write pictures of several answers, side by side.

    Args:
        path: PNG file.
        scenes: from left to right.
    """
    figure, axes = plt.subplots(1, len(scenes), figsize=(4.1 * len(scenes), 5.0), facecolor=_BACKGROUND)
    for scene, panel in zip(scenes, axes, strict=True):
        masks = {"truth": scene.truth, "mask": scene.mask}
        view = to_canonical(scene.image, scene.affine, masks, scene.click[None])
        _draw_plane(panel, scene.plane, view, scene.window, _view_mm(view))
        panel.set_title(scene.title, color=_TEXT, fontsize=13, loc="left")
    _legend(figure, has_truth=True)
    figure.subplots_adjust(left=0.01, right=0.99, bottom=0.02, top=0.84, wspace=0.04)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, facecolor=_BACKGROUND)
    plt.close(figure)


def _legend(figure: Figure, *, has_truth: bool) -> None:
    handles = [
        Line2D([], [], color=_CLICK, marker="+", markersize=11, markeredgewidth=2, linestyle="none", label="click"),
        Line2D([], [], color=_MASK, linewidth=2.4, label="mask"),
    ]
    if has_truth:
        handles.append(Line2D([], [], color=_TRUTH, linewidth=1.6, linestyle="--", label="truth"))
    legend = figure.legend(handles=handles, loc="upper right", ncols=3, frameon=False, fontsize=12)
    for text in legend.get_texts():
        text.set_color(_TEXT)


def _view_mm(view: Canonical) -> float:
    """Side of the square shown: the object with what surrounds it, never more than the image has."""
    shown = np.logical_or.reduce(list(view.masks.values()))
    extent_mm = 0.0
    if shown.any():
        where = np.argwhere(shown)
        extent_mm = float((np.ptp(where, axis=0) * view.spacing_mm).max())
    image_mm = float((np.array(view.image.shape) * view.spacing_mm).max())
    return min(max(_MIN_VIEW_MM, _VIEW_PER_OBJECT * extent_mm), image_mm)


def _draw_plane(panel: Axes, plane: Plane, view: Canonical, window: tuple[float, float], side_mm: float) -> None:
    click = view.clicks[0]
    through = 3 - plane.across - plane.up
    step = view.spacing_mm[[plane.across, plane.up]]
    shape = np.array(view.image.shape)[[plane.across, plane.up]]

    def cut(volume: np.ndarray) -> np.ndarray:
        """(up, across), as matplotlib wants it."""
        plane_of = np.take(volume, click[through], axis=through)
        return plane_of.T if plane.across < plane.up else plane_of

    # Voxel k is centred on k * step.
    edges = (-0.5 * step[0], (shape[0] - 0.5) * step[0], -0.5 * step[1], (shape[1] - 0.5) * step[1])
    panel.imshow(
        cut(view.image), cmap="gray", vmin=window[0], vmax=window[1], origin="lower", extent=edges,
        interpolation="bilinear", aspect="equal",
    )  # fmt: skip
    grid = [np.arange(n) * s for n, s in zip(shape, step, strict=True)]
    for name, colour, width, style in (("truth", _TRUTH, 1.6, "--"), ("mask", _MASK, 2.4, "-")):
        if name in view.masks and (outline := cut(view.masks[name])).any():
            panel.contour(*grid, outline, levels=[0.5], colors=[colour], linewidths=[width], linestyles=[style])
    here = click[[plane.across, plane.up]] * step
    for colour, width in (("black", 5.0), (_CLICK, 2.2)):
        panel.plot(*here, marker="+", markersize=15, markeredgewidth=width, color=colour, linestyle="none")

    left, right = _interval(here[0], side_mm, edges[0], edges[1])
    bottom, top = _interval(here[1], side_mm, edges[2], edges[3])
    panel.set_xlim((right, left) if plane.mirrored else (left, right))
    panel.set_ylim(bottom, top)
    _annotate(panel, plane)
    _scale_bar(panel, side_mm)


def _interval(centre: float, length: float, low: float, high: float) -> tuple[float, float]:
    """``length`` round ``centre``, moved into [low, high]; where that is shorter, it lies in the middle."""
    if length >= high - low:
        middle = (low + high) / 2
        return middle - length / 2, middle + length / 2
    start = min(max(centre - length / 2, low), high - length)
    return start, start + length


def _annotate(panel: Axes, plane: Plane) -> None:
    panel.set_facecolor("black")
    panel.set_xticks([])
    panel.set_yticks([])
    for spine in panel.spines.values():
        spine.set_color("#2b313b")
    panel.text(0.03, 0.97, plane.name, transform=panel.transAxes, color=_TEXT, fontsize=12, va="top")
    places = ((0.015, 0.5, "left", "center"), (0.985, 0.5, "right", "center"),
              (0.5, 0.015, "center", "bottom"), (0.5, 0.985, "center", "top"))  # fmt: skip
    for letter, (x, y, ha, va) in zip(plane.letters, places, strict=True):
        panel.text(x, y, letter, transform=panel.transAxes, color=_TEXT, fontsize=11, ha=ha, va=va, alpha=0.75)


def _scale_bar(panel: Axes, side_mm: float) -> None:
    bar_mm = next(mm for mm in (100, 50, 20, 10, 5, 1) if mm <= side_mm / 3 or mm == 1)
    length = bar_mm / side_mm
    panel.plot([0.03, 0.03 + length], [0.035, 0.035], transform=panel.transAxes, color=_TEXT, linewidth=3)
    panel.text(0.03, 0.05, f"{bar_mm} mm", transform=panel.transAxes, color=_TEXT, fontsize=10.5, va="bottom")
