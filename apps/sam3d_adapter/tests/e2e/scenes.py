"""The studies that are clicked on: an organ in a body, with lesions that nobody could miss."""

import numpy as np

from tests.support.dicom_study import (
    Ellipsoid,
    Geometry,
    Study,
    Vector,
    ball,
    centred_geometry,
    make_study,
    paint_scene,
)

NOISE_HU = 15.0
# LPS mm. No two coordinates alike, none in the middle: an axis that is flipped or exchanged must show.
CENTRE: Vector = (13.0, -40.0, 200.0)
LARGE = ball((34.0, -64.0, 222.0), 30.0, 100.0)
SMALL = ball((-8.0, -28.0, 168.0), 24.0, 100.0)
_BODY = Ellipsoid(CENTRE, (78.0, 66.0, 250.0), -90.0)
ORGAN = Ellipsoid((14.0, -44.0, 198.0), (56.0, 48.0, 74.0), 40.0)

GEOMETRIES: dict[str, Geometry] = {
    "oblique": centred_geometry((144, 128, 72), (1.2, 1.5, 2.5), centre=CENTRE, tilt_deg=(15.0, -8.0, 20.0)),
    "sagittal": centred_geometry((120, 112, 60), (1.4, 1.7, 3.0), centre=CENTRE, orientation="sagittal"),
    "feet_up": centred_geometry((132, 104, 56), (1.3, 1.6, 3.2), centre=CENTRE, orientation="feet_up"),
}


def make_scene(name: str) -> Study:
    """The study of one geometry; its slices are numbered against their order in space."""
    geometry = GEOMETRIES[name]
    image = paint_scene([_BODY, ORGAN, LARGE, SMALL], geometry, noise_hu=NOISE_HU, seed=1)
    return make_study(image, geometry, patient_name=name.upper(), is_instance_number_reversed=True)


def voxel_centre(geometry: Geometry, lps: Vector, off_mm: Vector = (0.0, 0.0, 0.0)) -> Vector:
    """LPS of the centre of the voxel that a place, moved by ``off_mm``, lies in."""
    x, y, z = geometry.lps(geometry.voxel(np.add(lps, off_mm).tolist()))
    return float(x), float(y), float(z)
