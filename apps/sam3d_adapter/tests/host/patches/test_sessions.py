"""Names of the files of a session."""

from hypothesis import given
from hypothesis import strategies as st

from lib.host.patches.infer_endpoint import without_timeout
from lib.host.patches.sessions import safe_names


def test_plain_names_stay() -> None:
    assert safe_names(["a.nii.gz", "1.dcm", "IM_0001"]) == ["a.nii.gz", "1.dcm", "IM_0001"]


def test_paths_and_doubles_do_not() -> None:
    names = ["../../etc/x.nii", "C:\\x\\y.nrrd", "..", "", "a.dcm", "a.dcm", "meta.info", "a b\x00.nii"]
    assert safe_names(names) == [
        "x.nii", "y.nrrd", "file_2", "file_3", "a.dcm", "file_5.a.dcm", "file_6.meta.info", "a_b_.nii",
    ]  # fmt: skip


@given(st.lists(st.text(max_size=30) | st.just("x" * 5000 + ".nii"), max_size=8))
def test_any_names_are_of_one_folder_and_differ(names: list[str]) -> None:
    safe = safe_names(names)
    assert len(set(safe)) == len(names)
    assert all(name and "/" not in name and not name.startswith(".") and len(name) < 120 for name in safe)


def test_ends_are_kept() -> None:
    assert safe_names(["x" * 5000 + ".nii.gz"])[0].endswith(".nii.gz")


def test_the_server_alone_says_how_long_it_waits() -> None:
    assert without_timeout({"timeout": "soon", "image": "a"}) == {"image": "a"}
