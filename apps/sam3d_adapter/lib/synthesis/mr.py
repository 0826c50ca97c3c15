"""MR: intensities as in T1, T2, FLAIR or fat-suppressed images, or at random, with bias field and Rician noise."""

import numpy as np
from scipy.ndimage import gaussian_filter

from lib.phantoms.fields import smooth_noise
from lib.synthesis.lesions import Lesion, paint_lesion
from lib.synthesis.scan import Grid
from lib.synthesis.structures import paint_structures
from lib.synthesis.tissues import Part
from lib.synthesis.visibility import Rendered

Array = np.ndarray
SEQUENCES = ("T1", "T2", "fat-suppressed T2", "FLAIR", "T1 with contrast")
# Brightness in each of SEQUENCES, about 1 for the brightest.
BRIGHTNESS: dict[str, tuple[float, float, float, float, float]] = {
    "air": (0.0, 0.0, 0.0, 0.0, 0.0),
    "airway": (0.01, 0.01, 0.01, 0.01, 0.01),
    "lung": (0.04, 0.05, 0.06, 0.05, 0.05),
    "skin": (0.5, 0.35, 0.3, 0.4, 0.5),
    "fat": (0.95, 0.75, 0.12, 0.65, 0.4),
    "muscle": (0.36, 0.18, 0.26, 0.28, 0.42),
    "soft tissue": (0.42, 0.32, 0.42, 0.38, 0.55),
    "scalp": (0.5, 0.35, 0.25, 0.4, 0.55),
    "mucosa": (0.4, 0.75, 0.8, 0.65, 0.85),
    "bone": (0.68, 0.45, 0.14, 0.45, 0.45),
    "skull": (0.2, 0.15, 0.08, 0.15, 0.2),
    "marrow": (0.7, 0.5, 0.15, 0.5, 0.6),
    "cortical bone": (0.06, 0.06, 0.05, 0.06, 0.06),
    "cartilage": (0.45, 0.42, 0.7, 0.5, 0.5),
    "costal cartilage": (0.4, 0.4, 0.5, 0.4, 0.42),
    "ligament": (0.12, 0.08, 0.1, 0.1, 0.14),
    "disc": (0.38, 0.5, 0.55, 0.45, 0.4),
    "artery": (0.15, 0.08, 0.1, 0.12, 0.95),
    "upper vein": (0.2, 0.12, 0.2, 0.15, 0.85),
    "vein": (0.22, 0.18, 0.3, 0.2, 0.85),
    "portal vein": (0.25, 0.2, 0.3, 0.2, 0.85),
    "pulmonary vessel": (0.18, 0.12, 0.15, 0.15, 0.9),
    "heart": (0.4, 0.32, 0.45, 0.4, 0.6),
    "liver": (0.52, 0.24, 0.33, 0.32, 0.68),
    "spleen": (0.36, 0.48, 0.62, 0.5, 0.66),
    "kidney": (0.42, 0.58, 0.75, 0.58, 0.88),
    "pancreas": (0.55, 0.38, 0.42, 0.4, 0.66),
    "adrenal gland": (0.42, 0.32, 0.4, 0.36, 0.6),
    "gallbladder": (0.25, 0.95, 1.0, 0.45, 0.25),
    "bladder": (0.18, 1.0, 1.0, 0.2, 0.2),
    "bowel": (0.4, 0.4, 0.5, 0.42, 0.7),
    "colon": (0.4, 0.36, 0.45, 0.4, 0.65),
    "prostate": (0.4, 0.55, 0.6, 0.5, 0.6),
    "thyroid": (0.45, 0.48, 0.6, 0.5, 0.8),
    "salivary gland": (0.58, 0.5, 0.45, 0.5, 0.68),
    "brain": (0.58, 0.5, 0.55, 0.55, 0.58),
    "brainstem": (0.64, 0.44, 0.48, 0.5, 0.64),
    "grey matter": (0.46, 0.58, 0.62, 0.66, 0.48),
    "cerebellar cortex": (0.46, 0.55, 0.6, 0.62, 0.48),
    "white matter": (0.7, 0.4, 0.44, 0.5, 0.7),
    "thalamus": (0.55, 0.5, 0.54, 0.58, 0.56),
    "striatum": (0.5, 0.52, 0.56, 0.6, 0.52),
    "pallidum": (0.62, 0.36, 0.4, 0.46, 0.62),
    "hippocampus": (0.46, 0.58, 0.62, 0.68, 0.48),
    "csf": (0.12, 0.98, 0.98, 0.08, 0.12),
    "cord": (0.58, 0.44, 0.5, 0.5, 0.6),
    "nerve": (0.5, 0.42, 0.5, 0.48, 0.52),
    "eye": (0.15, 0.98, 1.0, 0.12, 0.15),
    "lens": (0.4, 0.15, 0.2, 0.25, 0.4),
    "lesion": (0.35, 0.7, 0.8, 0.75, 0.7),
}
INNER = {
    "cortex": (0.06, 0.05, 0.05, 0.05, 0.06),
    "medulla": (0.34, 0.7, 0.85, 0.6, 0.75),
    "blood": (0.15, 0.12, 0.2, 0.15, 0.95),
    "lung vessel": (0.15, 0.12, 0.2, 0.15, 0.6),
    "liver vessel": (0.2, 0.15, 0.25, 0.18, 0.9),
    "content": (0.3, 0.75, 0.85, 0.4, 0.3),
    "stool": (0.5, 0.25, 0.25, 0.3, 0.5),
    "gas": (0.01, 0.01, 0.01, 0.01, 0.01),
}
"""The same for what lies within organs."""
DARK = frozenset({"air", "airway", "gas", "lung", "cortical bone", "cortex"})
"""Tissues without signal in any sequence."""

LEAST_CONTRAST = 0.12
"""Difference to the surroundings, over the brightness of an object, that counts as visible."""


def brightness(rng: np.random.Generator) -> dict[str, float]:
    """Brightness of each tissue: of a sequence with some spread, or at random except for what has no signal."""
    rows = {**BRIGHTNESS, **INNER}
    at_random = rng.random() < 0.4
    column = int(rng.integers(len(SEQUENCES)))
    bright_blood = rng.random() < 0.35
    values = {}
    for tissue, row in rows.items():
        value = row[column]
        if bright_blood and tissue in ("artery", "vein", "upper vein", "portal vein", "pulmonary vessel", "blood"):
            value = max(value, 0.9)
        values[tissue] = value * float(np.exp(rng.normal(0, 0.1)))
        if at_random and tissue not in DARK and rng.random() < 0.85:
            values[tissue] = float(rng.uniform(0.05, 1.0))
    if at_random and rng.random() < 0.3:
        values = {tissue: value if tissue in DARK else 1.05 - value for tissue, value in values.items()}
    return values


def render_mr(
    rng: np.random.Generator, grid: Grid, part: Array, depth: Array, parts: list[Part], lesions: list[Lesion]
) -> Rendered:
    """MR of painted parts; arguments as for `lib.synthesis.ct.render_ct`.

    Returns:
        Intensities of an arbitrary unit, background near 0.
    """
    values = brightness(rng)
    # One tissue has one brightness on both sides; single organs may stand out a little.
    mean = np.array([values[p.tissue] * np.exp(rng.normal(0, 0.03)) for p in parts], np.float32)
    texture_sd = mean * np.array([rng.uniform(0.02, 0.09) for _ in parts], np.float32)
    texture = 0.7 * grid.noise(rng, 22.0) + 0.7 * grid.noise(rng, 6.0)
    image = mean[part]
    image += texture_sd[part] * texture
    paint_structures(rng, image, grid, part, depth, parts, values, texture)
    for lesion in lesions:
        _paint(rng, image, lesion, float(mean[lesion.host]), values["csf"], texture)
    np.maximum(image, 0, out=image)
    image = grid.average(image)
    blur = [b / s for b, s in zip(grid.scan.blur_mm, grid.scan.spacing, strict=True)]
    image = gaussian_filter(image, blur, truncate=3.0)
    extent = max(n * s for n, s in zip(grid.scan.shape, grid.scan.spacing, strict=True))
    step = float(np.cbrt(np.prod(grid.scan.spacing)))
    bias = smooth_noise(rng, grid.scan.shape, step, rng.uniform(0.35, 0.8) * extent)
    bias *= np.float32(rng.uniform(0.02, 0.3))
    image *= np.exp(bias, out=bias)
    image = np.power(image, np.float32(np.exp(rng.normal(0, 0.15))), out=image)
    clean = image.copy()
    noise = np.float32(np.exp(rng.uniform(np.log(0.008), np.log(0.06))))
    # Magnitude of a complex signal: the noise of the background is Rician.
    image += noise * rng.standard_normal(image.shape, dtype=np.float32)
    imaginary = noise * rng.standard_normal(image.shape, dtype=np.float32)
    image = np.hypot(image, imaginary, out=image)
    image *= np.float32(np.exp(rng.uniform(np.log(250), np.log(4000))))
    return Rendered(
        np.clip(np.rint(image), 0, 32767).astype(np.int16),
        clean,
        lambda own, around: np.abs(around - own) >= max(LEAST_CONTRAST * own, noise),
        share=0.4,
        always_seen=frozenset({"muscle"}),
    )


def _paint(rng: np.random.Generator, image: Array, lesion: Lesion, host: float, fluid: float, texture: Array) -> None:
    """Paints a lesion whose brightness differs from its host's by a quarter at least."""
    strength = rng.uniform(0.25, 1.2) * max(host, 0.25)
    value = max(host + strength * (1 if rng.random() < 0.65 or host < 0.25 else -1), 0.02)
    core = fluid if rng.random() < 0.6 else 0.6 * value
    paint_lesion(rng, image, lesion, (value, core, value * rng.uniform(1.1, 1.5)), texture, 0.06 * value)
