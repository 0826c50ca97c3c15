"""The parts of the OHIF driver that need no browser."""

import pytest

from tests.support.ohif import OhifError, multipart_params

BODY = (
    b"------WebKitFormBoundaryX\r\n"
    b'Content-Disposition: form-data; name="params"; filename="blob"\r\n'
    b"Content-Type: application/json\r\n\r\n"
    b'{"foreground":[[1,2,3]],"note":"a } in it","device":{"name":"cpu"}}\r\n'
    b"------WebKitFormBoundaryX--\r\n"
)


def test_params_are_read_from_a_multipart_body() -> None:
    params = multipart_params(BODY)
    assert params == {"foreground": [[1, 2, 3]], "note": "a } in it", "device": {"name": "cpu"}}


def test_a_body_without_params_is_named() -> None:
    with pytest.raises(OhifError, match="No params"):
        multipart_params(BODY.replace(b"params", b"label"))
