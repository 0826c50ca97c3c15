"""Requests made up by the thousand: whatever is asked, the answer is a mask or a refusal; then a good click."""

from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.live_app import LiveApp, check_refusal
from tests.support.noise_site import CLICK, SHAPE

# The good mask is taken before anything else is sent.
pytestmark = [pytest.mark.timeout(300), pytest.mark.usefixtures("good_mask")]

FOREGROUND = {"foreground": [CLICK]}

SETTINGS = settings(
    deadline=None, max_examples=100, derandomize=True, suppress_health_check=list(HealthCheck), print_blob=False
)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=True), st.text(max_size=20),
    st.sampled_from(["", "0", "[[24, 20, 12]]", "cpu", ".nrrd", "../x", "true"]),
)  # fmt: skip
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
NUMBERS = st.one_of(st.integers(-2, max(SHAPE) + 1), st.integers(), st.floats())
CLICK_LIKE = st.lists(st.lists(NUMBERS, min_size=2, max_size=4) | JSON, max_size=4)
KNOWN = st.sampled_from(
    ["foreground", "background", "lesion", "points", "point_labels", "roi", "box", "start_from", "start_value",
     "protected", "protected_except", "read_tag", "uploaded_label", "saved_label", "saved_names", "threshold", "device",
     "result_extension", "result_compress", "result_crop", "refine", "label", "label_tag", "save_label", "label_info",
     "image", "model", "session", "description", "logging", "timeout", "skip_writer", "pred", "result_dtype"]
)  # fmt: skip


def check_any(live: LiveApp, answer: requests.Response) -> None:
    """A mask or a refusal, whatever was asked."""
    assert answer.status_code in (200, 400, 404, 413, 422, 503), answer.text
    told = answer.json()
    if answer.status_code == 200:
        assert told["mask_voxels"] >= 0 and (told["clicks"] or told["implied_click"])
    else:
        check_refusal(live, answer, answer.status_code)


@given(params=st.dictionaries(KNOWN | st.text(max_size=10), JSON, max_size=6))
@SETTINGS
def test_any_params(live: LiveApp, params: dict[str, Any]) -> None:
    params.pop("save_label", None)
    check_any(live, live.infer(params))


@given(key=st.sampled_from(["foreground", "lesion", "points", "background", "liver"]), clicks=CLICK_LIKE)
@SETTINGS
def test_any_clicks(live: LiveApp, key: str, clicks: list[Any]) -> None:
    params = {key: clicks} | ({"point_labels": [1] * len(clicks)} if key == "points" else {})
    if key == "background":
        params |= FOREGROUND
    check_any(live, live.infer(params))


@given(key=KNOWN, value=JSON)
@SETTINGS
def test_any_value_of_a_known_key(live: LiveApp, key: str, value: Any) -> None:
    if key != "save_label":
        check_any(live, live.infer({**FOREGROUND, key: value}))


@given(text=st.text(max_size=60) | st.binary(max_size=60).map(lambda raw_: raw_.decode("latin-1")))
@SETTINGS
def test_any_text_of_params(live: LiveApp, text: str) -> None:
    check_any(live, live.infer(text.encode("utf-8", "replace").decode()))


@given(
    image=st.text(max_size=40), session=st.text(max_size=40), model=st.sampled_from(["test", "ct ", "TEST", "test\n"])
)
@SETTINGS
def test_any_address(live: LiveApp, image: str, session: str, model: str) -> None:
    query = {part: value.encode("utf-8", "replace") for part, value in (("image", image), ("session_id", session))}
    answer = requests.post(f"{live.url}/infer/{model}", params={**query, "output": "json"}, timeout=60)
    check_any(live, answer)


@given(clicks=st.lists(st.tuples(*[st.integers(0, length - 1) for length in SHAPE]), min_size=1, max_size=5))
@SETTINGS
def test_every_place_in_the_image_can_be_clicked(live: LiveApp, clicks: list[tuple[int, int, int]]) -> None:
    answer = live.infer({"foreground": clicks})
    # Clicks may lie farther apart than a region is wide; a single one never does.
    assert answer.status_code in ((200,) if len(clicks) == 1 else (200, 422)), answer.text
    check_any(live, answer)


def test_after_all_that_a_good_click_gives_the_same_mask(live: LiveApp, good_mask: str) -> None:
    assert live.good_click() == good_mask
    assert live.left_behind() == []
