"""The checks can fail: each is shown the fault that it is there for. No server, no browser."""

import numpy as np
import pytest
import SimpleITK as sitk

from tests.e2e.checks import Mask, check_clicks, check_equal, check_grid, check_place, read_mask
from tests.e2e.conftest import require
from tests.e2e.scenes import GEOMETRIES, LARGE, SMALL, voxel_centre
from tests.support.dicom_study import Geometry

GEOMETRY = GEOMETRIES["oblique"]
CLICK = GEOMETRY.voxel(LARGE.centre)


@pytest.fixture(scope="module")
def solid() -> np.ndarray:
    return LARGE.inside(GEOMETRY)


def test_the_truth_passes(solid: np.ndarray) -> None:
    check_place(solid.astype(np.uint8), solid, GEOMETRY, [CLICK])


@pytest.mark.parametrize("axis", range(3))
def test_a_flipped_mask_fails(solid: np.ndarray, axis: int) -> None:
    with pytest.raises(AssertionError, match="not in the mask"):
        check_place(np.flip(solid, axis), solid, GEOMETRY, [CLICK])


def test_a_mask_beside_the_solid_fails(solid: np.ndarray) -> None:
    with pytest.raises(AssertionError, match="mm off"):
        check_place(np.roll(solid, 5, axis=0), solid, GEOMETRY, [CLICK])


def test_a_mask_of_everything_fails(solid: np.ndarray) -> None:
    with pytest.raises(AssertionError, match="Dice"):
        check_place(np.ones_like(solid), solid, GEOMETRY, [CLICK])


def test_an_empty_mask_fails(solid: np.ndarray) -> None:
    with pytest.raises(AssertionError, match="empty"):
        check_place(np.zeros_like(solid), solid, GEOMETRY, [CLICK])
    with pytest.raises(AssertionError, match="empty"):
        check_equal(np.zeros_like(solid), np.zeros_like(solid))


def test_one_voxel_more_fails(solid: np.ndarray) -> None:
    shown = solid.copy()
    check_equal(shown, solid)
    shown[0, 0, 0] = True
    with pytest.raises(AssertionError, match="1 voxels differ"):
        check_equal(shown, solid)


def test_clicks_in_another_order_of_axes_or_next_door_fail() -> None:
    check_clicks([list(CLICK)], [CLICK])
    for wrong in (CLICK[::-1], (CLICK[0] + 1, *CLICK[1:])):
        with pytest.raises(AssertionError, match="aimed at"):
            check_clicks([list(wrong)], [CLICK])


def test_a_written_mask_is_read_in_its_place(solid: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> None:
    mask = read_mask(nrrd(solid, GEOMETRY, tmp_path_factory))
    assert np.array_equal(mask.values > 0, solid)
    check_grid(mask, GEOMETRY)


def test_a_mask_without_the_geometry_of_the_image_fails(solid: np.ndarray) -> None:
    with pytest.raises(AssertionError, match="image:"):
        check_grid(Mask(solid.astype(np.uint8), np.eye(4)), GEOMETRY)
    with pytest.raises(AssertionError, match="voxels"):
        check_grid(Mask(np.zeros((2, 2, 2), np.uint8), GEOMETRY.index_to_lps), GEOMETRY)


@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
def test_the_scenes_cannot_hide_an_exchanged_or_flipped_axis(geometry: Geometry) -> None:
    for lesion in (LARGE, SMALL):
        solid = lesion.inside(geometry)
        assert np.count_nonzero(solid) > 1000
        voxel = geometry.voxel(voxel_centre(geometry, lesion.centre))
        assert solid[voxel]
        assert not any(np.flip(solid, axis)[voxel] for axis in range(3))
        other = voxel[::-1]
        assert any(a >= n for a, n in zip(other, geometry.shape, strict=True)) or not solid[other]


def test_a_missing_program_skips_and_fails_where_the_tests_must_run(monkeypatch: pytest.MonkeyPatch) -> None:
    require(None)
    monkeypatch.delenv("SAM3D_REQUIRE_E2E", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no Orthanc"):
        require("no Orthanc")
    monkeypatch.setenv("SAM3D_REQUIRE_E2E", "1")
    with pytest.raises(pytest.fail.Exception, match="no Orthanc"):
        require("no Orthanc")


def nrrd(values: np.ndarray, geometry: Geometry, factory: pytest.TempPathFactory) -> bytes:
    image = sitk.GetImageFromArray(values.astype(np.uint8).transpose())
    image.SetSpacing(geometry.spacing)
    image.SetOrigin(geometry.origin)
    image.SetDirection((geometry.index_to_lps[:3, :3] / geometry.spacing).ravel().tolist())
    path = factory.mktemp("nrrd") / "mask.nrrd"
    sitk.WriteImage(image, str(path))
    return path.read_bytes()
