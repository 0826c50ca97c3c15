"""What is said of what a round kept and lost."""

from lib.learning.forgetting import forgetting_sentences

BEFORE = {"dice": 0.70, "dice_5": 0.80, "obeyed": 0.9}


def test_a_small_loss_is_said_in_figures_alone() -> None:
    (sentence,) = forgetting_sentences({"before": BEFORE, "after": {"dice": 0.66, "dice_5": 0.81, "obeyed": 0.9}})
    assert "from 0.70 to 0.66, after 5 from 0.80 to 0.81" in sentence


def test_a_notable_loss_comes_with_what_to_do() -> None:
    for after in ({"dice": 0.64, "dice_5": 0.80}, {"dice": 0.72, "dice_5": 0.70}):
        sentences = forgetting_sentences({"before": BEFORE, "after": after})
        assert len(sentences) == 2 and "preset of its own" in sentences[1]


def test_nothing_measured_nothing_said() -> None:
    assert forgetting_sentences({}) == forgetting_sentences({"before": {}, "after": {}}) == []
