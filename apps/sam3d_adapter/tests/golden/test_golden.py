"""What users see is what was recorded: masks, audit records, answers, sentences of refusals and ``/info``.

An answer that is meant to change is recorded anew by ``python -m tests.golden.record``; see there.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from tests.golden import store
from tests.golden.cases import BFLOAT16, MASKS, OTHERS, REFUSALS, SAME
from tests.golden.observe import Observed, machine, observe

LEAST_DICE = {"masks": 0.98, "bfloat16": 0.95}
"""Of a mask to the recorded one, on another kind of machine: its sums are rounded differently."""
MOST_GROWTH = {"masks": 0.02, "bfloat16": 0.06}
"""Share of its voxels that such a mask may have more or less; a voxel always."""

CASES = [
    *(("others", name) for name in OTHERS),
    *(("masks", name) for name in MASKS),
    *(("bfloat16", name) for name in BFLOAT16),
    *(("refusals", name) for name in REFUSALS),
]
GOLDEN = store.read()
IS_SAME_MACHINE = machine() == store.recorded_machine()


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Observed:
    return observe(tmp_path_factory.mktemp("golden").resolve())


def test_every_request_is_recorded() -> None:
    recorded = [(kind, name) for kind, answers in GOLDEN.answers.items() for name in answers if kind != "info"]
    assert sorted(recorded) == sorted(CASES)
    assert len(MASKS) >= 40 and len(REFUSALS) >= 30
    assert {click.preset for click in MASKS.values()} == {"ct", "mr", "pet", "ct_lesion"}


def test_what_is_recorded_as_refused_was_refused_with_a_sentence() -> None:
    for name, answer in GOLDEN.answers["refusals"].items():
        assert answer["status"] in (400, 403, 404, 409, 413, 422, 503), name
        assert isinstance(answer["json"]["detail"], str), name


@pytest.mark.parametrize("names", SAME, ids=lambda names: names[0])
def test_requests_that_mean_the_same_have_the_same_mask(names: tuple[str, ...]) -> None:
    """In the record; so it holds for what is compared with it bit for bit."""
    first = GOLDEN.masks[f"masks/{names[0]}"]
    assert first.any()
    for name in names[1:]:
        np.testing.assert_array_equal(GOLDEN.masks[f"masks/{name}"], first, err_msg=name)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_info_is_as_recorded(found: Observed) -> None:
    assert found.answers["info"] == GOLDEN.answers["info"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("kind", "name"), CASES, ids=lambda value: value)
def test_answer_is_as_recorded(found: Observed, kind: str, name: str) -> None:
    answer, golden = found.answers[kind][name], GOLDEN.answers[kind][name]
    if IS_SAME_MACHINE:
        assert answer == golden
    else:
        assert _without_rounding(answer) == _without_rounding(golden)
    key = f"{kind}/{name}"
    if key in GOLDEN.masks:
        check_mask(found.masks[key], GOLDEN.masks[key], kind)


def check_mask(mask: np.ndarray, golden: np.ndarray, kind: str) -> None:
    """Bit for bit on the machine of the record, within rounding elsewhere."""
    if IS_SAME_MACHINE:
        np.testing.assert_array_equal(mask, golden)
        return
    sizes = int(mask.sum()), int(golden.sum())
    assert abs(sizes[0] - sizes[1]) <= max(1, MOST_GROWTH[kind] * sizes[1]), sizes
    assert 2 * int((mask & golden).sum()) >= LEAST_DICE[kind] * sum(sizes) or sum(sizes) <= 2


# What follows from single voxels.
_ROUNDED = {"mask_hash", "mask_voxels", "sha256", "voxels", "first", "last", "obeyed_by_network"}


def _without_rounding(value: Any) -> Any:
    """A value without what rounding decides; numbers with a point to six digits."""
    if isinstance(value, Mapping):
        return {name: _without_rounding(inner) for name, inner in value.items() if name not in _ROUNDED}
    if isinstance(value, list):
        return [_without_rounding(inner) for inner in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value
