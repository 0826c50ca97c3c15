"""The series that other tests rely on, as SimpleITK, MONAI Label's reader, sees them."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from lib.phantoms.config import PhantomConfig
from lib.phantoms.phantom import make_phantom
from tests.support.dicom_study import (
    Geometry,
    Study,
    ball,
    centred_geometry,
    make_study,
    paint_scene,
    phantom_landmark,
    phantom_study,
)

SHAPE, SPACING = (13, 11, 7), (1.2, 1.5, 2.5)
GEOMETRIES = {
    "axial": centred_geometry(SHAPE, SPACING),
    "oblique": centred_geometry(SHAPE, SPACING, centre=(13.0, -40.0, 200.0), tilt_deg=(15.0, -8.0, 20.0)),
    "sagittal": centred_geometry(SHAPE, SPACING, orientation="sagittal"),
    "feet_up": centred_geometry(SHAPE, SPACING, orientation="feet_up"),
}


def read_series(study: Study, folder: Path) -> sitk.Image:
    for instance in study.instances:
        pydicom.dcmwrite(folder / f"{instance.SOPInstanceUID}.dcm", instance, write_like_original=False)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return reader.Execute()


@pytest.mark.parametrize("is_reversed", [False, True])
@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
def test_a_series_reads_back_voxel_for_voxel_in_its_place(
    geometry: Geometry, is_reversed: bool, tmp_path: Path
) -> None:
    image = np.random.default_rng(0).integers(-1000, 1000, size=SHAPE).astype(np.int16)
    study = make_study(image, geometry, patient_name="ANY", is_instance_number_reversed=is_reversed)
    read = read_series(study, tmp_path)
    assert np.array_equal(sitk.GetArrayFromImage(read).transpose(), image)
    for corner in ((0, 0, 0), (12, 0, 0), (0, 10, 0), (0, 0, 6)):
        np.testing.assert_allclose(read.TransformIndexToPhysicalPoint(corner), geometry.lps(corner), atol=1e-4)


def test_instances_are_numbered_against_k_when_asked() -> None:
    image = np.zeros(SHAPE, np.int16)
    heights = {}
    for is_reversed in (False, True):
        study = make_study(image, GEOMETRIES["axial"], patient_name="ANY", is_instance_number_reversed=is_reversed)
        numbers = [instance.InstanceNumber for instance in study.instances]
        assert numbers == list(range(1, 8))
        heights[is_reversed] = [float(instance.ImagePositionPatient[2]) for instance in study.instances]
    assert heights[False] == sorted(heights[False])
    assert heights[True] == heights[False][::-1]


def test_a_solid_lies_at_its_place() -> None:
    geometry = centred_geometry((60, 50, 40), (1.2, 1.5, 2.5), centre=(10.0, 20.0, 30.0), tilt_deg=(15.0, 10.0, 20.0))
    centre = (18.0, 11.0, 42.0)
    image = paint_scene([ball(centre, 24.0, 100.0)], geometry, noise_hu=0.0, seed=0)
    inside = image == 100
    np.testing.assert_allclose(geometry.lps(np.argwhere(inside).mean(axis=0)), centre, atol=0.3)
    assert inside[geometry.voxel(centre)]
    volume = np.count_nonzero(inside) * np.prod(geometry.spacing)
    assert volume == pytest.approx(np.pi / 6 * 24.0**3, rel=0.03)


def test_lesions_of_phantoms_are_found_where_they_lie() -> None:
    # Every grid of these is permuted, and so left-handed more often than not.
    config = PhantomConfig(permuted_share=1.0, max_voxels=1_500_000)
    handedness, found = set(), 0
    for seed in range(3):
        phantom = make_phantom(seed, config=config)
        study = phantom_study(phantom, patient_name="ANY")
        handedness.add(bool(np.linalg.det(phantom.affine[:3, :3]) < 0))
        ras_from_lps = np.diag([-1.0, -1.0, 1.0, 1.0])
        for lesion in phantom.lesions:
            voxel = study.geometry.voxel(phantom_landmark(phantom, lesion.centre_ijk))
            assert study.image[voxel] == phantom.image[lesion.centre_ijk]
            expected = phantom.affine @ [*lesion.centre_ijk, 1.0]
            np.testing.assert_allclose(ras_from_lps @ study.geometry.index_to_lps @ [*voxel, 1.0], expected, atol=1e-6)
            found += 1
    assert handedness == {True, False}
    assert found


def test_a_volume_of_another_shape_or_type_is_refused() -> None:
    for image in (np.zeros((2, 2, 2), np.int16), np.zeros(SHAPE, np.float32)):
        with pytest.raises(ValueError, match="An int16 volume"):
            make_study(image, GEOMETRIES["axial"], patient_name="ANY")
