"""What the network is shown of a mask that is started from."""

import numpy as np
import pytest

from lib.geometry.paste import MASK_LOGIT, mask_logit
from lib.geometry.roi import place_roi
from lib.prompts.click import Click
from tests.support.geometry import GEOMETRIES, make_affine

SHAPE = (40, 36, 30)


@pytest.mark.parametrize("name", GEOMETRIES)
def test_the_network_is_shown_the_mask_where_it_is(name: str) -> None:
    directions, spacing, degrees = GEOMETRIES[name]
    affine = make_affine(directions, spacing, degrees)
    mask = np.zeros(SHAPE, bool)
    mask[10:32, 10:26, 8:22] = True
    roi = place_roi([Click((20, 18, 15))], SHAPE, affine, size=32, spacing_mm=1.0)
    logits = mask_logit(mask, roi)
    assert logits.shape == (32, 32, 32) and logits.abs().max() <= MASK_LOGIT
    inside, outside = ((20, 18, 15), (12, 12, 10)), ((8, 18, 15), (20, 18, 24))
    for ijk in (*inside, *outside):
        d, h, w = np.rint(roi.ijk_to_dhw([ijk])[0]).astype(int)
        if min(d, h, w) >= 0 and max(d, h, w) < 32:
            expected = MASK_LOGIT if ijk in inside else -MASK_LOGIT
            assert float(logits[d, h, w]) == pytest.approx(expected), ijk
