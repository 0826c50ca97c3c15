"""The simulated user of training: where it clicks, what it is told, what gradients see."""

import numpy as np
import pytest
import torch
from monai.losses import DiceCELoss

from lib.evaluation.simulated_user import deepest_error, depth_in_largest_error
from lib.models.build import build_model
from lib.training.interaction import InteractionConfig, corrective_click, draw_boxes, interaction_loss, play
from lib.training.stream import Batch

CONFIG = InteractionConfig()


@pytest.fixture
def truth():
    """A block in the middle of 32 voxels."""
    block = np.zeros((32, 32, 32), bool)
    block[10:20, 11:21, 12:22] = True
    return block


def test_the_click_is_in_the_middle_of_the_largest_error(truth):
    answer = truth.copy()
    answer[10:12] = False  # misses 200 voxels
    answer[25:32, 25:32, 25:32] = True  # 343 too many
    voxel, sign = corrective_click(answer, truth, np.random.default_rng(0), hit_share=1.0)
    assert voxel.tolist() == [28, 28, 28] and not sign
    answer[25:, 25:, 25:] = False
    voxel, sign = corrective_click(answer, truth, np.random.default_rng(0), hit_share=1.0)
    assert voxel[0] in (10, 11) and sign and truth[tuple(voxel)]


def test_a_hand_that_is_not_steady_stays_in_the_error(truth):
    rng = np.random.default_rng(1)
    answer = np.zeros_like(truth)
    clicks = [corrective_click(answer, truth, rng, hit_share=0.0)[0] for _ in range(40)]
    assert all(truth[tuple(click)] for click in clicks)
    assert len({tuple(click) for click in clicks}) > 30


def test_training_and_evaluation_click_in_the_same_error(truth):
    rng = np.random.default_rng(4)
    for share in (0.01, 0.05, 0.3):
        error = rng.random(truth.shape) < share
        depth, start = depth_in_largest_error(error)
        for voxel in (deepest_error(error, 1), corrective_click(truth ^ error, truth, rng, hit_share=1.0)[0]):
            assert depth[tuple(np.array(voxel) - start)] == depth.max() > 0


def test_nothing_wrong_no_click(truth):
    assert corrective_click(truth, truth, np.random.default_rng(0), hit_share=1.0) is None


def test_boxes_enclose_the_object_and_stay_in_the_roi(truth):
    truths = torch.from_numpy(truth)[None, None]
    exact = draw_boxes(truths, InteractionConfig(box_jitter=0.0), [np.random.default_rng(0)])
    assert exact.tolist() == [[[10, 11, 12], [19, 20, 21]]]
    wild = torch.cat(
        [draw_boxes(truths, InteractionConfig(box_jitter=2.0), [np.random.default_rng(s)]) for s in range(9)]
    )
    assert wild.min() >= 0 and wild.max() <= 31 and wild.std() > 1
    whole = draw_boxes(truths & False, InteractionConfig(box_jitter=0.0), [np.random.default_rng(0)])
    assert whole.tolist() == [[[0, 0, 0], [31, 31, 31]]]


@pytest.fixture
def batch(truth):
    """Two ROIs of noise with a brighter block, and a click on each."""
    truths = torch.from_numpy(truth)[None, None].expand(2, -1, -1, -1, -1).clone()
    rois = truths + 0.2 * torch.randn(truths.shape, generator=torch.Generator().manual_seed(0))
    return Batch(rois, truths, torch.full((2, 1, 3), 15.0), torch.zeros(2, 0, 4), torch.arange(2))


def test_each_round_adds_a_click_and_feeds_the_answer_back(batch):
    model = build_model("test")
    (first, alone), (last, said) = play(model, batch, 4, CONFIG, seed=3)
    assert alone.clicks_dhw.shape == (2, 1, 3) and alone.previous is None
    assert said.clicks_dhw.shape == (2, 4, 3) and said.previous.shape == batch.truths.shape
    assert not said.previous.requires_grad and first.requires_grad and last.requires_grad
    assert len(play(model, batch, 1, CONFIG, seed=3)) == 1


def test_what_corrects_gets_gradients_from_longer_interactions_alone(batch):
    model = build_model("test")
    weight = model.mask_decoder.corrections.conv.weight
    loss = DiceCELoss(sigmoid=True)
    interaction_loss(play(model, batch, 1, CONFIG), batch.truths, loss, CONFIG).backward()
    assert weight.grad is None
    interaction_loss(play(model, batch, 3, CONFIG), batch.truths, loss, CONFIG).backward()
    assert weight.grad.abs().max() > 0


def test_equal_seeds_play_equal_interactions(batch):
    model = build_model("test")
    with torch.no_grad():
        one, two = (play(model, batch, 3, CONFIG, seed=7) for _ in range(2))
    assert one[-1][0].equal(two[-1][0]) and one[-1][1].clicks_dhw.equal(two[-1][1].clicks_dhw)


def test_a_row_plays_the_same_whoever_it_plays_beside(batch):
    model = build_model("test")
    with torch.no_grad():
        _, both = play(model, batch, 4, CONFIG, with_box=True, seed=2)[-1]
        _, alone = play(model, batch.rows(slice(1, 2)), 4, CONFIG, with_box=True, seed=2)[-1]
    assert both.box_dhw[1:].equal(alone.box_dhw) and both.clicks_dhw[1:].equal(alone.clicks_dhw)
    assert not both.clicks_dhw[:1].equal(both.clicks_dhw[1:])


def test_what_a_user_clicked_comes_before_what_is_simulated(batch):
    recorded = torch.full((2, 2, 4), torch.nan)
    recorded[0] = torch.tensor([[3.0, 4.0, 5.0, 0.0], [12.0, 13.0, 14.0, 1.0]])
    recorded[1, 0] = torch.tensor([18.4, 19.0, 20.0, 1.0])
    with torch.no_grad():
        _, said = play(build_model("test"), batch._replace(recorded=recorded), 4, CONFIG)[-1]
    assert said.clicks_dhw[0, 1:3].tolist() == recorded[0, :, :3].tolist()
    assert said.foreground[0].tolist()[:3] == [True, False, True]
    assert said.clicks_dhw[1, 1].tolist() == pytest.approx([18.4, 19.0, 20.0])
    assert not said.clicks_dhw.isnan().any() and said.clicks_dhw.shape == (2, 4, 3)


def test_a_click_that_the_mask_does_not_follow_costs(batch):
    truths, clicks = batch.truths, batch.clicks_dhw
    model = build_model("test")
    answers = play(model, batch, 1, CONFIG)
    prompts = answers[0][1]
    right = torch.where(truths, 5.0, -5.0)
    wrong = right.clone()
    d, h, w = clicks[0, 0].long().tolist()
    wrong[:, :, d, h, w] = -5.0
    loss = DiceCELoss(sigmoid=True)
    costs = [
        interaction_loss([(torch.cat([-logit, logit], 1) / 2, prompts)], truths, loss, CONFIG)
        for logit in (right, wrong)
    ]
    assert costs[1] > costs[0] + 0.4


def test_the_loss_is_that_of_a_softmax_over_both_classes(batch):
    (logits, prompts), truths = play(build_model("test"), batch, 1, CONFIG)[0], batch.truths
    of_mask = DiceCELoss(include_background=False, softmax=True, to_onehot_y=True)(logits, truths.float())
    d, h, w = batch.clicks_dhw[:, 0].long().unbind(-1)
    surely = torch.log_softmax(logits, dim=1)[torch.arange(2), 1, d, h, w]
    cheap = interaction_loss([(logits, prompts)], truths, DiceCELoss(sigmoid=True), CONFIG)
    plain = of_mask - CONFIG.click_weight * surely.mean()
    torch.testing.assert_close(cheap, plain)
    torch.testing.assert_close(*(torch.autograd.grad(loss, logits, retain_graph=True)[0] for loss in (cheap, plain)))
