"""One version in one file, for another hospital: export, and import without trusting the file.

The file is a zip without compression; ``manifest.json`` lists every other member with its sha256 and length. The import
ignores the zip's own names and sizes, and adds nothing before all of it is checked. Checksums detect damage. Whether to
trust the sender is for people to decide, who may compare the sha256 of the whole file.
"""

import contextlib
import hashlib
import os
import re
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lib.files.atomic_write import replacing
from lib.files.checksums import file_sha256
from lib.files.folders import private_folder
from lib.registry.errors import DamagedFile, RegistryError
from lib.registry.json_format import parse_json, to_json
from lib.registry.reader import CURVE, FACTS, WEIGHTS
from lib.registry.version import Facts, Version, require_name
from lib.registry.versions import Versions

MANIFEST = "manifest.json"
MEMBERS = (WEIGHTS, FACTS, CURVE)
"""What leaves the hospital. Other files of a version may name patients, such as the records of single cases."""
_KIND = "version of sam3d_adapter weights"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
_MOST_MEMBERS = 64
_MOST_JSON_BYTES = 16 * 2**20
_CHUNK_BYTES = 2**20


def export_version(versions: Versions, version_id: str, target: Path) -> Version:
    """Writes the weights, facts and training curve of a version into one file.

    Args:
        versions: of the preset.
        version_id: the version.
        target: the file; replaced if it exists.

    Raises:
        RegistryError: there is no such version, or it is damaged.
        OSError: the disk is full.
    """
    version = versions.verify(version_id)
    folder = versions.path(version_id)
    names = [name for name in MEMBERS if (folder / name).is_file()]
    members = {name: {"sha256": file_sha256(folder / name), "bytes": (folder / name).stat().st_size} for name in names}
    manifest = {"kind": _KIND, "preset": version.preset, "size": version.size, "members": members}
    with replacing(target) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(MANIFEST, to_json(manifest))
        for name in names:
            archive.write(folder / name, name)
    return version


def import_version(versions: Versions, source: Path, by: str, shipped: tuple[Path, ...]) -> Version:
    """Adds a version from a file of `export_version`; it is not served until somebody publishes it.

    Earlier releases wrote further members besides `MEMBERS`. They are checked and left out: they describe patients of
    the other hospital. What was measured there goes into ``origin``: it says nothing about the images here.

    Args:
        versions: of the preset it is for.
        source: the file.
        by: person who imports it.
        shipped: the files that the preset names; the weights must fit all but the last.

    Raises:
        RegistryError: the file is damaged, of another kind or preset, or its weights do not fit or are here already.
        OSError: it cannot be read, or the disk is full.
    """
    by = require_name(by)
    digest = file_sha256(source)
    # Locked, so that nobody removes the half-unpacked folder as a leftover.
    with versions.lock(), tempfile.TemporaryDirectory(prefix=".new-import-", dir=_room(versions)) as temporary:
        folder = Path(temporary)
        with _opened(source) as archive:
            manifest = _manifest(archive, versions, source.stat().st_size)
            members = manifest["members"]
            for name, facts in members.items():
                _take(archive, name, facts, folder / name)
        theirs = _their_version(folder, versions, members)
        known = versions.find(theirs.sha256)
        if known is not None:
            raise RegistryError(f"These weights are here already: version {known.id}.")
        _require_fit(versions, folder / WEIGHTS, shipped)
        origin = {
            "imported_by": by,
            "file_sha256": digest,
            "id": theirs.id,
            "parent": theirs.parent,
            "created": theirs.created,
            "started_by": theirs.started_by,
            "metrics": dict(theirs.metrics),
            "origin": theirs.origin,
        }
        files = {CURVE: folder / CURVE} if CURVE in members else {}
        facts = Facts(started_by=by, parent=None, data=theirs.data, files=files, origin=origin)
        return versions.add(folder / WEIGHTS, facts)


def _room(versions: Versions) -> Path:
    """Where to unpack: the registry's disk needs the room anyway; /tmp may be small."""
    folder = versions.folder / "versions"
    private_folder(folder)
    return folder


@contextlib.contextmanager
def _opened(source: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(source) as archive:
            yield archive
    except (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError, UnicodeDecodeError) as error:
        raise DamagedFile(
            f"{source.name} is no whole file of an exported version ({error}). Copy it again; 'sam3d versions export' "
            "makes such files."
        ) from error


def _manifest(archive: zipfile.ZipFile, versions: Versions, nbytes: int) -> dict[str, Any]:
    """The list of members, checked against the members in the file."""
    infos = archive.infolist()
    names = [info.filename for info in infos]
    if len(infos) > _MOST_MEMBERS or len(set(names)) != len(names) or MANIFEST not in names:
        raise DamagedFile(
            f"The file has {len(infos)} members; expected are {MANIFEST} and what it names, each once, "
            f"{_MOST_MEMBERS} at most."
        )
    for info in infos:
        if not _NAME.fullmatch(info.filename):
            raise DamagedFile(f"The member {info.filename[:80]!r} has a name that no exported version has.")
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 or info.file_size != info.compress_size:
            raise DamagedFile(f"The member {info.filename} is compressed or encrypted; expected is neither.")
    if sum(info.file_size for info in infos) > nbytes:
        raise DamagedFile("The members are longer than the file: they lie over each other.")
    if archive.getinfo(MANIFEST).file_size > _MOST_JSON_BYTES:
        raise DamagedFile(f"{MANIFEST} is longer than {_MOST_JSON_BYTES} bytes.")
    manifest = parse_json(archive.read(MANIFEST), MANIFEST)
    members = manifest.get("members")
    if manifest.get("kind") != _KIND or not isinstance(members, dict) or not {WEIGHTS, FACTS} <= members.keys():
        raise DamagedFile(f"{MANIFEST} speaks of {manifest.get('kind')!r}; expected is a {_KIND}.")
    if members.keys() != set(names) - {MANIFEST}:
        odd = sorted(members.keys() ^ (set(names) - {MANIFEST}))
        raise DamagedFile(f"{MANIFEST} and the members differ: {', '.join(odd)[:200]}.")
    if (manifest.get("preset"), manifest.get("size")) != (versions.preset, versions.size):
        raise RegistryError(
            f"The file is for preset '{manifest.get('preset')}', model size '{manifest.get('size')}', not for "
            f"'{versions.preset}', '{versions.size}'. Name that preset."
        )
    return manifest


def _take(archive: zipfile.ZipFile, name: str, facts: Any, target: Path) -> None:
    """Copies one member to a name of our own and compares it with the manifest."""
    expected = facts if isinstance(facts, Mapping) else {}
    digest, length = hashlib.sha256(), 0
    with archive.open(name) as member, target.open("xb") as file:
        while chunk := member.read(_CHUNK_BYTES):
            digest.update(chunk)
            length += len(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    if (digest.hexdigest(), length) != (expected.get("sha256"), expected.get("bytes")):
        raise DamagedFile(f"The member {name} is damaged: it is not what {MANIFEST} says. Copy the file again.")


def _their_version(folder: Path, versions: Versions, members: Mapping[str, Any]) -> Version:
    path = folder / FACTS
    if path.stat().st_size > _MOST_JSON_BYTES:
        raise DamagedFile(f"{FACTS} is longer than {_MOST_JSON_BYTES} bytes.")
    theirs = Version.from_dict(parse_json(path.read_bytes(), FACTS))
    if theirs.sha256 != members[WEIGHTS]["sha256"]:
        raise DamagedFile(f"{FACTS} speaks of other weights than those in the file.")
    mine = (versions.preset, versions.size, versions.family)
    if (theirs.preset, theirs.size, theirs.family) != mine:
        raise RegistryError(
            f"The version is for preset '{theirs.preset}', model '{theirs.family}' of size '{theirs.size}', not for "
            f"'{mine[0]}', '{mine[2]}' of size '{mine[1]}'."
        )
    return theirs


def _require_fit(versions: Versions, weights: Path, shipped: tuple[Path, ...]) -> None:
    """Loads the weights as the server would; this checks names, shapes, values and base."""
    # Imported here: nothing else in the registry needs torch.
    from lib.models.checkpoint_error import CheckpointError
    from lib.segmenters import families
    from lib.segmenters.frozen_store import FrozenStore

    family = families()[versions.family]
    files = dict(zip(family.files, (*shipped[:-1], weights), strict=True))
    try:
        family.load(versions.size, files, "cpu", FrozenStore())
    except CheckpointError as error:
        raise RegistryError(f"The weights in the file cannot be served here: {error}") from error
