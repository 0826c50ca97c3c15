"""Voxel values by name: whatever order, gaps and renamings viewers leave behind."""

import itertools

import pytest

from lib.annotations.label_names import (
    NamesError,
    is_object_of,
    label_of,
    named_values,
    normal_name,
    require_consistent,
)

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


@pytest.mark.parametrize(
    "name", ["lesion", "Lesion 2", "lesion_2", "lesion #2", "lesion#2", "lesion-02", "LESION (2)", "lesion_ 10"]
)
def test_numbered_instances_are_objects_of_the_label(name):
    assert is_object_of(name, "lesion") and label_of(name) == "lesion"


@pytest.mark.parametrize(
    "name", ["lesion2", "lesion T2", "lesions", "lesion 2 b", "2", "# 2", "lesion 2.5", "new lesion 2", ""]
)
def test_other_names_are_not(name):
    assert not is_object_of(name, "lesion")


def test_label_whose_own_name_ends_in_a_number():
    assert is_object_of("Liver_Segment_4", "liver segment 4") and not is_object_of("liver segment 5", "liver segment 4")


def listed(*entries):
    return {"label_info": [dict(zip(("name", "idx"), entry, strict=False)) for entry in entries]}


@pytest.mark.parametrize(
    ("values", "info", "said"),
    [
        ([1], listed(("a", 1)), []),
        ([1, 2], listed(("a", 1), ("b", 2)), []),
        ([1, 2], listed(("a",), ("b",)), []),
        ([10, 30], listed(("a", 10), ("b", 30)), []),
        ([3], listed(("a", 1), ("b", 3)), ["Nothing is drawn of a."]),
        ([1], listed(("a", 1), ("b", 2)), ["Nothing is drawn of b."]),
        ([1], listed(("background", 0), ("a", 1)), []),
        ([5], {}, []),
        # 3D Slicer, where a segment before was not saved.
        ([1, 2], listed(("a", 2), ("b", 3)), ["taken in their order: 1 is 'a', 2 is 'b'"]),
        ([1], listed(("a", 5)), ["taken in their order: 1 is 'a'"]),
        ([1, 2], listed(("lesion", 1), ("lesion 2", 2)), ["lesion (1), lesion 2 (2) are 2 objects"]),
        ([1, 2], listed(("lesion", 1), ("Lesion", 2)), ["2 objects of the label 'lesion'"]),
    ],
)  # fmt: skip
def test_names_that_can_be_told(values, info, said):
    found = require_consistent(values, info, {})
    assert len(found) == len(said)
    for sentence, words in zip(found, said, strict=True):
        assert words in sentence and sentence.endswith(".")


@pytest.mark.parametrize(
    ("values", "info", "words"),
    [
        ([1, 2], {}, "2 voxel values 1, 2 have no names"),
        ([1, 2], listed(("a", 1), ("b", 1)), "idx 1 to several segments"),
        ([1, 2], listed(("a", 2), ("b", 1)), "another order"),
        ([1], listed(("a", "1")), "whole number"),
        ([1], listed(("a", True)), "whole number"),
        ([1], listed(("a", 1.5)), "whole number"),
        ([1], listed(("a", -1)), "whole number"),
        ([1], listed(("a", 10**9)), "whole number"),
        ([1, 2], listed(("a", 1)), "do not fit the names"),
        ([1, 2, 3], listed(("a", 1), ("b", 2)), "do not fit the names"),
        ([2], listed(("a", 2), ("b", 3)), "voxel value 2 is 'b' by the order of 'label_info', but 'a' by its idx"),
        ([1], listed(("background", 1)), "nothing but background"),
        ([1, 2], {"label_names": {"a": 1, "b": 1}}, "one voxel value"),
        ([1], {"label_names": {"a": True}}, "no voxel values"),
    ],
)
def test_names_that_contradict_themselves(values, info, words):
    with pytest.raises(NamesError, match=words):
        require_consistent(values, info, {})


def test_header_with_a_value_twice():
    with pytest.raises(NamesError, match="LabelValue 1 to several"):
        named_values([1], {}, seg_header(("a", 1, 0), ("b", 1, 0)))


def test_header_counts_and_what_the_list_lacks_is_said():
    header = seg_header(("tumor", 2, 0), ("kidney", 1, 0))
    assert require_consistent([1, 2], slicer(["kidney", "tumor"]), header) == []
    (said,) = require_consistent([1, 2], slicer(["kidney", "cyst"]), header)
    assert "header count" in said and "tumor" in said
