"""Bones that some label maps leave out: skull and cervical spine of the head and neck, and the femur."""

import numpy as np
from scipy.ndimage import binary_closing, binary_fill_holes, distance_transform_edt, gaussian_filter1d, label

Array = np.ndarray
Named = dict[str, Array]
"""Masks by name, in painting order."""


def head_and_neck(brain: Array, canal: Array, lung: Array, spacing: tuple[float, float, float]) -> Named:
    """Skull with liquor around a brain; vertebrae, discs and airway around a spinal canal.

    Args:
        brain: (x, y, z) mask, axes to the right, front and top, with brainstem.
        canal: (x, y, z) mask with the cord; may be empty.
        lung: (x, y, z) mask; may be empty.
        spacing: mm.
    """
    found: Named = {}
    if brain.any():
        filled = binary_closing(brain, iterations=3)
        depth = distance_transform_edt(~filled, sampling=spacing)
        found["csf around the brain"] = (depth > 0) & (depth <= 2.6)
        found["skull"] = (depth > 2.6) & (depth <= 8.6)
    if canal.any():
        found.update(_spine(canal, lung, spacing))
    for name in ("skull", "csf around the brain"):
        if name in found:
            found[name] &= ~canal
    return found


def _spine(canal: Array, lung: Array, spacing: tuple[float, float, float]) -> Named:
    levels = np.flatnonzero(canal.any((0, 1)))
    centre = np.array([np.argwhere(canal[:, :, k]).mean(0) for k in levels])
    centre = gaussian_filter1d(centre, 3.0, axis=0, mode="nearest")
    x, y = (np.arange(n, dtype=np.float32) for n in canal.shape[:2])
    vertebra = np.full(canal.shape, -1, np.int16)
    disc, airway = np.zeros(canal.shape, bool), np.zeros(canal.shape, bool)
    top_of_lung = np.flatnonzero(lung.any((0, 1)))
    for level, (cx, cy) in zip(levels, centre, strict=True):
        right, front = (x[:, None] - cx) * spacing[0], (y[None, :] - cy) * spacing[1]
        from_top = (levels[-1] - level) * spacing[2]
        size = 1.0 + min(from_top, 250.0) / 600.0
        body = (right / (12 * size)) ** 2 + ((front - 7 - 9 * size) / (9 * size)) ** 2 < 1
        arch = (right / 15) ** 2 + (front / 13) ** 2 < 1
        process = (np.abs(right) < 3) & (front < -8) & (front > -28 - 6 * np.sin(from_top / 2.7))
        wings = (np.abs(front - 1) < 5) & (np.abs(right) < 24 * size)
        number, place = divmod(from_top, 17 * size)
        solid = arch | process | wings | body if place > 4 else arch | body
        vertebra[:, :, level][solid] = int(number)
        if place <= 4:
            disc[:, :, level] = body & ~arch
        tube = (right / 8) ** 2 + ((front - 34 * size) / 8) ** 2 < 1
        if from_top > 40 and (not len(top_of_lung) or level > top_of_lung[0]):
            airway[:, :, level] = tube
    found: Named = {"intervertebral disc": disc & ~canal, "airway": airway & ~lung}
    for number in range(int(vertebra.max()) + 1):
        found[f"vertebra {number + 1} below the skull"] = (vertebra == number) & ~disc & ~canal & ~lung
    return found


def femur(labels: Array, ends: list[tuple[Array, Array]], spacing: tuple[float, float, float]) -> list[Array]:
    """The hollow that a femur leaves between the muscles of a thigh.

    Args:
        labels: (x, y, z) mask of everything labelled.
        ends: For each femur the cartilages of its head and of its knee end, as masks.
        spacing: mm.

    Returns:
        One mask per femur.
    """
    found = []
    for head, knee in ends:
        start, stop = (np.argwhere(end).mean(0) for end in (head, knee))
        low = np.maximum(np.minimum(start, stop) - np.array(60 / np.array(spacing)), 0).astype(int)
        high = (np.maximum(start, stop) + np.array(60 / np.array(spacing))).astype(int) + 1
        box = (slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2]))
        free = ~labels[box]
        hollow = distance_transform_edt(free, sampling=spacing)
        axes = (np.arange(n) + first for n, first in zip(free.shape, low, strict=True))
        points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1, dtype=np.float32)
        share = np.clip((points[..., 2] - stop[2]) / (start[2] - stop[2]), -0.03, 1.03)[..., None]
        line = stop + share * (start - stop)
        # The shaft runs outside of the straight line from the head to the knee.
        near = np.linalg.norm((points - line) * spacing, axis=-1) < 48
        near &= (points[..., 2] < start[2] + 6) & (points[..., 2] > stop[2] - 12)
        middle = near & (hollow > 7)
        pieces, count = label(middle)
        if not count:
            continue
        sizes = np.bincount(pieces.ravel())[1:]
        core = np.isin(pieces, 1 + np.flatnonzero(sizes > 0.2 * sizes.max()))
        grown = distance_transform_edt(~core, sampling=spacing) < 7
        mask = np.zeros(labels.shape, bool)
        mask[box] = binary_fill_holes(grown & free & near)
        found.append(mask)
    return found
