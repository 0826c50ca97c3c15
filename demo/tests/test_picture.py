from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from demo.picture import draw, to_canonical


@pytest.mark.parametrize("axes", ["RAS", "LPS", "SRA", "PIL", "ASL"])
def test_what_is_shown_at_the_click_is_the_clicked_voxel(axes: str) -> None:
    """Turn a known canonical volume to other storage orders; turning back must bring image, mask and click together."""
    canonical = np.arange(5 * 6 * 7).reshape(5, 6, 7)
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    turn = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(axes))
    stored = nib.apply_orientation(canonical, turn)
    stored_affine = affine @ nib.orientations.inv_ornt_aff(turn, canonical.shape)
    assert "".join(nib.aff2axcodes(stored_affine)) == axes
    click = np.argwhere(stored == canonical[1, 4, 2])

    view = to_canonical(stored, stored_affine, {"mask": stored == canonical[1, 4, 2]}, click)

    np.testing.assert_array_equal(view.image, canonical)
    np.testing.assert_allclose(view.spacing_mm, [1, 2, 3])
    np.testing.assert_array_equal(view.clicks, [[1, 4, 2]])
    np.testing.assert_array_equal(np.argwhere(view.masks["mask"]), [[1, 4, 2]])


@pytest.mark.parametrize("truth", [None, np.zeros((6, 7, 8), bool)])
def test_an_empty_mask_can_be_drawn_too(tmp_path: Path, truth: np.ndarray | None) -> None:
    path = tmp_path / "new" / "demo.png"
    image = np.random.default_rng(0).normal(40, 20, (6, 7, 8))
    draw(
        path, image=image, affine=np.diag([-1.0, -1.0, 5.0, 1.0]), clicks=np.array([[0, 6, 7]]),
        mask=np.zeros(image.shape, bool), truth=truth, window=(-160, 240), title="t", subtitle="s",
    )  # fmt: skip
    assert path.read_bytes().startswith(b"\x89PNG")
