"""Parity with the authors' code at full size.

The golden was made by running med-air/3DSAM-adapter at commit f4fb8f39 in fp32 on a CPU, with weights by formula.
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from lib.models.build import build_model
from lib.models.prompts import RoiPrompts
from lib.models.reference_checkpoint import load_reference_state, sort_reference_state
from tests.support.deterministic import formula_checkpoint

SHARED = os.environ.get("SAM3D_SHARED")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(not SHARED, reason="SAM3D_SHARED does not name the folder with parity/reference_golden.npz"),
]

TOLERANCE = 1e-4  # relative to the largest value of each compared array


@pytest.fixture(scope="module")
def golden():
    with np.load(Path(SHARED) / "parity" / "reference_golden.npz") as file:
        return {key: file[key] for key in file.files}


@pytest.fixture(scope="module")
def outputs(golden):
    """Our feature maps and logits for the golden's volume, weights and clicks."""
    keys = json.loads((Path(SHARED) / "parity" / "reference_checkpoint_keys.json").read_text())
    model = build_model("vit_b")
    load_reference_state(model, sort_reference_state(formula_checkpoint(keys), Path("formula")), Path("formula"))
    noise = np.random.RandomState(7).standard_normal((128, 128, 128)).astype(np.float32)
    volume = F.avg_pool3d(torch.from_numpy(noise)[None, None], 5, 1, 2, count_include_pad=False) * 5
    np.testing.assert_allclose(volume[0, 0, ::16, ::16, ::16].numpy(), golden["volume_sample"], rtol=1e-4, atol=1e-5)
    # The authors write clicks as (D, W, H); ours are (D, H, W).
    clicks_dhw = torch.from_numpy(golden["clicks_dwh"].astype(np.float32))[:, [0, 2, 1]][None]
    with torch.inference_mode():
        maps = model.image_encoder(volume)
        embedding = model.encode(volume)
        one, three = (model.decode(embedding, RoiPrompts(clicks)) for clicks in (clicks_dhw[:, :1], clicks_dhw))
    return {
        "features": np.stack([m[0, ::16, ::4, ::4, ::4].numpy() for m in maps]),
        "logits_1click": one[0, :, ::4, ::4, ::4].numpy(),
        "logits_3clicks": three[0, :, ::4, ::4, ::4].numpy(),
    }


@pytest.mark.parametrize("name", ["features", "logits_1click", "logits_3clicks"])
def test_equal_to_the_authors_code_at_every_stored_position(golden, outputs, name):
    expected, got = golden[name], outputs[name]
    assert got.shape == expected.shape
    error = np.abs(got - expected).max() / np.abs(expected).max()
    assert error < TOLERANCE, f"{name}: largest relative error {error:.2e}"


def test_the_two_click_cases_differ(outputs):
    assert np.abs(outputs["logits_1click"] - outputs["logits_3clicks"]).max() > 1e-3
