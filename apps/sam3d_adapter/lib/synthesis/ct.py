"""CT: attenuation of each tissue in a phase of contrast, structures within organs, and the scan."""

import numpy as np

from lib.phantoms.acquisition import scan_image
from lib.synthesis.lesions import Lesion, paint_lesion
from lib.synthesis.scan import Grid
from lib.synthesis.structures import paint_structures
from lib.synthesis.tissues import Part
from lib.synthesis.visibility import Rendered

Array = np.ndarray
PHASES = ("native", "arterial", "venous", "late")
# Mean HU in each of PHASES, and the spread between patients.
HU: dict[str, tuple[tuple[float, float, float, float], float]] = {
    "air": ((-1000, -1000, -1000, -1000), 2),
    "airway": ((-985, -985, -985, -985), 8),
    "lung": ((-850, -840, -840, -845), 40),
    "skin": ((20, 25, 30, 30), 15),
    "fat": ((-102, -102, -100, -100), 8),
    "muscle": ((54, 58, 64, 62), 7),
    "soft tissue": ((30, 36, 44, 42), 15),
    "scalp": ((30, 32, 35, 35), 20),
    "mucosa": ((45, 60, 80, 70), 15),
    "bone": ((160, 165, 170, 170), 60),
    "skull": ((650, 650, 650, 650), 120),
    "marrow": ((150, 150, 155, 155), 60),
    "cortical bone": ((900, 900, 900, 900), 150),
    "cartilage": ((105, 105, 110, 110), 20),
    "costal cartilage": ((105, 105, 110, 110), 20),
    "ligament": ((90, 90, 92, 92), 12),
    "disc": ((85, 85, 90, 90), 12),
    "artery": ((42, 320, 150, 110), 25),
    "upper vein": ((42, 240, 145, 110), 45),
    "vein": ((42, 75, 140, 108), 20),
    "portal vein": ((42, 95, 165, 112), 18),
    "pulmonary vessel": ((42, 260, 145, 108), 30),
    "heart": ((43, 100, 115, 98), 12),
    "liver": ((57, 66, 110, 92), 10),
    "spleen": ((49, 115, 120, 95), 9),
    "kidney": ((33, 165, 185, 165), 18),
    "pancreas": ((42, 98, 95, 75), 10),
    "adrenal gland": ((25, 60, 68, 50), 12),
    "gallbladder": ((8, 8, 9, 12), 7),
    "bladder": ((6, 6, 8, 90), 6),
    "bowel": ((40, 85, 95, 78), 12),
    "colon": ((40, 70, 85, 75), 12),
    "prostate": ((40, 60, 80, 70), 12),
    "thyroid": ((105, 190, 165, 135), 20),
    "salivary gland": ((20, 60, 65, 55), 25),
    "brain": ((33, 36, 37, 36), 2),
    "brainstem": ((32, 35, 36, 35), 2),
    "grey matter": ((38, 42, 43, 42), 2),
    "cerebellar cortex": ((37, 41, 42, 41), 2),
    "white matter": ((28, 30, 31, 30), 2),
    "thalamus": ((35, 38, 39, 38), 2),
    "striatum": ((39, 42, 43, 42), 2),
    "pallidum": ((40, 42, 43, 42), 4),
    "hippocampus": ((36, 39, 40, 39), 2),
    "csf": ((7, 7, 8, 8), 3),
    "cord": ((34, 36, 38, 38), 3),
    "nerve": ((32, 36, 40, 38), 5),
    "eye": ((9, 9, 10, 10), 4),
    "lens": ((75, 75, 75, 75), 12),
    "lesion": ((40, 60, 70, 60), 15),
}
TEXTURE_HU = {"lung": 26.0, "fat": 9.0, "bone": 45.0, "soft tissue": 12.0, "skull": 60.0, "scalp": 25.0, "air": 1.0}
"""Standard deviation of the variation within a tissue where it is not the usual one."""


LEAST_CONTRAST_HU = 8.0


def attenuation(rng: np.random.Generator, phase: str) -> dict[str, float]:
    """HU of each tissue, drawn for one patient in a phase, and of what lies within organs."""
    column = PHASES.index(phase)
    strength = rng.uniform(0.75, 1.2) if phase != "native" else 1.0
    hu = {}
    for tissue, (means, spread) in HU.items():
        uptake = (means[column] - means[0]) * strength
        hu[tissue] = means[0] + uptake + float(rng.normal(0, spread))
    if rng.random() < 0.2:
        hu["liver"] -= rng.uniform(10, 50)  # fatty liver
    if phase == "late" and rng.random() < 0.5:
        hu["bladder"] = rng.uniform(200, 900)
    osteoporosis = rng.uniform(-60, 40)
    hu["bone"] += osteoporosis
    hu["cortex"] = rng.uniform(500, 1100) + osteoporosis
    cortex_over_medulla = {"native": 3, "arterial": 75, "venous": 25, "late": -25}[phase]
    hu["medulla"] = hu["kidney"] - cortex_over_medulla * rng.uniform(0.5, 1.3)
    hu["blood"] = {"native": 43, "arterial": hu["artery"], "venous": hu["artery"], "late": hu["vein"]}[phase]
    hu["lung vessel"] = rng.uniform(-100, 60)
    hu["liver vessel"] = hu["liver"] + {"native": -12, "arterial": 15, "venous": 45, "late": 20}[phase]
    hu["content"] = rng.uniform(150, 380) if rng.random() < 0.25 else rng.uniform(0, 45)
    hu["stool"] = rng.uniform(-80, 70)
    hu["gas"] = rng.uniform(-980, -900)
    hu["ventricle"] = hu["csf"]
    return hu


def render_ct(
    rng: np.random.Generator, grid: Grid, part: Array, depth: Array, parts: list[Part], lesions: list[Lesion]
) -> Rendered:
    """CT of painted parts.

    Args:
        rng: Source of randomness.
        grid: Fine grid and scan.
        part: (x, y, z) part of each fine voxel.
        depth: See `lib.synthesis.scan.sample_parts`.
        parts: What they are.
        lesions: Painted over the organs.

    Returns:
        HU; an object is seen where its surroundings differ by most of the noise.
    """
    phase = PHASES[int(rng.choice(4, p=(0.3, 0.2, 0.4, 0.1)))]
    hu = attenuation(rng, phase)
    # Left and right differ a little, and so do two muscles.
    mean = np.array([hu[p.tissue] + rng.normal(0, 3 if p.tissue != "air" else 0) for p in parts], np.float32)
    usual = [1.5 if p.kind == "brain" or p.tissue == "csf" else 5.0 for p in parts]
    texture_sd = np.array(
        [TEXTURE_HU.get(p.tissue, sd) * rng.uniform(0.6, 1.4) for p, sd in zip(parts, usual, strict=True)], np.float32
    )
    texture = 0.8 * grid.noise(rng, 24.0) + 0.6 * grid.noise(rng, 7.0)
    image = mean[part]
    image += texture_sd[part] * texture
    paint_structures(rng, image, grid, part, depth, parts, hu, texture)
    for lesion in lesions:
        _paint(rng, image, lesion, parts[lesion.host].tissue, float(mean[lesion.host]), texture)
    clean = grid.average(image)
    least = max(LEAST_CONTRAST_HU, 0.7 * grid.scan.noise_hu)
    return Rendered(
        scan_image(rng, clean, grid.scan),
        clean,
        lambda own, around: np.abs(around - own) >= least,
        share=0.4,
        # A thin plane of fat parts a muscle from the next.
        always_seen=frozenset({"muscle"}),
    )


def _paint(rng: np.random.Generator, image: Array, lesion: Lesion, host: str, host_hu: float, texture: Array) -> None:
    """Paints a lesion as it looks in its host, at least as bright or dark as can be seen at its size."""
    faintest = float(np.clip(260 / lesion.diameter_mm, 14, 60))
    if host == "lung":
        value = rng.uniform(-650, -350) if rng.random() < 0.25 else rng.uniform(-40, 90)
    elif host in ("bone", "skull", "marrow"):
        value = rng.uniform(-20, 70) if rng.random() < 0.6 else rng.uniform(650, 1100)
    elif host == "fat":
        value = rng.uniform(0, 90)
    else:
        strong = rng.uniform(faintest, max(1.2 * faintest, 75))
        value = host_hu + strong * (-1 if rng.random() < 0.65 else 1)
        if host_hu > 20 and rng.random() < 0.2:
            value = min(rng.uniform(-5, 20), host_hu - faintest)  # cyst
    sign = np.sign(value - host_hu)
    core = value - rng.uniform(12, 45)
    rim = value + sign * rng.uniform(5, 30) if rng.random() < 0.5 else value + rng.uniform(10, 50)
    paint_lesion(rng, image, lesion, (value, core, rim), texture, rng.uniform(2, 9))
