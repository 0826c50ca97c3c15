"""A study without patient: a phantom, and which of its lesions is clicked."""

from pathlib import Path

import numpy as np

from demo.study import Study, deepest_voxel
from lib.phantoms.data_set import save_volume
from lib.phantoms.phantom import make_phantom

# mm; the lesion nearest to this is clicked: neither a speck nor larger than what a click can mean.
TYPICAL_DIAMETER_MM = 35.0


def phantom_study(folder: Path, *, seed: int) -> Study:
    """Make a phantom and save it as the only volume of a folder.

    Args:
        folder: takes the volume.
        seed: which phantom.
    """
    phantom = make_phantom(seed)
    lesion = min(phantom.lesions, key=lambda lesion: abs(np.log(lesion.diameter_mm / TYPICAL_DIAMETER_MM)))
    truth = phantom.labels == lesion.label
    image_id = f"phantom_{seed}"
    save_volume(folder / f"{image_id}.nii.gz", phantom.image, phantom.affine)
    what = f"phantom {seed}: lesion of {lesion.diameter_mm:.0f} mm, {lesion.contrast_hu:+.0f} HU"
    if lesion.touching:
        what += ", touching tissue of its own density"
    click = deepest_voxel(truth, phantom.affine)
    return Study(folder, image_id, phantom.image, phantom.affine, click, truth, what)
