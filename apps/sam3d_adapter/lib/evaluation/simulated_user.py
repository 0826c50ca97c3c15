"""A user who knows the truth: where he clicks first, and where he corrects the mask he is shown.

The click policy is that of the CVPR 2025 challenge on interactive 3-D segmentation (CVPR25_iter_eval.py in
JunMa11/CVPR-MedSegFMCompetition), but for the resolution, which is never halved.
"""

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, find_objects, label

Voxel = tuple[int, int, int]
Mask = NDArray[np.bool_]
Box = tuple[slice, slice, slice]

JITTER_SIGMA_MM = 3.0
"""Error of a hand along each axis in mode ``jitter``."""
MAX_CLICKS = 10
_ALL_NEIGHBOURS = np.ones((3, 3, 3), dtype=bool)
_PAPER = re.compile(r"paper-([1-9]\d*)")


class ModeError(ValueError):
    """A mode that does not exist."""


@dataclass(frozen=True)
class SimulatedClick:
    """One click of the simulated user.

    Attributes:
        ijk: the voxel that was clicked, in the array order of the image.
        intended_ijk: the voxel that was meant; another one in mode ``jitter`` alone.
        positive: whether the intended voxel belongs to the object.
    """

    ijk: Voxel
    intended_ijk: Voxel
    positive: bool


def clicks_at_once(mode: str) -> int | None:
    """How many clicks a mode gives in its one request; None for the modes that correct.

    Raises:
        ModeError: no such mode.
    """
    if mode in ("centre", "random", "jitter"):
        return None
    if match := _PAPER.fullmatch(mode):
        return int(match[1])
    raise ModeError(f"Unknown mode {mode!r}; choose from: centre, random, jitter, paper-1, paper-3, paper-10.")


class SimulatedUser:
    """Clicks on one object; a case's clicks depend on nothing but its arguments.

    Args:
        truth: (i, j, k) bool, not empty.
        spacing: mm along i, j, k.
        mode: ``centre``, ``random``, ``jitter`` or ``paper-K``.
        seed: of ties and of all that is drawn.
        case_id: so that no case depends on the others.

    Raises:
        ModeError: no such mode.
        ValueError: an empty truth.
    """

    def __init__(self, truth: Mask, spacing: Sequence[float], mode: str, seed: int, case_id: str) -> None:
        if not truth.any():
            raise ValueError("The object has no voxel to click on.")
        self._at_once = clicks_at_once(mode)
        self._truth, self._mode, self._seed, self._case_id = truth, mode, seed, case_id
        self._spacing = np.asarray(spacing, dtype=float)

    def first_clicks(self) -> list[SimulatedClick]:
        """What the first request holds: one click, or the K of ``paper-K``."""
        if self._at_once is None and self._mode != "random":
            click = self.correct(np.zeros_like(self._truth), step=1)
            assert click is not None  # the truth is not empty
            return [click]
        inside = np.flatnonzero(self._truth)
        drawn = self._generator(1).integers(len(inside), size=self._at_once or 1)
        voxels = [_voxel(np.unravel_index(int(index), self._truth.shape)) for index in inside[drawn]]
        return [SimulatedClick(voxel, voxel, True) for voxel in voxels]

    def correct(self, mask: Mask, step: int) -> SimulatedClick | None:
        """The click that corrects a mask; None where it equals the truth.

        Args:
            mask: (i, j, k) bool, what the user is shown.
            step: number of the click, from 1.
        """
        voxel = deepest_error(mask != self._truth, self._seed)
        if voxel is None:
            return None
        positive = bool(self._truth[voxel])
        assert positive != bool(mask[voxel])
        placed = self._jittered(voxel, step) if self._mode == "jitter" else voxel
        return SimulatedClick(placed, voxel, positive)

    def misses(self, click: SimulatedClick) -> bool:
        """Whether the hand landed on the other label than the intended voxel's."""
        return bool(self._truth[click.ijk]) != click.positive

    def _jittered(self, voxel: Voxel, step: int) -> Voxel:
        error_mm = self._generator(step).normal(0.0, JITTER_SIGMA_MM, 3)
        moved = np.rint(np.asarray(voxel) + error_mm / self._spacing).astype(int)
        return _voxel(np.clip(moved, 0, np.asarray(self._truth.shape) - 1))

    def _generator(self, step: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, zlib.crc32(self._case_id.encode()), step])


def deepest_error(error: Mask, seed: int) -> Voxel | None:
    """The voxel deepest within the largest component of an error; None where there is no error.

    False positives and false negatives that touch form one component. Of components of one size, the one that comes
    first in C order counts; of voxels of one depth (voxel units), one is drawn.

    Args:
        error: (i, j, k) bool.
        seed: of the draw, which is the same for equal ties.
    """
    found = depth_in_largest_error(error)
    if found is None:
        return None
    depth, start = found
    ties = np.argwhere(depth == depth.max())
    return _voxel(ties[np.random.RandomState(seed).choice(len(ties))] + start)


def depth_in_largest_error(error: Mask) -> tuple[NDArray[np.float64], NDArray[np.int_]] | None:
    """Depth of each voxel in the largest connected error (26 neighbours); None where there is no error.

    Of components of one size, the one that comes first in C order counts.

    Args:
        error: (i, j, k) bool.

    Returns:
        Distance to the component's outside in voxels, on the component's bounding box, 0 outside of the component; and
        the first voxel of that box, (3,).
    """
    box = bounding_box(error)
    if box is None:
        return None
    components, _ = label(error[box], structure=_ALL_NEIGHBOURS)
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    largest = int(sizes.argmax())
    inner = find_objects(components)[largest - 1]
    # A rim of zeros: beyond the image there is no error either.
    depth = distance_transform_edt(np.pad(components[inner] == largest, 1))[1:-1, 1:-1, 1:-1]
    return depth, np.array([outer.start + part.start for outer, part in zip(box, inner, strict=True)])


def bounding_box(mask: Mask) -> Box | None:
    """The smallest box that holds a mask (i, j, k); None for an empty mask."""
    sides = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        held = np.flatnonzero(mask.any(axis=others))
        if not len(held):
            return None
        sides.append(slice(int(held[0]), int(held[-1]) + 1))
    return sides[0], sides[1], sides[2]


def _voxel(indices: Sequence[np.integer] | np.ndarray) -> Voxel:
    i, j, k = (int(index) for index in indices)
    return i, j, k
