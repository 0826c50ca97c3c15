"""A label map made ready for sampling: missing bones, body surface, and a smooth share of each part."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.ndimage import (
    binary_closing,
    binary_erosion,
    distance_transform_edt,
    find_objects,
    gaussian_filter,
    maximum_filter1d,
)
from skimage.morphology import convex_hull_image

from lib.synthesis.label_maps import LabelMap, LabelMapFile, read_label_map
from lib.synthesis.skeleton import femur, head_and_neck
from lib.synthesis.tissues import Part, part_of

Array = np.ndarray
Box = tuple[slice, slice, slice]
FILLING = ("air", "skin", "fat", "muscle", "soft tissue")
"""Tissues that fill what no label names; they are the first parts of every anatomy, air being part 0."""
MARGIN_MM = 48.0
"""Room around the labels for muscle, fat and skin."""
SHOULDER_MARGIN_MM = 90.0
ARM_MM = 22.0
"""Thickness of the muscle around a humerus."""
SURFACE_STEP = 2
"""The distance to the surface is kept at every second voxel of the map."""
BLUR_VOXELS = 0.9
"""Sigma with which the mask of a thick part is blurred."""
THIN_BLUR_VOXELS = 0.65
"""The same for a part as thin as a voxel."""


@dataclass(frozen=True)
class SoftPart:
    """Smooth share of one part.

    Attributes:
        part: Index of the part.
        origin: Voxel of the map at ``share[0, 0, 0]``.
        share: (x, y, z) uint8, 255 = all of the voxel; the border lies where it equals that of the neighbour.
    """

    part: int
    origin: tuple[int, int, int]
    share: Array


@dataclass(frozen=True)
class Anatomy:
    """A label map made ready.

    Attributes:
        parts: Structures; the first are `FILLING`.
        index: (x, y, z) uint16 part of each voxel; 0 = no label.
        spacing: mm along x, y, z.
        soft: Share of each part; the first is what no label names.
        surface_mm: Distance to the surface of what is labelled, mm, negative inside, on every `SURFACE_STEP`-th voxel;
            None for a map that shows the skin itself.
        limb: Whether it shows legs or a knee and no trunk.
    """

    parts: tuple[Part, ...]
    index: Array
    spacing: tuple[float, float, float]
    soft: tuple[SoftPart, ...]
    surface_mm: Array | None
    limb: bool

    @property
    def labelled(self) -> list[int]:
        """Parts that can be objects."""
        present = np.unique(self.index)
        return [int(part) for part in present if part >= len(FILLING) and self.parts[part].kind is not None]


@cache
def prepared(file: LabelMapFile) -> Anatomy:
    """The anatomy of a file, kept in memory: it takes some seconds and 10 to 40 MB."""
    return prepare(read_label_map(file))


def prepare(label_map: LabelMap) -> Anatomy:
    """Makes a label map ready."""
    parts = [Part("", tissue) for tissue in FILLING]
    names = list(label_map.names.items())
    lookup = np.zeros(int(label_map.values.max()) + 1, np.uint16)
    for value, name in names:
        if value < len(lookup):
            lookup[value] = len(parts)
        parts.append(part_of(name))
    index = lookup[label_map.values]
    tissues = {part.tissue for part in parts[len(FILLING) :]}
    complete = "skin" in tissues
    if not complete:
        wide = SHOULDER_MARGIN_MM if any(part.name == "Spinal-Canal" for part in parts) else MARGIN_MM
        pad = [int(np.ceil(mm / side)) for mm, side in zip((wide, MARGIN_MM), label_map.spacing, strict=False)]
        index = np.pad(index, [(pad[0], pad[0]), (pad[1], pad[1]), (0, 0)])
        _add_bones(index, parts, label_map.spacing)
    limb = any("rectusfemoris" in part.name.lower() or part.name == "femoral cartilage" for part in parts)
    arm = mask_of(index, parts, pattern="humerus")
    if arm.any():
        around = distance_transform_edt(~arm, sampling=label_map.spacing) < ARM_MM
        index[around & (index == 0)] = FILLING.index("muscle")
    surface = None if complete else _surface(index, parts, label_map.spacing, limb)
    return Anatomy(tuple(parts), index, label_map.spacing, tuple(_soften(index)), surface, limb)


def mask_of(index: Array, parts: list[Part], *, tissues: tuple[str, ...] = (), pattern: str = "") -> Array:
    """Voxels of the parts of these tissues, or whose name contains ``pattern`` in any case."""
    wanted = [p.tissue in tissues or bool(pattern and pattern in p.name.lower()) for p in parts]
    return np.array(wanted)[index]


def _add_bones(index: Array, parts: list[Part], spacing: tuple[float, float, float]) -> None:
    """Adds the bones and discs that the map lacks, in place."""
    free = index == 0
    if not mask_of(index, parts, pattern="vertebra").any():
        canal = mask_of(index, parts, pattern="spinal")
        brain = mask_of(index, parts, tissues=("brain", "brainstem"))
        lung = mask_of(index, parts, tissues=("lung",))
        for name, mask in head_and_neck(brain, canal, lung, spacing).items():
            index[mask & free] = len(parts)
            parts.append(part_of(name))
            free &= ~mask
    else:
        spine = mask_of(index, parts, pattern="vertebra")
        box = _grown_box(spine, 5)
        # Along the body only, so that the canal and the foramina stay open.
        closed = binary_closing(spine[box], np.ones((1, 1, 2 * round(8 / spacing[2]) + 1)))
        index[box][closed & free[box]] = len(parts)
        parts.append(part_of("intervertebral disc"))
    ends = []
    for side in ("left", "right"):
        head, knee = (mask_of(index, parts, pattern=f"{side}_cartilage_femur{end}") for end in ("head", "distal"))
        if head.any() and knee.any():
            ends.append((head, knee))
    for number, mask in enumerate(femur(index > 0, ends, spacing) if ends else []):
        index[mask & (index == 0)] = len(parts)
        parts.append(part_of(f"{('left', 'right')[number]} femur"))


def _grown_box(mask: Array, voxels: int) -> Box:
    x, y, z = (
        slice(max(int(side.min()) - voxels, 0), int(side.max()) + voxels + 1)
        for side in (np.flatnonzero(mask.any(axes)) for axes in ((1, 2), (0, 2), (0, 1)))
    )
    return x, y, z


def _surface(index: Array, parts: list[Part], spacing: tuple[float, float, float], limb: bool) -> Array:
    """Distance, mm, to a smooth hull of what is labelled; on every second voxel."""
    step = SURFACE_STEP
    coarse = index[::step, ::step, ::step]
    side = tuple(s * step for s in spacing)
    arm = mask_of(coarse, parts, pattern="humerus")
    mask = (coarse > 0) & ~arm
    if any("rectusfemoris" in part.name.lower() for part in parts):
        mask = distance_transform_edt(~mask, sampling=side) < 18
        mask = distance_transform_edt(mask, sampling=side) > 17
    else:
        canal = mask_of(coarse, parts, pattern="spinal-c")
        if canal.any():
            mask |= _neck(canal, mask_of(coarse, parts, tissues=("lung",)), side)
        bones = any(part.kind == "bone" for part in parts)
        # Bones show the shape of every slice; organs alone leave some nearly empty.
        mask = maximum_filter1d(mask, 3 if limb else 5 if bones else 2 * mask.shape[2], axis=2)
        for level in np.flatnonzero(mask.any((0, 1))):
            # A slice with points on one line only has no hull.
            if np.linalg.matrix_rank(np.argwhere(mask[:, :, level]) - np.argwhere(mask[:, :, level])[0]) > 1:
                mask[:, :, level] = convex_hull_image(mask[:, :, level])
    if not mask.any():
        return np.full(mask.shape, np.float32(1e3))
    distance = distance_transform_edt(~mask, sampling=side) - distance_transform_edt(mask, sampling=side)
    distance = gaussian_filter(distance.astype(np.float32), 1.5, mode="nearest")
    if arm.any():
        distance = np.minimum(distance, distance_transform_edt(~arm, sampling=side).astype(np.float32) - ARM_MM)
    return distance


def _neck(canal: Array, lung: Array, side: tuple[float, ...]) -> Array:
    """Neck and shoulders around a spinal canal."""
    neck = np.zeros(canal.shape, bool)
    x, y = (np.arange(n, dtype=np.float32) for n in canal.shape[:2])
    levels = np.flatnonzero(lung.any((0, 1)))
    top_of_lung = float(levels[-1]) if len(levels) else -1e3
    spine = np.flatnonzero(canal.any((0, 1)))
    for level in range(int(spine[-1]) + 1):
        cx, cy = np.argwhere(canal[:, :, max(level, int(spine[0]))]).mean(0) if canal[:, :, level].any() else (0, 0)
        if (cx, cy) == (0, 0):
            continue
        shoulder = 1 / (1 + np.exp((level - top_of_lung) * side[2] / 11.0 - 3.0))
        right, front = (x[:, None] - cx) * side[0], (y[None, :] - cy) * side[1]
        neck[:, :, level] = (right / (46 + 110 * shoulder)) ** 2 + ((front - 16) / (42 + 18 * shoulder)) ** 2 < 1
    return neck


def _soften(index: Array) -> list[SoftPart]:
    """Share of each part: its blurred mask, scaled so that a thin part keeps its volume."""
    boxes = find_objects(index)
    rest = np.full(index.shape, 255, np.float32)
    soft = []
    for part, box in enumerate(boxes, start=1):
        if box is None:
            continue
        grown = tuple(slice(max(b.start - 3, 0), min(b.stop + 3, n)) for b, n in zip(box, index.shape, strict=True))
        mask = index[grown] == part
        volume = np.count_nonzero(mask)
        inside = np.count_nonzero(binary_erosion(mask)) / volume
        sigma = THIN_BLUR_VOXELS + (BLUR_VOXELS - THIN_BLUR_VOXELS) * min(inside / 0.6, 1.0)
        share = gaussian_filter(mask.astype(np.float32), sigma, truncate=3.0)
        if inside < 0.5:
            level = float(np.partition(share.ravel(), -volume)[-volume])
            share *= 0.5 / max(level, 0.2)
        share = np.clip(share * 255, 0, 255)
        rest[grown] -= share
        origin = (grown[0].start, grown[1].start, grown[2].start)
        soft.append(SoftPart(part, origin, np.rint(share).astype(np.uint8)))
    return [SoftPart(0, (0, 0, 0), np.clip(rest, 0, 255).astype(np.uint8)), *soft]
