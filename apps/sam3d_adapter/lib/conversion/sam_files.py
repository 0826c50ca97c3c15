"""Segment Anything's own checkpoint files: names, checksums, cache folder, download."""

import os
from dataclasses import dataclass
from pathlib import Path

from lib.conversion.download import DownloadError, Patience, Progress, download
from lib.files.checksums import file_sha256
from lib.models.checkpoint_error import CheckpointError, require_file

SAM_URL = "https://dl.fbaipublicfiles.com/segment_anything/"
"""Official address (github.com/facebookresearch/segment-anything, README, Model Checkpoints)."""

URL_VARIABLE = "SAM3D_SAM_URL"
"""Environment variable: address of a mirror that holds the same files."""

CACHE_VARIABLE = "SAM3D_CACHE"
"""Environment variable: the cache folder."""


@dataclass(frozen=True)
class SamFile:
    """An official file.

    Attributes:
        name: As published.
        sha256: Of its bytes, hexadecimal.
        size: In bytes, where the authors' server states it.
    """

    name: str
    sha256: str
    size: int | None = None

    def __str__(self) -> str:
        size = f"{self.size} bytes, " if self.size else ""
        return f"{self.name} ({size}sha256 {self.sha256})"


SAM_FILES = {
    "vit_b": SamFile(
        "sam_vit_b_01ec64.pth", "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912", 375_042_383
    ),
    "vit_l": SamFile("sam_vit_l_0b3195.pth", "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622"),
    "vit_h": SamFile(
        "sam_vit_h_4b8939.pth", "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e", 2_564_550_879
    ),
}
"""By model size; Apache-2.0."""


def cache_folder() -> Path:
    """Folder of downloaded files: ``$SAM3D_CACHE``, else ``sam3d_adapter`` in ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    own = os.environ.get(CACHE_VARIABLE)
    if own:
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "sam3d_adapter"


def sam_url() -> str:
    """Address of the folder that holds the files: ``$SAM3D_SAM_URL``, else the official one."""
    return (os.environ.get(URL_VARIABLE) or SAM_URL).rstrip("/") + "/"


def obtain_sam_file(
    file: SamFile,
    *,
    given: Path | None = None,
    offline: bool = False,
    patience: Patience | None = None,
    progress: Progress | None = None,
) -> Path:
    """A verified copy of an official file: the one given, else the cached one, else fetched into the cache.

    Args:
        file: To obtain.
        given: The file, or a folder that holds it under its name.
        offline: Never connect.
        patience: When to give up a download.
        progress: Of a download.

    Raises:
        CheckpointError: It cannot be obtained, or is not the official file; says where to get it and where to put it.
    """
    if given is not None:
        path = given / file.name if given.is_dir() else given
        require_file(path, f"SAM's {file}")
        _verify(path, file)
        return path
    path = cache_folder() / file.name
    if path.exists():
        require_file(path, f"SAM's {file}")
        _verify(path, file)
        return path
    url = sam_url() + file.name
    by_hand = (
        f"Get {file} from {SAM_URL}{file.name} on a machine with a connection and put it into {path.parent} "
        f"(the variable {CACHE_VARIABLE} names another folder), or name it with --sam."
    )
    if offline:
        raise CheckpointError(f"{path}: no such file, and --offline forbids fetching it. {by_hand}")
    try:
        download(url, path, sha256=file.sha256, size=file.size, patience=patience, progress=progress)
    except DownloadError as error:
        raise CheckpointError(f"SAM's {file.name} could not be fetched: {error} {by_hand}") from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written ({error.strerror}). {by_hand}") from error
    return path


def _verify(path: Path, file: SamFile) -> None:
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        got = f"{size} bytes"
    elif (digest := file_sha256(path)) != file.sha256:
        got = f"sha256 {digest}"
    else:
        return
    raise CheckpointError(
        f"{path}: {got}; expected SAM's own {file}. It is cut off, altered or another file: remove it, "
        f"or get it again from {SAM_URL}{file.name}."
    )
