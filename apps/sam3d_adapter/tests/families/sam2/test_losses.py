"""The losses beside that of the masks, and the clips that they see."""

import pytest
import torch

from lib.families.sam2.boundary import BoundaryDetection, balanced_cross_entropy, boundary
from lib.families.sam2.clips import Clip, mirrored
from lib.families.sam2.position import RelativePosition

POSITIONS = torch.tensor([-4.0, -3.0, -2.0])


def clip() -> Clip:
    truths = torch.zeros(3, 8, 8, dtype=torch.bool)
    truths[0, 1, 2] = True
    recorded = torch.tensor([[2.0, 6.5, 0.5, 1.0]])
    return Clip(torch.rand(3, 3, 8, 8), truths, POSITIONS, torch.tensor([0.0, 2.5, 1.5]), recorded)


def test_relative_positions_are_told_from_the_features_alone() -> None:
    torch.manual_seed(0)
    srpp, features = RelativePosition(16), torch.randn(3, 16, 4, 4)
    with torch.no_grad():
        srpp.pair[-1].weight.zero_()
        srpp.pair[-1].bias.zero_()
        assert srpp(features, POSITIONS) == (4 * 1 + 2 * 4) / 6  # says 0 of all pairs
        srpp.pair[-1].bias.fill_(1.0)
        assert srpp(features, POSITIONS) == (2 * 0 + 2 * 4 + 1 + 9) / 6  # says 1 of all pairs
        assert srpp(features[:1], POSITIONS[:1]) == 0
    torch.manual_seed(0)
    srpp, order = RelativePosition(16), torch.tensor([2, 0, 1])
    torch.testing.assert_close(srpp(features, POSITIONS), srpp(features[order], POSITIONS[order]))


@pytest.mark.parametrize("axis", ["slices", "x", "y"])
def test_a_mirrored_clip(axis: str) -> None:
    before = clip()
    after = mirrored(before, axis)
    number, x, y = after.first.tolist()
    assert after.truths[int(number), int(y), int(x)] and after.truths.sum() == 1
    number, x, y, sign = after.recorded[0].tolist()
    at = before.images[2, :, 0, 6]
    seen = after.images[int(number), :, int(y), int(x)]
    assert torch.equal(seen, at.flip(0) if axis == "slices" else at) and sign == 1
    differences = [one.positions[1:] - one.positions[:-1] for one in (before, after)]
    assert torch.equal(differences[1], -differences[0] if axis == "slices" else differences[0])
    assert all(torch.equal(one, other) for one, other in zip(mirrored(after, axis), before, strict=True))


def test_a_boundary_is_a_cell_wide_on_both_sides() -> None:
    truth = torch.zeros(32, 32, dtype=torch.bool)
    truth[8:24, 8:24] = True
    cells = boundary(truth, 16)[0, 0]
    assert cells.sum() == 10 * 10 - 6 * 6 and not cells[7, 7] and cells[4, 4] and cells[3, 3] and not cells[2, 2]
    assert not boundary(torch.zeros_like(truth), 16).any() and not boundary(torch.ones_like(truth), 16).any()


def test_both_classes_weigh_the_same() -> None:
    truth = torch.zeros(1, 1, 10, 10)
    truth[..., 0, :2] = 1
    logits = torch.zeros_like(truth, requires_grad=True)
    balanced_cross_entropy(logits, truth).backward()
    assert logits.grad is not None
    torch.testing.assert_close(-logits.grad[truth > 0].sum(), logits.grad[truth == 0].sum())
    assert balanced_cross_entropy(logits, torch.zeros_like(truth)) == 0


def test_the_boundary_depends_on_what_memory_attention_gave() -> None:
    torch.manual_seed(0)
    detection, fine, truth = BoundaryDetection(16), torch.randn(1, 16, 8, 8), torch.zeros(16, 16, dtype=torch.bool)
    truth[4:10, 4:10] = True
    one, other = (detection(fine, torch.randn(1, 16, 4, 4), truth) for _ in range(2))
    assert one != other
