"""What a segmenter is asked for."""

import pytest

from lib.segmenters.contract import Options


@pytest.mark.parametrize("threshold", [0.0, 1.0, -1.0, float("nan")])
def test_a_threshold_lies_between_0_and_1(threshold: float) -> None:
    with pytest.raises(ValueError, match="threshold"):
        Options(threshold)
