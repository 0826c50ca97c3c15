"""The structure of each voxel value in a saved label, from the names that were saved with it."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

# Segments that viewers add beside the structures; 3D Slicer's plugin does not save them.
_NOT_STRUCTURES = frozenset({"background", "foreground scribbles", "background scribbles"})
_SEGMENT = re.compile(r"Segment(\d+)_(Name|LabelValue|Layer)")


class NamesError(ValueError):
    """Names are ambiguous or do not fit the voxels; a sentence without the image's name."""


def normal_name(name: str) -> str:
    """A name for comparison: case, spaces, underscores and hyphens make no difference."""
    return " ".join(re.split(r"[\s_-]+", name.casefold())).strip()


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
        one_for_all: whether a single name in the request applies to all values, such as the parts of an organ.

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
    if not all(isinstance(value, int) for value in names.values()):
        raise NamesError("the names kept with it have no voxel values")
    return [(str(name), int(value)) for name, value in names.items()]


def _entry(info: Mapping[str, Any], key: str) -> Any:
    """An entry: at the top if a viewer saved the label, under ``params`` if the server saved its own answer."""
    inner = info.get("params")
    return info.get(key) or (inner.get(key) if isinstance(inner, Mapping) else None)


def _listed(items: Any) -> str:
    texts = [str(item)[:60] for item in items]
    return ", ".join(texts[:8]) + (f" and {len(texts) - 8} more" if len(texts) > 8 else "")
