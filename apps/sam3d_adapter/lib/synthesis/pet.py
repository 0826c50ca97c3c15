"""PET: uptake of each tissue, the blur of the scanner, and noise that grows with the signal."""

import numpy as np
from scipy.ndimage import gaussian_filter

from lib.synthesis.lesions import Lesion, paint_lesion
from lib.synthesis.scan import Grid
from lib.synthesis.structures import paint_structures
from lib.synthesis.tissues import Part
from lib.synthesis.visibility import Rendered

Array = np.ndarray
# Standardized uptake value of FDG (mean) and the logarithm of its spread between patients.
UPTAKE: dict[str, tuple[float, float]] = {
    "air": (0.0, 0.0),
    "airway": (0.15, 0.2),
    "lung": (0.45, 0.2),
    "skin": (0.5, 0.2),
    "fat": (0.28, 0.25),
    "muscle": (0.7, 0.25),
    "soft tissue": (0.9, 0.25),
    "scalp": (0.9, 0.25),
    "mucosa": (1.8, 0.4),
    "bone": (1.1, 0.35),
    "skull": (0.8, 0.3),
    "marrow": (1.2, 0.3),
    "cortical bone": (0.5, 0.2),
    "cartilage": (0.5, 0.2),
    "costal cartilage": (0.5, 0.2),
    "ligament": (0.6, 0.2),
    "disc": (0.6, 0.2),
    "artery": (1.7, 0.15),
    "upper vein": (1.7, 0.15),
    "vein": (1.6, 0.15),
    "portal vein": (1.8, 0.15),
    "pulmonary vessel": (1.7, 0.15),
    "heart": (3.5, 0.8),
    "liver": (2.4, 0.2),
    "spleen": (2.0, 0.25),
    "kidney": (3.2, 0.35),
    "pancreas": (1.5, 0.2),
    "adrenal gland": (1.6, 0.3),
    "gallbladder": (1.0, 0.3),
    "bladder": (14.0, 0.8),
    "bowel": (1.6, 0.45),
    "colon": (1.8, 0.6),
    "prostate": (1.8, 0.3),
    "thyroid": (1.4, 0.4),
    "salivary gland": (2.2, 0.4),
    "brain": (7.0, 0.3),
    "brainstem": (4.5, 0.25),
    "grey matter": (9.0, 0.3),
    "cerebellar cortex": (7.0, 0.3),
    "white matter": (3.2, 0.25),
    "thalamus": (8.0, 0.3),
    "striatum": (9.5, 0.3),
    "pallidum": (6.0, 0.3),
    "hippocampus": (6.0, 0.3),
    "csf": (0.8, 0.2),
    "cord": (1.8, 0.2),
    "nerve": (1.5, 0.2),
    "eye": (0.8, 0.3),
    "lens": (0.5, 0.2),
    "lesion": (6.0, 0.5),
}
LEAST_CONTRAST = 1.5
"""Mean of an object over the uptake around it, from which on it counts as visible."""
LEAST_UPTAKE = 1.3
"""SUV below which nothing counts as hot."""
COUNTS_PER_SUV = 1000
"""Unit of the stored volume; a float's digits in an int16."""


def render_pet(
    rng: np.random.Generator, grid: Grid, part: Array, depth: Array, parts: list[Part], lesions: list[Lesion]
) -> Rendered:
    """PET of painted parts; arguments as for `lib.synthesis.ct.render_ct`.

    Returns:
        Uptake, 1000 per SUV or less; an object is seen where it is hotter than its surroundings.
    """
    values = {tissue: mean * float(np.exp(rng.normal(0, spread))) for tissue, (mean, spread) in UPTAKE.items()}
    values.update(blood=values["artery"], medulla=1.4 * values["kidney"], content=0.5 * values["bowel"])
    if rng.random() < 0.3:
        values["brain"] = values["grey matter"]
    mean = np.array([values[p.tissue] * np.exp(rng.normal(0, 0.08)) for p in parts], np.float32)
    texture = grid.noise(rng, 18.0)
    image = mean[part]
    image += np.float32(0.1) * image * texture
    paint_structures(rng, image, grid, part, depth, parts, values, texture)
    for lesion in lesions:
        background = max(float(mean[lesion.host]), 0.4)
        # A small lesion must be hot to be seen after the blur.
        least = 2.0 + 12.0 / lesion.diameter_mm
        value = max(background * least, 2.0) * float(np.exp(rng.exponential(0.6)))
        paint_lesion(rng, image, lesion, (value, 0.35 * value, 1.15 * value), texture, 0.1 * value)
    np.maximum(image, 0, out=image)
    sigma = rng.uniform(4.0, 8.0) / 2.355
    clean = grid.average(gaussian_filter(image, [sigma / s for s in grid.spacing], truncate=3.0))
    noise = gaussian_filter(rng.standard_normal(clean.shape, dtype=np.float32), rng.uniform(0.4, 0.8))
    noise /= float(noise.std())
    strength = float(np.exp(rng.uniform(np.log(0.04), np.log(0.25))))
    noisy = clean + strength * np.sqrt(np.maximum(clean, 0) + 0.02) * noise
    scale = min(COUNTS_PER_SUV, 32000 / float(noisy.max()))
    return Rendered(
        np.clip(np.rint(noisy * scale), 0, 32767).astype(np.int16),
        clean,
        lambda own, around: (own >= LEAST_UPTAKE) & (own >= LEAST_CONTRAST * around),
        share=0.75,
    )
