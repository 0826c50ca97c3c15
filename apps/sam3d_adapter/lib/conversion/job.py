"""What a user asks of a conversion."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lib.conversion.download import Patience, Progress
from lib.conversion.sam_files import SAM_FILES, SamFile


@dataclass(frozen=True)
class ConversionJob:
    """The files to make, and from what.

    Attributes:
        preset: name, for messages and the report.
        size: of the preset's network.
        files: to make, by the keys of its family's ``files``.
        checkpoint: published file; None to make the base alone.
        sam: SAM's own file, or the folder it lies in; None for the cache.
        offline: never connect.
        replace: whether existing weights may be replaced.
        sam_files: SAM's official file of each size.
        patience: when to give up a download.
        progress: of a download.
    """

    preset: str
    size: str
    files: Mapping[str, Path]
    checkpoint: Path | None
    sam: Path | None = None
    offline: bool = False
    replace: bool = False
    sam_files: Mapping[str, SamFile] | None = None
    patience: Patience | None = None
    progress: Progress | None = None

    @property
    def known_sam_files(self) -> Mapping[str, SamFile]:
        """SAM's official file of each size; the published ones where the job names none."""
        return SAM_FILES if self.sam_files is None else self.sam_files
