"""The structure of each voxel value in a saved label, from the names that were saved with it."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

# Segments that viewers add beside the structures; 3D Slicer's plugin does not save them.
_NOT_STRUCTURES = frozenset({"background", "foreground scribbles", "background scribbles"})
_SEGMENT = re.compile(r"Segment(\d+)_(Name|LabelValue|Layer)")
_MAX_INDEX = 65535
_INSTANCE = re.compile(r"(.*\S)(?: | ?# ?| ?\( ?)\d+(?: ?\))?")


class NamesError(ValueError):
    """Names are ambiguous or do not fit the voxels; a sentence without the image's name."""


def normal_name(name: str) -> str:
    """A name for comparison: case, spaces, underscores and hyphens make no difference."""
    return " ".join(re.split(r"[\s_-]+", name.casefold())).strip()


def label_of(name: str) -> str:
    """The label that a segment is an object of, as `normal_name` gives it: the name without the number of an instance.

    "lesion 2", "lesion_2", "lesion #2", "lesion-02" and "lesion (2)" are objects of "lesion". A number that is part of
    the word ("T2", "lesion2") is none.
    """
    name = normal_name(name)
    found = _INSTANCE.fullmatch(name)
    return found[1] if found else name


def is_object_of(name: str, wanted: str) -> bool:
    """Whether a segment is an object of a label: it has its name, perhaps with the number of an instance."""
    return normal_name(wanted) in (normal_name(name), label_of(name))


def named_values(
    values: Sequence[int], info: Mapping[str, Any], header: Mapping[str, str], *, one_for_all: bool = False
) -> list[tuple[str, int]] | None:
    """Names and voxel values of the structures in a label, in the order in which they were saved.

    Names in the file's header come first, because they state voxel values. A list in the request (``label_info``) is
    read by position: 3D Slicer writes the n-th saved segment as n, while its ``idx`` counts all segments of the scene,
    saved or not.

    Args:
        values: in the label, without 0.
        info: what MONAI Label keeps of the label.
        header: ``key:=value`` lines of an NRRD file; empty for other files.
        one_for_all: whether a single name in the request applies to each of several values.

    Returns:
        One entry for each value that is a structure; None where there are no names at all.

    Raises:
        NamesError: names that do not fit the values.
    """
    pairs = _of_header(header)
    if pairs is None:
        pairs = _of_list(values, info, one_for_all)
    if pairs is None:
        pairs = _of_mapping(info)
    if pairs is None:
        return None
    without_name = sorted(set(values) - {value for _, value in pairs})
    if without_name:
        raise NamesError(f"its voxel values {_listed(without_name)} have no name among {_listed(n for n, _ in pairs)}")
    return [(name, value) for name, value in pairs if value in values and normal_name(name) not in _NOT_STRUCTURES]


def require_consistent(values: Sequence[int], info: Mapping[str, Any], header: Mapping[str, str]) -> list[str]:
    """Passes if the names that come with a label say one thing only; what they leave open is decided, and said.

    Args:
        values: in the label, without 0.
        info: what comes with the label.
        header: as for `named_values`.

    Returns:
        Sentences on how the names were taken.

    Raises:
        NamesError: they contradict themselves, one another or the voxels.
    """
    listed = _entry(info, "label_info")
    entries = listed if isinstance(listed, list) else []
    indices = [entry.get("idx") for entry in entries if isinstance(entry, Mapping)]
    _require_indices(indices)
    pairs = named_values(values, info, header)
    if pairs is None:
        if len(values) > 1:
            raise NamesError(f"its {len(values)} voxel values {_listed(values)} have no names")
        return []
    if not pairs:
        raise NamesError("it holds nothing but background")
    said = []
    if _of_header(header) is None and entries:
        said += _about_indices(values, entries, pairs)
    elif entries:
        sent = {normal_name(str(entry.get("name"))) for entry in entries if isinstance(entry, Mapping)}
        if missing := [name for name, _ in pairs if normal_name(name) not in sent]:
            said.append(f"The names in the file's header count; 'label_info' lacks {_listed(missing)}.")
    by_label: dict[str, list[str]] = {}
    for name, value in pairs:
        by_label.setdefault(label_of(name), []).append(f"{name[:60]} ({value})")
    for label, objects in by_label.items():
        if len(objects) > 1:
            said.append(
                f"{_listed(objects)} are {len(objects)} objects of the label '{label[:60]}'; each is learned from as "
                "an object of its own."
            )
    return said


def _require_indices(indices: Sequence[Any]) -> None:
    stated = [index for index in indices if index is not None]
    if wrong := [index for index in stated if type(index) is not int or not 0 <= index <= _MAX_INDEX]:
        raise NamesError(
            f"'idx' of 'label_info' is {str(wrong[0])[:60]!r}; a whole number from 1 to {_MAX_INDEX} is expected"
        )
    if twice := sorted({index for index in stated if stated.count(index) > 1}):
        raise NamesError(f"'label_info' gives idx {_listed(twice)} to several segments")
    if stated != sorted(stated):
        raise NamesError(
            f"'label_info' lists the segments in another order ({_listed(stated)}) than its idx has; list them in the "
            "order of their voxel values"
        )


def _about_indices(
    values: Sequence[int], entries: Sequence[Mapping[str, Any]], pairs: Sequence[tuple[str, int]]
) -> list[str]:
    """What is to be said of a list whose ``idx`` are not the voxel values.

    3D Slicer's ``idx`` counts the segments that were not saved too, so it is no voxel value there, and may be larger.
    """
    said = []
    stated = {entry["idx"]: str(entry.get("name")) for entry in entries if entry.get("idx") is not None}
    taken = {value: name for name, value in pairs}
    other = {value: stated[value] for value in taken if value in stated and stated[value].strip() != taken[value]}
    if other and set(values) <= stated.keys():
        value, name = next(iter(other.items()))
        raise NamesError(
            f"voxel value {value} is {taken[value][:60]!r} by the order of 'label_info', but {name[:60]!r} by its idx. "
            "Leave out the segments that are empty or not saved, and number the others from 1"
        )
    moved = [value for value in taken if stated and stated.get(value, "").strip() != taken[value]]
    if moved:
        names = ", ".join(f"{value} is '{taken[value][:60]}'" for value in moved[:8])
        said.append(
            f"The idx of 'label_info' are not the voxel values, so its names were taken in their order: {names}."
        )
    drawn = {normal_name(name) for name, _ in pairs}
    named = [str(entry.get("name")) for entry in entries]
    if empty := [name for name in named if normal_name(name) not in drawn | _NOT_STRUCTURES]:
        said.append(f"Nothing is drawn of {_listed(empty)}.")
    return said


def _of_header(header: Mapping[str, str]) -> list[tuple[str, int]] | None:
    """Names in a ``.seg.nrrd`` file of 3D Slicer."""
    segments: dict[int, dict[str, str]] = {}
    for key, text in header.items():
        if found := _SEGMENT.fullmatch(key):
            segments.setdefault(int(found[1]), {})[found[2]] = text.strip()
    named = [segments[number] for number in sorted(segments) if segments[number].keys() >= {"Name", "LabelValue"}]
    if any(segment.get("Layer", "0") != "0" for segment in named):
        raise NamesError("its segments overlap and lie in layers; save them so that each voxel belongs to one of them")
    if not all(segment["LabelValue"].isdecimal() for segment in named):
        raise NamesError("its header states a LabelValue that is no whole number")
    values = [int(segment["LabelValue"]) for segment in named]
    if twice := sorted({value for value in values if values.count(value) > 1}):
        raise NamesError(f"its header gives the LabelValue {_listed(twice)} to several segments")
    return [(segment["Name"], int(segment["LabelValue"])) for segment in named] or None


def _of_list(values: Sequence[int], info: Mapping[str, Any], one_for_all: bool) -> list[tuple[str, int]] | None:
    listed = _entry(info, "label_info")
    if not isinstance(listed, list) or not listed:
        return None
    sent = [str(entry.get("name") or "").strip() if isinstance(entry, Mapping) else "" for entry in listed]
    if not any(sent):
        return None
    if not all(sent):
        raise NamesError("a segment that was sent with it has no name")
    # The background does not count: even if a client lists it, structures are numbered from 1.
    names = [name for name in sent if normal_name(name) not in _NOT_STRUCTURES]
    if set(values) <= set(range(1, len(names) + 1)):
        return [(name, rank) for rank, name in enumerate(names, start=1)]
    stated = [entry.get("idx") for entry in listed if normal_name(str(entry["name"])) not in _NOT_STRUCTURES]
    if all(type(index) is int for index in stated) and set(values) <= set(stated) and len(set(stated)) == len(stated):
        return list(zip(names, stated, strict=True))
    if len(values) == len(names):
        return list(zip(names, sorted(values), strict=True))
    if one_for_all and len(names) == 1:
        return [(names[0], value) for value in values]
    if not names:
        raise NamesError("it was sent as nothing but background")
    raise NamesError(f"its voxel values {_listed(sorted(values))} do not fit the names sent with it ({_listed(names)})")


def _of_mapping(info: Mapping[str, Any]) -> list[tuple[str, int]] | None:
    """Names of a mask that this server made and saved itself."""
    names = _entry(info, "label_names")
    if not isinstance(names, Mapping) or not names:
        return None
    values = list(names.values())
    if not all(type(value) is int for value in values):
        raise NamesError("the names kept with it have no voxel values")
    if len(set(values)) < len(values):
        raise NamesError("several of the names kept with it have one voxel value")
    return [(str(name), int(value)) for name, value in names.items()]


def _entry(info: Mapping[str, Any], key: str) -> Any:
    """An entry: at the top if a viewer saved the label, under ``params`` if the server saved its own answer."""
    inner = info.get("params")
    return info.get(key) or (inner.get(key) if isinstance(inner, Mapping) else None)


def _listed(items: Any) -> str:
    texts = [str(item)[:60] for item in items]
    return ", ".join(texts[:8]) + (f" and {len(texts) - 8} more" if len(texts) > 8 else "")
