"""A mask that the server proposed is learned from only if somebody changed or accepted it."""

from pathlib import Path

import pytest

from lib.annotations.reviewed import UNREAD, choose_labels
from lib.annotations.submitted import SavedLabel
from lib.files.checksums import file_sha256
from lib.workflow.proposals import CORRECTED, KEY, REPLACED, TAKEN, outcome_of
from lib.workflow.reviews import ACCEPT, Label, Review, newest


def saved(folder: Path, outcome: object) -> SavedLabel:
    label = folder / "label.nii.gz"
    label.write_bytes(b"a label")
    return SavedLabel("case_1", folder / "case_1.nii.gz", label, {KEY: {"outcome": outcome}, "ts": 5})


@pytest.mark.parametrize(("outcome", "is_read"), [(TAKEN, False), (CORRECTED, True), (REPLACED, True), (3, True)])
def test_what_nobody_changed_is_left_out(tmp_path: Path, outcome: object, is_read: bool) -> None:
    (chosen,) = choose_labels([saved(tmp_path, outcome)], {}, {}, "submitted")
    assert chosen.problem == ("" if is_read else UNREAD)


def test_a_second_reader_who_accepts_it_has_looked_at_it(tmp_path: Path) -> None:
    one = saved(tmp_path, TAKEN)
    label = Label("case_1", "final", file_sha256(one.label), "", 5.0, one.info)
    accepted = newest([Review(label.id, "case_1", "final", ACCEPT, "Dr. Roe", "", 6.0)])
    (chosen,) = choose_labels([one], accepted, {}, "submitted")
    assert chosen.problem == ""


def test_what_is_no_outcome() -> None:
    for info in ({}, {KEY: None}, {KEY: "taken"}, {KEY: {"outcome": ["taken"]}}, {KEY: {"predicted_dice": None}}):
        assert outcome_of(info) is None
