"""Voxel values by name: whatever order, gaps and renamings viewers leave behind."""

import itertools

import pytest

from lib.annotations.label_names import NamesError, named_values, normal_name

NAMES = ("kidney", "kidney tumor", "cyst")


def slicer(names, hidden=0):
    """As 3D Slicer's plugin sends it: idx counts all segments of the scene, `hidden` of which are not saved."""
    return {"label_info": [{"name": name, "idx": n + 1 + hidden} for n, name in enumerate(names)]}


def seg_header(*segments):
    return {
        f"Segment{n}_{key}": str(text)
        for n, (name, value, layer) in enumerate(segments)
        for key, text in (("Name", name), ("LabelValue", value), ("Layer", layer), ("ID", f"S{n}"))
    }


@pytest.mark.parametrize("order", list(itertools.permutations(NAMES)))
@pytest.mark.parametrize("hidden", [0, 1, 5])
@pytest.mark.parametrize("present", [(1, 2, 3), (1, 3), (2,), (3,)])
def test_slicer_writes_ranks_whatever_idx_says(order, hidden, present):
    expected = [(order[value - 1], value) for value in present]
    assert named_values(present, slicer(order, hidden), {}) == expected


def test_values_that_are_no_ranks_are_taken_in_their_order():
    assert named_values([10, 30], slicer(["a", "b"]), {}) == [("a", 10), ("b", 30)]


@pytest.mark.parametrize("values", [[4], [1, 9], [1, 2, 3, 4]])
def test_names_that_do_not_fit_are_said(values):
    with pytest.raises(NamesError, match="do not fit"):
        named_values(values, slicer(NAMES), {})


@pytest.mark.parametrize("name", ["background", "Background", "foreground_scribbles", "background scribbles"])
@pytest.mark.parametrize("place", [0, 1])
def test_background_takes_no_place(name, place):
    names = ["tumor"]
    names.insert(place, name)
    assert named_values([1], slicer(names), {}) == [("tumor", 1)]


def test_header_counts_before_what_was_sent():
    header = seg_header(("tumor", 7, 0), ("kidney", 3, 0), ("empty", 5, 0), ("background", 2, 0))
    assert named_values([2, 3, 7], slicer(["kidney", "tumor", "x"]), header) == [("tumor", 7), ("kidney", 3)]


def test_header_without_values_is_no_header():
    header = {"Segment0_Name": "tumor", "Segment0_ID": "a"}
    assert named_values([1], slicer(["kidney"]), header) == [("kidney", 1)]
    assert named_values([1], {}, header) is None


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (seg_header(("a", 1, 0), ("b", 1, 1)), "layers"),
        (seg_header(("a", "x", 0)), "LabelValue"),
        (seg_header(("a", 1, 0)), "no name"),
    ],
)
def test_headers_that_say_too_little(header, words):
    with pytest.raises(NamesError, match=words):
        named_values([1, 2], {}, header)


def test_own_masks_are_read_by_value():
    answer = {"model": "kits", "params": {"label_names": {"kidney tumor": 1}, "audit_id": "x"}}
    assert named_values([1], answer, {}) == [("kidney tumor", 1)]
    with pytest.raises(NamesError, match="values 2"):
        named_values([2], answer, {})


@pytest.mark.parametrize(
    "info",
    [{}, {"label_info": []}, {"label_info": [{"idx": 1}]}, {"label_info": [{"name": " "}]}, {"label_info": "x"},
     {"params": 3}, {"label_info": [3]}, {"label_names": ["a"]}],
)  # fmt: skip
def test_no_names(info):
    assert named_values([1], info, {}) is None


def test_some_names_are_not_enough():
    with pytest.raises(NamesError, match="has no name"):
        named_values([1, 2], {"label_info": [{"name": "a"}, {"idx": 2}]}, {})


def test_how_names_are_compared():
    spellings = ("kidney tumor", "Kidney_Tumor", " KIDNEY  tumor ", "kidney-tumor")
    assert {normal_name(name) for name in spellings} == {"kidney tumor"}
    assert normal_name("kidneytumor") != "kidney tumor"
