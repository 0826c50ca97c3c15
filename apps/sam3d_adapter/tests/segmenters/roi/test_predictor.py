"""The predictor: encodes once per key, equals the plain model, answers are pure."""

import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lib.models.prompts import RoiPrompts
from lib.segmenters.cache import SegmenterCache
from lib.segmenters.contract import LoadedModel
from lib.segmenters.roi.predictor import Predictor, PredictorError
from lib.serving.model_store import ModelSpec, ModelStore
from tests.support.weights import write_click_unet, write_test_weights


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    base, weights = write_test_weights(tmp_path_factory.mktemp("weights"))
    return ModelStore().get(ModelSpec("sam3d_adapter", "test", (base, weights)), "cpu")


@pytest.fixture
def encodes(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Records every ROI that the encoder saw."""
    seen: list[Tensor] = []
    real = loaded.model.encode

    def counting(roi: Tensor):
        seen.append(roi)
        return real(roi)

    monkeypatch.setattr(loaded.model, "encode", counting)
    return seen


def make_roi(loaded: LoadedModel, seed: int = 0) -> Tensor:
    side = loaded.model.model.config.roi_size
    return torch.randn(1, side, side, side, generator=torch.Generator().manual_seed(seed))


CLICKS = torch.tensor([[3.0, 4.0, 5.0]])
MORE_CLICKS = torch.tensor([[3.0, 4.0, 5.0], [9.0, 2.0, 7.0]])


def test_equals_the_plain_model(loaded: LoadedModel) -> None:
    roi = make_roi(loaded)
    prediction = Predictor(loaded, SegmenterCache(10**9)).predict(roi, CLICKS, key="a")
    with torch.no_grad():
        torch.testing.assert_close(prediction.logits, loaded.model.model(roi[None], RoiPrompts(CLICKS[None]))[0])


def test_second_click_decodes_only_and_equals_a_fresh_answer(loaded: LoadedModel, encodes: list) -> None:
    roi, predictor = make_roi(loaded), Predictor(loaded, SegmenterCache(10**9))
    first = predictor.predict(roi, CLICKS, key="a")
    second = predictor.predict(roi, MORE_CLICKS, key="a")
    assert (first.encoded, second.encoded) == (True, False)
    assert first.encode_ms > 0 and second.encode_ms == 0
    assert len(encodes) == 1
    fresh = Predictor(loaded, SegmenterCache(0)).predict(roi, MORE_CLICKS, key="a")
    assert fresh.encoded
    torch.testing.assert_close(second.logits, fresh.logits, rtol=0, atol=0)
    # Undo: the answer to the first clicks is the same again, whatever came between.
    torch.testing.assert_close(predictor.predict(roi, CLICKS, key="a").logits, first.logits, rtol=0, atol=0)


def test_another_key_or_none_encodes_again(loaded: LoadedModel, encodes: list) -> None:
    predictor = Predictor(loaded, SegmenterCache(10**9))
    for key in ("a", "b", None, None):
        assert predictor.predict(make_roi(loaded), CLICKS, key=key).encoded
    assert len(encodes) == 4


def test_given_embedding_needs_no_roi(loaded: LoadedModel, encodes: list) -> None:
    cache, roi = SegmenterCache(10**9), make_roi(loaded)
    predictor = Predictor(loaded, cache)
    first = predictor.predict(roi, CLICKS, key="a")
    again = predictor.predict(None, CLICKS, embedding=cache.get("a"))
    assert not again.encoded and len(encodes) == 1
    torch.testing.assert_close(again.logits, first.logits, rtol=0, atol=0)


def test_many_threads_with_one_roi_encode_once(loaded: LoadedModel, encodes: list) -> None:
    predictor, roi = Predictor(loaded, SegmenterCache(10**9)), make_roi(loaded)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: predictor.predict(roi, CLICKS, key="a"), range(6)))
    assert len(encodes) == 1 and sum(answer.encoded for answer in answers) == 1


def test_arguments_are_not_changed(loaded: LoadedModel) -> None:
    roi, clicks = make_roi(loaded), CLICKS.clone()
    before = roi.clone()
    Predictor(loaded, SegmenterCache(0)).predict(roi, clicks)
    assert roi.equal(before) and clicks.equal(CLICKS)


def test_version_names_weights_and_device(loaded: LoadedModel) -> None:
    assert Predictor(loaded, SegmenterCache(0)).version == f"{loaded.version}@cpu@fp32"


def test_out_of_memory_empties_the_cache_and_tries_again(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = SegmenterCache(10**9)
    predictor = Predictor(loaded, cache)
    predictor.predict(make_roi(loaded), CLICKS, key="old")
    real, failures = loaded.model.encode, iter([True])

    def encode(roi: Tensor):
        if next(failures, False):
            raise torch.OutOfMemoryError("no memory")
        return real(roi)

    monkeypatch.setattr(loaded.model, "encode", encode)
    assert predictor.predict(make_roi(loaded, 1), CLICKS, key="new").encoded
    assert "old" not in cache and "new" in cache


@pytest.mark.parametrize("stage", ["encode", "decode"])
def test_what_failed_for_memory_holds_none_when_it_is_tried_again(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    real, failed, left = getattr(loaded.model, stage), [], []

    def work(given: Any, *more: Any) -> Any:
        if failed:
            left.extend(tensor for tensor in (ref() for ref in failed) if tensor is not None)
            return real(given, *more)
        activations = real(given, *more)
        # With decode, the embedding goes with them: nobody is to find it in the cache, which was emptied.
        failed.append(weakref.ref(activations.deepest if stage == "encode" else activations))
        failed.extend([weakref.ref(given.deepest)] if stage == "decode" else [])
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(loaded.model, stage, work)
    assert Predictor(loaded, SegmenterCache(10**9)).predict(make_roi(loaded), CLICKS, key="a").encoded
    assert failed and not left


@pytest.mark.parametrize("clicks", [torch.zeros(0, 3), torch.zeros(3), torch.zeros(2, 2)])
def test_clicks_of_another_shape(loaded: LoadedModel, clicks: Tensor) -> None:
    with pytest.raises(PredictorError, match="Clicks of shape"):
        Predictor(loaded, SegmenterCache(0)).predict(make_roi(loaded), clicks)


def test_neither_roi_nor_embedding(loaded: LoadedModel) -> None:
    with pytest.raises(PredictorError, match="Neither"):
        Predictor(loaded, SegmenterCache(0)).predict(None, CLICKS, key="a")


@pytest.fixture(scope="module")
def unet(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    file = write_click_unet(tmp_path_factory.mktemp("unet"))
    return ModelStore().get(ModelSpec("click_unet", "test", (file,)), "cpu")


def test_the_previous_answer_is_shown_to_models_that_read_it(loaded: LoadedModel, unet: LoadedModel) -> None:
    roi = torch.randn(1, 32, 32, 32, generator=torch.Generator().manual_seed(0))
    previous = torch.full((32, 32, 32), 3.0)
    predictor = Predictor(unet, SegmenterCache(0))
    with torch.inference_mode():
        prompts = RoiPrompts(CLICKS[None], torch.ones(1, 1, dtype=torch.bool), previous[None, None], None)
        expected = unet.model.decode(unet.model.encode(roi[None]), prompts)[0]
    assert torch.equal(predictor.predict(roi, CLICKS, previous=previous).logits, expected)
    assert not torch.equal(predictor.predict(roi, CLICKS).logits, expected)
    plain = Predictor(loaded, SegmenterCache(0))
    own = make_roi(loaded)
    ignored = plain.predict(own, CLICKS, previous=torch.zeros(own.shape[1:])).logits
    assert torch.equal(ignored, plain.predict(own, CLICKS).logits)


def test_what_a_model_does_not_read_or_that_does_not_fit_is_refused(loaded: LoadedModel, unet: LoadedModel) -> None:
    roi = torch.zeros(1, 32, 32, 32)
    predictor = Predictor(unet, SegmenterCache(0))
    with pytest.raises(PredictorError, match="no box"):
        predictor.predict(roi, CLICKS, box_dhw=torch.tensor([[0.0] * 3, [9.0] * 3]))
    with pytest.raises(PredictorError, match="first foreground"):
        predictor.predict(roi, MORE_CLICKS, (False, True))
    with pytest.raises(PredictorError, match="2 signs of 1"):
        predictor.predict(roi, CLICKS, (True, False))
    with pytest.raises(PredictorError, match="no background clicks"):
        Predictor(loaded, SegmenterCache(0)).predict(make_roi(loaded), MORE_CLICKS, (True, False))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_gpu_answers_like_the_cpu(tmp_path: Path) -> None:
    base, weights = write_test_weights(tmp_path)
    store, spec, cache = ModelStore(), ModelSpec("sam3d_adapter", "test", (base, weights)), SegmenterCache(10**9)
    roi = make_roi(store.get(spec, "cpu"))
    cpu = Predictor(store.get(spec, "cpu"), cache)
    gpu = Predictor(store.get(spec, "cuda:0"), cache)
    assert cpu.version != gpu.version
    expected = cpu.predict(roi, MORE_CLICKS, key=cpu.version).logits
    actual = gpu.predict(roi, MORE_CLICKS, key=gpu.version).logits
    torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-3)
