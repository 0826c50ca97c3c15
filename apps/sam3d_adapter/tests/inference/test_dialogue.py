"""Dialogues with a model that reads its previous answer: pure in the clicks, cheap to go on, whatever is cached."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lib.inference.embedding_cache import EmbeddingCache
from lib.inference.model_store import LoadedModel, ModelSpec, ModelStore
from lib.inference.predictor import Predictor, PredictorError, step_ends
from tests.support.weights import write_click_unet, write_test_weights

Said = tuple[tuple[tuple[float, float, float], bool], ...]
A: Said = (((16.0, 15.0, 14.0), True), ((4.0, 20.0, 9.0), False), ((20.0, 18.0, 11.0), True))
B: Said = (((16.0, 15.0, 14.0), True), ((25.0, 6.0, 30.0), False), ((9.0, 8.0, 7.0), True))


@pytest.fixture(scope="module")
def unet(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    path = write_click_unet(tmp_path_factory.mktemp("unet"))
    return ModelStore().get(ModelSpec("click_unet", "test", (path,)), "cpu")


@pytest.fixture(scope="module")
def roi() -> Tensor:
    return torch.randn(1, 32, 32, 32, generator=torch.Generator().manual_seed(2))


def answer(predictor: Predictor, roi: Tensor, said: Said, key: str = "roi"):
    clicks, signs = zip(*said, strict=True)
    return predictor.predict(roi, torch.tensor(clicks), signs, key=key)


def fresh(unet: LoadedModel, roi: Tensor, said: Said) -> Tensor:
    """What a server that was just started answers."""
    return answer(Predictor(unet, EmbeddingCache(0)), roi, said).logits


def test_the_previous_answer_matters(unet: LoadedModel, roi: Tensor) -> None:
    stepwise = fresh(unet, roi, A)
    at_once = unet.model.decode(unet.model.encode(roi[None]), _prompts(A))[0]
    assert not torch.allclose(stepwise, at_once)


def _prompts(said: Said, previous: Tensor | None = None):
    from lib.models.prompts import Prompts

    clicks, signs = zip(*said, strict=True)
    return Prompts(torch.tensor([clicks]), torch.tensor([signs]), previous)


def test_a_further_click_costs_one_step_and_undo_none(unet: LoadedModel, roi: Tensor) -> None:
    predictor = Predictor(unet, EmbeddingCache(2**30))
    assert [answer(predictor, roi, A[:n]).decodes for n in (1, 2, 3, 2, 1, 3)] == [1, 1, 1, 0, 0, 0]
    # Without the second click the third follows the first: a dialogue of its own from there on.
    assert answer(predictor, roi, (A[0], A[2])).decodes == 1


def test_a_removed_click_was_never_set(unet: LoadedModel, roi: Tensor) -> None:
    predictor = Predictor(unet, EmbeddingCache(2**30))
    answer(predictor, roi, A)
    without = answer(predictor, roi, (A[0], A[2])).logits
    assert torch.equal(without, fresh(unet, roi, (A[0], A[2])))
    assert not torch.equal(without, fresh(unet, roi, A))


@pytest.mark.parametrize("budget", [0, 300_000, 1_000_000, 2**30])
def test_interleaved_users_get_what_each_alone_would(unet: LoadedModel, roi: Tensor, budget: int) -> None:
    """Steps are 262,144 bytes: the smaller budgets lose some, or all, between one click and the next."""
    cache = EmbeddingCache(budget)
    predictor = Predictor(unet, cache)
    expected = {said[:n]: fresh(unet, roi, said[:n]) for said in (A, B) for n in (1, 2, 3)}
    for n, said in itertools.product((1, 2, 3, 2, 3), (A, B)):
        assert torch.equal(answer(predictor, roi, said[:n]).logits, expected[said[:n]])
        assert cache.stats().nbytes <= budget


def test_a_cleared_cache_changes_nothing(unet: LoadedModel, roi: Tensor) -> None:
    cache = EmbeddingCache(2**30)
    predictor = Predictor(unet, cache)
    before = answer(predictor, roi, A)
    cache.clear()
    again = answer(predictor, roi, A)
    assert torch.equal(before.logits, again.logits) and again.decodes == 3 and again.encoded


def test_another_image_or_sign_is_another_dialogue(unet: LoadedModel, roi: Tensor) -> None:
    predictor = Predictor(unet, EmbeddingCache(2**30))
    answer(predictor, roi, A)
    assert answer(predictor, roi + 1, A, key="other").decodes == 3
    flipped = (A[0], (A[1][0], True), A[2])
    assert answer(predictor, roi, flipped).decodes == 2


def test_no_key_no_memory(unet: LoadedModel, roi: Tensor) -> None:
    cache = EmbeddingCache(2**30)
    clicks, signs = zip(*A, strict=True)
    assert Predictor(unet, cache).predict(roi, torch.tensor(clicks), signs).decodes == 3
    assert cache.stats().entries == 0


def test_signs_that_do_not_fit(unet: LoadedModel, roi: Tensor, tmp_path: Path) -> None:
    predictor = Predictor(unet, EmbeddingCache(0))
    with pytest.raises(PredictorError, match="first foreground"):
        answer(predictor, roi, (A[1], A[0]))
    with pytest.raises(PredictorError, match="2 signs of 1"):
        predictor.predict(roi, torch.tensor([A[0][0]]), (True, False))
    base, weights = write_test_weights(tmp_path)
    unsigned = ModelStore().get(ModelSpec("sam3d_adapter", "test", (base, weights)), "cpu")
    with pytest.raises(PredictorError, match="no background clicks"):
        answer(Predictor(unsigned, EmbeddingCache(0)), roi, A)


@pytest.mark.parametrize(
    ("count", "beyond_ten"), [(1, []), (10, []), (11, [11]), (20, [20]), (21, [20, 21]), (37, [20, 30, 37])]
)
def test_steps_beyond_the_tenth_are_taken_in_groups(count: int, beyond_ten: list[int]) -> None:
    assert step_ends(count) == [*range(1, min(count, 10) + 1), *beyond_ten]


def test_many_clicks_cost_few_steps_and_the_cache_changes_nothing(unet: LoadedModel, roi: Tensor) -> None:
    rng = np.random.default_rng(0)
    said: Said = tuple((tuple(map(float, voxel)), n % 3 != 1) for n, voxel in enumerate(rng.integers(4, 28, (24, 3))))
    predictor = Predictor(unet, EmbeddingCache(2**30))
    assert [answer(predictor, roi, said[:n]).decodes for n in (22, 23, 24)] == [12, 1, 1]
    assert torch.equal(answer(predictor, roi, said).logits, fresh(unet, roi, said))


def started(predictor: Predictor, roi: Tensor, said: Said, value: float, start_key: str | None):
    """The answer that began with a mask of one logit everywhere."""
    clicks, signs = zip(*said, strict=True)
    start = torch.full(roi.shape[1:], value)
    return predictor.predict(roi, torch.tensor(clicks), signs, key="roi", start=start, start_key=start_key)


def test_a_mask_to_start_from_is_the_first_previous_answer(unet: LoadedModel, roi: Tensor) -> None:
    predictor = Predictor(unet, EmbeddingCache(2**30))
    expected = unet.model.decode(unet.model.encode(roi[None]), _prompts(A[:1], torch.full((1, 1, 32, 32, 32), 3.0)))[0]
    assert torch.equal(started(predictor, roi, A[:1], 3.0, "three").logits, expected)
    assert not torch.equal(expected, answer(predictor, roi, A[:1]).logits)


def test_dialogues_from_different_masks_share_no_step(unet: LoadedModel, roi: Tensor) -> None:
    predictor = Predictor(unet, EmbeddingCache(2**30))
    assert started(predictor, roi, A[:2], 3.0, "three").decodes == 2
    assert started(predictor, roi, A[:2], -3.0, "minus three").decodes == 2
    assert answer(predictor, roi, A[:2]).decodes == 2
    assert [started(predictor, roi, A[:n], 3.0, "three").decodes for n in (2, 3, 2, 1)] == [0, 1, 0, 0]
    # Without a key nothing tells it from others, and nothing is kept.
    assert [started(predictor, roi, A[:1], 3.0, None).decodes for _ in range(2)] == [1, 1]


def test_what_a_model_does_not_read_is_refused(unet: LoadedModel, roi: Tensor) -> None:
    with pytest.raises(PredictorError, match="no box"):
        Predictor(unet, EmbeddingCache(0)).predict(roi, torch.zeros(1, 3), box_dhw=torch.tensor([[0.0] * 3, [9.0] * 3]))
