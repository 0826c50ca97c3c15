"""Model names and label tags of requests."""

import pytest
from fastapi import HTTPException

from lib.host.patches.save_label import require_safe_tag
from lib.host.patches.unknown_names import require_model


def test_known_model_passes() -> None:
    require_model("ct", {"ct": 1, "mr": 2})


@pytest.mark.parametrize("name", ["CT", "", None, 3])
def test_unknown_model_lists_the_choices(name: object) -> None:
    with pytest.raises(HTTPException) as caught:
        require_model(name, {"mr": 1, "ct": 2})
    assert caught.value.status_code == 404 and "ct, mr" in caught.value.detail


@pytest.mark.parametrize("tag", [None, "original", "final", "reader_2", "a.b-c"])
def test_plain_tags_pass(tag: object) -> None:
    require_safe_tag(tag)


@pytest.mark.parametrize("tag", ["../x", "..", ".hidden", "a/b", "a\\b", "", "a" * 65, 3, "a\n", "a b"])
def test_other_tags_do_not(tag: object) -> None:
    with pytest.raises(HTTPException) as caught:
        require_safe_tag(tag)
    assert caught.value.status_code == 422
