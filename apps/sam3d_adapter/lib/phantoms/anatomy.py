"""Anatomy: a trunk (body wall, skeleton, organs, bowel, vessels) or a thigh (muscles, fat planes, bone, vessels).

Coordinates are RAS mm. In the trunk, z = 0 is the top of the diaphragm; in the thigh, the bone is the origin.
"""

import numpy as np

from lib.phantoms.scene import Scene
from lib.phantoms.shapes import add_tube, ellipsoid, intersect, unite, wandering_line

Array = np.ndarray
HOSTS = frozenset({"liver", "spleen", "kidney", "muscle", "soft tissue", "heart", "pancreas"})
"""Tissues a lesion may grow in."""
TRUNK_CENTRES = (
    (62.0, 0.0, -45.0),
    (-60.0, -8.0, -55.0),
    (0.0, 5.0, -130.0),
    (45.0, -15.0, -110.0),
    (0.0, 0.0, -190.0),
)
"""Where scans are centred: liver, left upper abdomen, mid abdomen, right flank, lower abdomen."""
LIMB_CENTRE = (0.0, 0.0, 0.0)
VERTEBRA_MM = 34.0
RIB_MM = 30.0


def to_lattice(scene: Scene, points: Array) -> Array:
    """(n, 3) RAS mm -> lattice indices."""
    inverse = np.linalg.inv(scene.acquisition.lattice_to_ras)
    return points @ inverse[:3, :3].T + inverse[:3, 3]


def add_tube_ras(scene: Scene, field: Array, points: Array, radii: Array) -> None:
    """Unite a tube along (n, 3) RAS points with a distance field, in place."""
    add_tube(field, to_lattice(scene, points), radii, scene.acquisition.lattice_mm)


def build_trunk(rng: np.random.Generator, scene: Scene) -> None:
    """Fill ``scene`` with the part of a trunk that its grid covers."""
    wall, cavity = add_body_wall(rng, scene)
    blood_hu = rng.uniform(90, 190)
    add_visceral_tissue(rng, scene, cavity)
    add_bowel(rng, scene, cavity)
    add_retroperitoneum(rng, scene, wall, blood_hu)
    dome = add_upper_organs(rng, scene, cavity, blood_hu)
    add_thorax(rng, scene, cavity, dome, blood_hu)
    add_spine(rng, scene)
    add_ribs(rng, scene, wall)


def add_body_wall(rng: np.random.Generator, scene: Scene) -> tuple[Array, Array]:
    """Skin, fat ring and muscle wall; returns the distances to the muscle's and to the cavity's outer face."""
    x, y, _ = scene.coords
    body = ellipsoid((x, y), (0, 0), (rng.uniform(155, 185), rng.uniform(108, 125)))
    body += 2.5 * scene.noise(rng, 60.0)
    scene.depth = body
    fat_mm = rng.uniform(7, 26) * (1 + 0.22 * scene.noise(rng, 70.0))
    wall = body + np.maximum(fat_mm, 4)
    muscle_mm = rng.uniform(11, 17) * (1 + 0.2 * scene.noise(rng, 50.0))
    cavity = wall + np.maximum(muscle_mm, 6)
    muscle_hu = rng.uniform(48, 66)
    scene.add("skin", 20, body)
    scene.add("fat", rng.uniform(-112, -95), body + 2.0, texture_hu=5)
    scene.add("muscle", muscle_hu, wall, texture_hu=5)
    # Fat planes between the layers of muscle.
    plane = np.abs(wall + 0.5 * muscle_mm) - (0.5 + 0.6 * scene.noise(rng, 14.0))
    scene.add("fat", -60, intersect(plane, wall + 2), texture_hu=5)
    scene.add("fat", -100, cavity, texture_hu=6)
    back = [ellipsoid((x, y), (side * 36, -82), (rng.uniform(26, 33), rng.uniform(17, 21))) for side in (-1, 1)]
    scene.add("muscle", muscle_hu, intersect(unite(*back) + 1.2 * scene.noise(rng, 12.0), body + 9), texture_hu=6)
    return wall, cavity


def add_visceral_tissue(rng: np.random.Generator, scene: Scene, cavity: Array) -> None:
    """Mesentery, collapsed bowel and fluid between the organs: soft tissue in a share of the visceral fat."""
    level = rng.uniform(-0.9, 0.5)
    soft = (level - scene.noise(rng, 42.0) - 0.25 * scene.noise(rng, 10.0)) * 12.0
    scene.add("soft tissue", rng.uniform(28, 52), intersect(soft, cavity + 3), texture_hu=6)
    strands = (np.abs(scene.noise(rng, 16.0)) - 0.05) * 9.0
    scene.add("strand", 0, intersect(strands, cavity + 6), texture_hu=10)


def add_bowel(rng: np.random.Generator, scene: Scene, cavity: Array) -> None:
    """Loops with wall, fluid or contrast, and gas lying on the fluid."""
    _, y, z = scene.coords
    room = intersect(cavity + 8, z + 70)
    for _ in range(int(rng.integers(7, 13))):
        start = np.array([rng.uniform(-110, 110), rng.uniform(-20, 75), rng.uniform(-260, -85)])
        heading = rng.standard_normal(3) * np.array([1, 0.6, 0.8])
        line = wandering_line(rng, start, heading, length_mm=rng.uniform(60, 190), step_mm=11, bend=0.45)
        radius = rng.uniform(9, 19)
        radii = radius * (1 + 0.16 * rng.standard_normal(len(line)))
        loop = scene.empty_field()
        add_tube_ras(scene, loop, line, np.clip(radii, 0.6 * radius, 1.4 * radius))
        loop = intersect(loop, room)
        whole = scene.add("bowel", rng.uniform(45, 95), loop, texture_hu=4)
        lumen = loop + rng.uniform(1.8, 3.5)
        fluid_hu = rng.uniform(150, 320) if rng.random() < 0.2 else rng.uniform(5, 45)
        scene.add("bowel content", fluid_hu, lumen, texture_hu=8, part_of=whole)
        if rng.random() < 0.5:
            level = float(start[1] + rng.uniform(-0.6, 1.2) * radius)
            scene.add("gas", -980, intersect(lumen + 0.5, level - y), part_of=whole)


def add_retroperitoneum(rng: np.random.Generator, scene: Scene, wall: Array, blood_hu: float) -> None:
    """Psoas muscles, kidneys, aorta, inferior vena cava and their branches."""
    x, y, z = scene.coords
    psoas = [
        ellipsoid((x, y), (side * 36, -48), (rng.uniform(15, 20), rng.uniform(17, 23))) - (-z - 160) * 0.03
        for side in (-1, 1)
    ]
    scene.add("muscle", rng.uniform(48, 66), intersect(unite(*psoas), z + 95, wall + 12), texture_hu=6)
    kidney_hu = rng.uniform(100, 170)
    for side in (-1, 1):
        centre = np.array([side * rng.uniform(64, 74), rng.uniform(-52, -40), rng.uniform(-125, -100)])
        radii = np.array([rng.uniform(25, 31), rng.uniform(25, 30), rng.uniform(48, 58)])
        kidney = ellipsoid((x, y, z), centre, radii) + 1.5 * scene.noise(rng, 18.0)
        whole = scene.add("kidney", kidney_hu, kidney, texture_hu=7)
        medulla = intersect(kidney + 8, (scene.noise(rng, 11.0) + 0.1) * 5)
        scene.add("kidney", kidney_hu - rng.uniform(5, 35), medulla, texture_hu=5, part_of=whole)
        sinus_centre = centre + np.array([-side * 14.0, 6.0, 0.0])
        sinus = ellipsoid((x, y, z), sinus_centre, (16, 11, 26)) + 2.5 * scene.noise(rng, 10.0)
        scene.add("fat", -80, sinus, texture_hu=10)
    vessels = scene.empty_field()
    for place, radius in ((-9.0, rng.uniform(9, 12)), (19.0, rng.uniform(9, 13))):
        levels = np.arange(-330.0, 130.0, 14.0)
        line = np.stack([place + 2 * rng.standard_normal(levels.size), np.full(levels.size, -24.0), levels], axis=1)
        add_tube_ras(scene, vessels, line, np.full(levels.size, radius))
        for _ in range(5):
            start = np.array([place, -22.0, rng.uniform(-230, -30)])
            add_branches(rng, scene, vessels, start, np.array([rng.choice([-1, 1]), 0.8, -0.4]), rng.uniform(3, 5), 4)
    scene.add("vessel", blood_hu, vessels, texture_hu=3)


def add_branches(
    rng: np.random.Generator, scene: Scene, field: Array, start: Array, heading: Array, radius: float, generations: int
) -> None:
    """Unite a branching vessel with a distance field, in place; ``radius`` in mm at its root."""
    line = wandering_line(rng, start, heading, length_mm=rng.uniform(22, 48), step_mm=8, bend=0.28)
    add_tube_ras(scene, field, line, np.linspace(radius, 0.8 * radius, len(line)))
    if generations <= 1 or radius < 1.0:
        return
    onward = line[-1] - line[-2]
    for _ in range(2):
        turned = onward / np.linalg.norm(onward) + 0.65 * rng.standard_normal(3)
        add_branches(rng, scene, field, line[-1], turned, radius * rng.uniform(0.6, 0.8), generations - 1)


def add_upper_organs(rng: np.random.Generator, scene: Scene, cavity: Array, blood_hu: float) -> Array:
    """Liver, spleen, stomach, pancreas; returns the distance below the diaphragm's dome."""
    x, y, z = scene.coords
    lateral = np.abs(np.abs(x) - 70)
    dome = z + (lateral**2 + (y - 5) ** 2) / 130 + 3 * scene.noise(rng, 50.0)
    inside = intersect(cavity + 3, dome + 4)
    pancreas = scene.empty_field()
    tail = np.array([[35, 0, -105], [12, 14, -92], [-15, 10, -84], [-45, -8, -74], [-78, -22, -66]], dtype=float)
    add_tube_ras(scene, pancreas, tail + 4 * rng.standard_normal(tail.shape), np.array([14.0, 11, 9, 9, 7]))
    scene.add("pancreas", rng.uniform(60, 105), pancreas + 2.2 * scene.noise(rng, 9.0), texture_hu=8)
    stomach = ellipsoid((x + 0.25 * z, y, z), (-60, 38, -48), (rng.uniform(30, 44), rng.uniform(26, 38), 52))
    stomach = intersect(stomach + 2 * scene.noise(rng, 30.0), inside)
    whole = scene.add("stomach", rng.uniform(50, 90), stomach, texture_hu=4)
    lumen = stomach + rng.uniform(3, 6)
    scene.add(
        "stomach content",
        rng.uniform(5, 60),
        intersect(lumen, scene.noise(rng, 25.0) * 3 + lumen),
        texture_hu=9,
        part_of=whole,
    )
    scene.add("gas", -985, intersect(lumen + 1, rng.uniform(40, 62) - y), part_of=whole)
    spleen_hu, liver_hu = rng.uniform(85, 135), rng.uniform(55, 120)
    spleen = ellipsoid((x, y, z), (-100, -36, -48), (rng.uniform(27, 40), rng.uniform(44, 58), rng.uniform(42, 62)))
    scene.add("spleen", spleen_hu, intersect(spleen + 2 * scene.noise(rng, 30.0), inside), texture_hu=5)
    right = ellipsoid((x, y, z), (78, 0, -66), (rng.uniform(70, 86), rng.uniform(85, 100), rng.uniform(75, 100)))
    left = ellipsoid((x, y, z), (5, 42, -42), (rng.uniform(60, 85), 36, 34))
    liver = intersect(unite(right, left) + 3.5 * scene.noise(rng, 45.0), inside)
    # The visceral face is hollowed by kidney, gall bladder and spine.
    for centre, radius in (((68, -48, -125), 40.0), ((0, -50, -60), 42.0)):
        liver = intersect(liver, -ellipsoid((x, y, z), centre, (radius, radius, 1.9 * radius)))
    whole = scene.add("liver", liver_hu, liver, texture_hu=6)
    trees = scene.empty_field()
    for start, heading in (
        ((22, 0, -80), (1, 0.2, 0.35)),
        ((30, -12, -12), (0.9, 0.6, -0.6)),
        ((20, 4, -70), (0.2, 1, 0.3)),
    ):
        add_branches(rng, scene, trees, np.array(start, float), np.array(heading), rng.uniform(4.5, 6.5), 6)
    scene.add("vessel", liver_hu + rng.uniform(15, 60), intersect(trees, liver + 1), texture_hu=3, part_of=whole)
    bladder = ellipsoid((x, y, z), (42, 40, -100), (14, 15, 27)) + 1.2 * scene.noise(rng, 25.0)
    scene.add("gall bladder", rng.uniform(3, 18), bladder, texture_hu=2)
    return dome


def add_thorax(rng: np.random.Generator, scene: Scene, cavity: Array, dome: Array, blood_hu: float) -> None:
    """Lungs with vessels, and the heart."""
    x, y, z = scene.coords
    side = np.abs(x + 4)
    middle = 30 - 14 * np.tanh((z - 70) / 30) + 6 * scene.noise(rng, 40.0)
    lungs = intersect(cavity + 2, -dome, middle - side)
    scene.add(
        "soft tissue", rng.uniform(35, 50), intersect(cavity + 3, -dome - 2, side - middle, -y - 60), texture_hu=6
    )
    whole = scene.add("lung", rng.uniform(-880, -780), lungs, texture_hu=22)
    trees = scene.empty_field()
    for sign in (-1, 1):
        for _ in range(4):
            start = np.array([sign * 35.0, rng.uniform(-25, 5), rng.uniform(25, 75)])
            heading = np.array([sign, rng.uniform(-1, 1), rng.uniform(-1.3, 0.8)])
            add_branches(rng, scene, trees, start, heading, rng.uniform(3, 5), 5)
    scene.add("vessel", 40, intersect(trees, lungs + 3), part_of=whole)
    heart = ellipsoid((x + 0.3 * y, y, z - 0.2 * x), (-18, 28, 48), (54, 44, 46)) + 2 * scene.noise(rng, 35.0)
    heart = intersect(heart, cavity + 6, -dome - 2)
    scene.add("fat", -85, intersect(heart - 4, cavity + 3, -dome), texture_hu=8)
    whole = scene.add("heart", rng.uniform(70, 110), heart, texture_hu=5)
    chambers = intersect(heart + 11, (scene.noise(rng, 30.0) - 0.5) * 9)
    scene.add("heart", blood_hu, chambers, texture_hu=4, part_of=whole)


def add_spine(rng: np.random.Generator, scene: Scene) -> None:
    """Vertebrae with cortex and marrow, discs, canal and processes."""
    x, y, z = scene.coords
    phase = np.mod(z + rng.uniform(0, VERTEBRA_MM), VERTEBRA_MM) - VERTEBRA_MM / 2
    waist = 1.5 * np.cos(phase * (2 * np.pi / VERTEBRA_MM))
    column = ellipsoid((x, y), (0, -52), (rng.uniform(20, 25), rng.uniform(16, 19))) + waist
    body = intersect(column, np.abs(phase) - 13.0)
    scene.add("disc", rng.uniform(60, 100), column + 1, texture_hu=5)
    vertebra = scene.add("vertebra", rng.uniform(420, 650), body)
    marrow_hu = rng.uniform(140, 260)
    scene.add("marrow", marrow_hu, body + 1.8, texture_hu=28, part_of=vertebra)
    arch = intersect(np.abs(ellipsoid((x, y), (0, -76), (13, 11))) - 3.0, np.abs(phase) - 9)
    spinous = intersect(ellipsoid((x, y), (0, -95), (4.5, 14)), np.abs(phase + 6) - 6)
    transverse = intersect(ellipsoid((x, y), (0, -76), (40, 5)), np.abs(phase) - 5, 11 - np.abs(x))
    bone = unite(arch, spinous, transverse)
    scene.add("cortex", rng.uniform(380, 560), bone, part_of=vertebra)
    scene.add("marrow", marrow_hu, bone + 2, texture_hu=20, part_of=vertebra)
    scene.add("canal", 25, ellipsoid((x, y), (0, -76), (10, 8)))


def add_ribs(rng: np.random.Generator, scene: Scene, wall: Array) -> None:
    """Ribs run within the muscle wall, downwards to the front."""
    x, y, z = scene.coords
    slope = z + 0.35 * (y + 60) + rng.uniform(0, RIB_MM)
    phase = np.mod(slope, RIB_MM) - RIB_MM / 2
    shell = wall + 8
    rib = np.sqrt((phase / 1.6) ** 2 + shell**2) - 3.8
    rib = intersect(rib, -(z + 95 + 0.9 * np.maximum(y, 0)), 16 - np.abs(x))
    whole = scene.add("rib", rng.uniform(380, 600), rib)
    scene.add("marrow", rng.uniform(120, 240), rib + 1.7, texture_hu=15, part_of=whole)


def build_limb(rng: np.random.Generator, scene: Scene) -> None:
    """Fills ``scene`` with a thigh along z."""
    x, y, z = scene.coords
    taper = 1 + 0.0009 * z
    skin = ellipsoid((x / taper, y / taper), (rng.uniform(-12, 12), rng.uniform(-12, 12)), rng.uniform(78, 96, size=2))
    skin += 2 * scene.noise(rng, 50.0)
    scene.depth = skin
    fascia = skin + np.maximum(rng.uniform(6, 20) * (1 + 0.25 * scene.noise(rng, 50.0)), 3)
    scene.add("skin", 20, skin)
    scene.add("fat", rng.uniform(-112, -95), skin + 2, texture_hu=5)
    muscle = scene.add("muscle", rng.uniform(45, 68), fascia, texture_hu=6)
    add_fat_planes(rng, scene, fascia, muscle)
    bone = ellipsoid((x, y), (4, 5), rng.uniform(13, 16, size=2)) + 0.8 * scene.noise(rng, 25.0)
    whole = scene.add("femur", rng.uniform(800, 1250), bone)
    scene.add("marrow", rng.uniform(-60, 30), bone + rng.uniform(4, 6), texture_hu=20, part_of=whole)
    vessels = scene.empty_field()
    for _ in range(int(rng.integers(4, 8))):
        start = np.array([rng.uniform(-55, 55), rng.uniform(-55, 55), -130.0])
        line = wandering_line(rng, start, np.array([0, 0, 1.0]), length_mm=270, step_mm=12, bend=0.08)
        add_tube_ras(scene, vessels, line, np.full(len(line), rng.uniform(2, 5)))
    scene.add("fat", -80, intersect(vessels - 3, fascia + 4, 3 - bone), texture_hu=8)
    scene.add("vessel", rng.uniform(60, 170), intersect(vessels, fascia, 3 - bone))


def add_fat_planes(rng: np.random.Generator, scene: Scene, fascia: Array, muscle: int) -> None:
    """Divides the muscle by fat planes: the borders of the cells around random lines along the limb."""
    x, y, z = scene.coords
    distances = []
    for _ in range(int(rng.integers(7, 11))):
        place, lean = rng.uniform(-70, 70, size=2), rng.uniform(-0.12, 0.12, size=2)
        distances.append(np.hypot(x - place[0] - lean[0] * z, y - place[1] - lean[1] * z).astype(np.float32))
    nearest, second = np.partition(distances, 1, axis=0)[:2]
    for distance in distances:
        others = np.where(distance > nearest, nearest, second)
        scene.add("muscle", 0, intersect((distance - others) / 2, fascia), part_of=muscle, rendered=False)
    plane = (second - nearest) / 2 - np.maximum(0.2 + 1.1 * scene.noise(rng, 25.0), -1.0)
    scene.add("fat", rng.uniform(-90, -60), intersect(plane, fascia + 1), texture_hu=8)
