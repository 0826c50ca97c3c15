"""A thigh: large muscles divided by fat planes, a long bone, vessels. Coordinates are RAS mm around the bone."""

import numpy as np

from lib.phantoms.anatomy import add_tube_ras
from lib.phantoms.scene import Scene
from lib.phantoms.shapes import ellipsoid, intersect, wandering_line

LIMB_CENTRE = (0.0, 0.0, 0.0)


def build_limb(rng: np.random.Generator, scene: Scene) -> None:
    """Fill ``scene`` with a thigh along z."""
    x, y, z = scene.coords
    taper = 1 + 0.0009 * z
    skin = ellipsoid((x / taper, y / taper), (rng.uniform(-12, 12), rng.uniform(-12, 12)), rng.uniform(78, 96, size=2))
    skin += 2 * scene.noise(rng, 50.0)
    scene.depth = skin
    fascia = skin + np.maximum(rng.uniform(6, 20) * (1 + 0.25 * scene.noise(rng, 50.0)), 3)
    scene.add("skin", 20, skin)
    scene.add("fat", rng.uniform(-112, -95), skin + 2, texture_hu=5)
    scene.add("muscle", rng.uniform(45, 68), fascia, texture_hu=6)
    add_planes(rng, scene, fascia)
    bone = ellipsoid((x, y), (4, 5), rng.uniform(13, 16, size=2)) + 0.8 * scene.noise(rng, 25.0)
    scene.add("cortex", rng.uniform(800, 1250), bone)
    scene.add("marrow", rng.uniform(-60, 30), bone + rng.uniform(4, 6), texture_hu=20)
    vessels = scene.empty_field()
    for _ in range(int(rng.integers(4, 8))):
        start = np.array([rng.uniform(-55, 55), rng.uniform(-55, 55), -130.0])
        line = wandering_line(rng, start, np.array([0, 0, 1.0]), length_mm=270, step_mm=12, bend=0.08)
        add_tube_ras(scene, vessels, line, np.full(len(line), rng.uniform(2, 5)))
    scene.add("fat", -80, intersect(vessels - 3, fascia + 4, 3 - bone), texture_hu=8)
    scene.add("vessel", rng.uniform(60, 170), intersect(vessels, fascia, 3 - bone))


def add_planes(rng: np.random.Generator, scene: Scene, fascia: np.ndarray) -> None:
    """Divide the muscle by planes of fat: the borders of the cells around random lines along the limb."""
    x, y, z = scene.coords
    nearest = np.full(x.shape, 1e9, np.float32)
    second = nearest.copy()
    for _ in range(int(rng.integers(7, 11))):
        place, lean = rng.uniform(-70, 70, size=2), rng.uniform(-0.12, 0.12, size=2)
        distance = np.hypot(x - place[0] - lean[0] * z, y - place[1] - lean[1] * z).astype(np.float32)
        second = np.minimum(second, np.maximum(nearest, distance))
        nearest = np.minimum(nearest, distance)
    plane = (second - nearest) / 2 - np.maximum(0.2 + 1.1 * scene.noise(rng, 25.0), -1.0)
    scene.add("fat", rng.uniform(-90, -60), intersect(plane, fascia + 1), texture_hu=8)
