"""The server's ``--conf key value`` pairs, which arrive as strings.

Not pydantic: MONAI Label mixes keys of its own in, and each complaint says which settings there are.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lib.models.precision import PRECISIONS
from lib.registry.registry import DEFAULT_LEARNING_DIR
from lib.workflow.reviews import ACCEPTED, SUBMITTED
from lib.workflow.scores import BY_SCORE

# Set by MONAI Label itself or meant for its base class.
_HOST_KEYS = ("server_mode",)
_MIB = 2**20

TRAIN_ON = (SUBMITTED, ACCEPTED)
"""States of the labels that are learned from; accepted ones always are."""
STRATEGIES = ("queue", *BY_SCORE, "random")
"""How Next Sample may choose."""


class ConfError(ValueError):
    """A ``--conf`` pair that cannot be used, with the valid ones."""


@dataclass(frozen=True)
class Conf:
    """Settings of the server.

    Attributes:
        models: names of the presets to serve, in this order; None for all.
        embedding_cache_mb: memory for embeddings of ROIs, MiB.
        volume_cache_mb: memory for images as read from disk, MiB.
        max_upload_mb: most of a request's body, MiB.
        precision: number type of the network, one of ``PRECISIONS``.
        audit_dir: folder of the records of answers, against the app folder if relative.
        audit_mb: disk space for them, MiB.
        learning_dir: folder of what is learned here: versions of weights, states of trainings; against the app folder
            if relative.
        patient_pattern: regular expression; its first group in an image's id is the patient.
        next_sample_lock_min: minutes for which nobody else gets the case that Next Sample gave to somebody.
        strategy: how Next Sample chooses, one of ``STRATEGIES``.
        random_share: share of the cases that Next Sample draws at random beside a strategy, 0 to 1.
        train_on: which labels are learned from, one of ``TRAIN_ON``.
        own_review: whether people may accept labels that they drew.
        review_only: whether nothing is segmented or trained.
        ohif: folder of a built OHIF that is served in place of MONAI Label's; None for that one.
    """

    models: tuple[str, ...] | None = None
    embedding_cache_mb: int = 2048
    volume_cache_mb: int = 2048
    max_upload_mb: int = 2048
    precision: str = "auto"
    # Beside the server's log: every app folder has it and can be written to, a DICOMweb server has no folder of
    # studies, and one of files is often shared with people whom the records do not concern.
    audit_dir: Path = Path("logs/audit")
    audit_mb: int = 512
    learning_dir: Path = DEFAULT_LEARNING_DIR
    patient_pattern: str | None = None
    next_sample_lock_min: int = 30
    strategy: str = "queue"
    random_share: float = 0.2
    train_on: str = SUBMITTED
    own_review: bool = False
    review_only: bool = False
    ohif: Path | None = None

    @property
    def audit_bytes(self) -> int:
        """``audit_mb`` in bytes."""
        return self.audit_mb * _MIB

    @property
    def embedding_cache_bytes(self) -> int:
        """``embedding_cache_mb`` in bytes."""
        return self.embedding_cache_mb * _MIB

    @property
    def volume_cache_bytes(self) -> int:
        """``volume_cache_mb`` in bytes."""
        return self.volume_cache_mb * _MIB

    @property
    def max_upload_bytes(self) -> int:
        """``max_upload_mb`` in bytes."""
        return self.max_upload_mb * _MIB


def parse_conf(conf: Mapping[str, str]) -> Conf:
    """Reads the pairs.

    Raises:
        ConfError: unknown key, or a value of the wrong kind.
    """
    valid = (
        "models",
        "embedding_cache_mb",
        "volume_cache_mb",
        "max_upload_mb",
        "precision",
        "audit_dir",
        "audit_mb",
        "learning_dir",
        "patient_pattern",
        "next_sample_lock_min",
        "strategy",
        "random_share",
        "train_on",
        "own_review",
        "review_only",
        "ohif",
    )
    unknown = [key for key in conf if key not in valid + _HOST_KEYS]
    if unknown:
        raise ConfError(f"--conf {unknown[0]} is unknown; choose from: {', '.join(valid)}.")
    default = Conf()
    return Conf(
        models=_names(conf["models"]) if "models" in conf else None,
        embedding_cache_mb=_megabytes(conf, "embedding_cache_mb", default.embedding_cache_mb),
        volume_cache_mb=_megabytes(conf, "volume_cache_mb", default.volume_cache_mb),
        max_upload_mb=_megabytes(conf, "max_upload_mb", default.max_upload_mb),
        precision=_choice(conf, "precision", default.precision, PRECISIONS),
        audit_dir=_folder(conf, "audit_dir", default.audit_dir),
        audit_mb=_at_least_one("audit_mb", _megabytes(conf, "audit_mb", default.audit_mb)),
        next_sample_lock_min=_whole(conf, "next_sample_lock_min", default.next_sample_lock_min, "minutes"),
        strategy=_choice(conf, "strategy", default.strategy, STRATEGIES),
        random_share=_share(conf, "random_share", default.random_share),
        train_on=_choice(conf, "train_on", default.train_on, TRAIN_ON),
        own_review=_choice(conf, "own_review", "no", ("yes", "no")) == "yes",
        review_only=_choice(conf, "review_only", "no", ("yes", "no")) == "yes",
        ohif=_viewer(conf["ohif"]) if "ohif" in conf else None,
        patient_pattern=_pattern(conf["patient_pattern"]) if "patient_pattern" in conf else None,
        learning_dir=_folder(conf, "learning_dir", default.learning_dir),
    )


def _choice(conf: Mapping[str, str], key: str, default: str, choices: Sequence[str]) -> str:
    text = str(conf.get(key, default)).strip()
    if text not in choices:
        raise ConfError(f"--conf {key} is {text!r}; choose from: {', '.join(choices)}.")
    return text


def _share(conf: Mapping[str, str], key: str, default: float) -> float:
    text = str(conf.get(key, default)).strip()
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise ConfError(f"--conf {key} is {text!r}; a number from 0 to 1 is needed.")
    return share


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ConfError(f"--conf patient_pattern is {text!r}, which is no regular expression: {error}.") from error
    return text


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def _folder(conf: Mapping[str, str], key: str, default: Path) -> Path:
    text = str(conf.get(key, default)).strip()
    if not text:
        raise ConfError(f"--conf {key} is empty; the name of a folder is needed.")
    return Path(text).expanduser()


def _viewer(text: str) -> Path:
    folder = Path(text.strip()).expanduser().resolve()
    for name in ("index.html", "app-config.js"):
        if not (folder / name).is_file():
            raise ConfError(
                f"--conf ohif is {text!r}, which holds no {name}; the folder of a built OHIF is needed, such as dist "
                "in the npm package @ohif/app."
            )
    return folder


def _at_least_one(key: str, number: int) -> int:
    if number < 1:
        raise ConfError(f"--conf {key} is {number}; 1 or more is needed.")
    return number


def _megabytes(conf: Mapping[str, str], key: str, default: int) -> int:
    return _whole(conf, key, default, "MiB")


def _whole(conf: Mapping[str, str], key: str, default: int, unit: str) -> int:
    text = str(conf.get(key, default)).strip()
    if not text.isdecimal():
        raise ConfError(f"--conf {key} is {text!r}; a whole number of {unit}, 0 or more, is needed.")
    return int(text)
