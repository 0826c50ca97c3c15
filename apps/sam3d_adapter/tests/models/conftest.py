"""Models of the test size with values that exercise every term."""

import dataclasses

import pytest
import torch

from lib.models.build import build_model
from lib.models.config import MODEL_SIZES


def randomised(size):
    """A model none of whose parameters is zero or one, so that no term can hide."""
    with torch.random.fork_rng():
        torch.manual_seed(3)  # of the initialisation
        model = build_model(size)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def as_served(model):
    """The same model; on some CPUs PyTorch multiplies by parameters that require gradients in another order."""
    return model.requires_grad_(False)


@pytest.fixture(scope="module")
def model():
    """The test size, as the published model is built: no detail branch."""
    return randomised("test")


@pytest.fixture(scope="module")
def detail_model():
    """The test size with what `tiny` adds to the published decoder."""
    additions = {"detail_dims": (4, 6), "refine_dims": (8, 6)}
    additions |= {"click_map_sigmas": (2.0, 9.0), "click_map_scales": (1, 3), "click_map_tolerances": (0.3,)}
    return randomised(dataclasses.replace(MODEL_SIZES["test"], **additions))


@pytest.fixture
def roi():
    """Two ROIs of 32 voxels with structure at every place."""
    return torch.randn(2, 1, 32, 32, 32, generator=torch.Generator().manual_seed(5))


@pytest.fixture
def clicks_dhw():
    """Three clicks an ROI, away from any symmetry."""
    return torch.tensor([[[3.0, 20.0, 9.0], [15.0, 2.0, 30.0], [8.0, 8.0, 1.0]]]).expand(2, -1, -1).clone()
