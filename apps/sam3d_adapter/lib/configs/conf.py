"""The server's ``--conf key value`` pairs, which arrive as strings."""

from collections.abc import Mapping
from dataclasses import dataclass

from lib.inference.precision import PRECISIONS

# Set by MONAI Label itself or meant for its base class.
_HOST_KEYS = ("server_mode",)
_MIB = 2**20


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
    """

    models: tuple[str, ...] | None = None
    embedding_cache_mb: int = 2048
    volume_cache_mb: int = 2048
    max_upload_mb: int = 2048
    precision: str = "auto"

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
    valid = ("models", "embedding_cache_mb", "volume_cache_mb", "max_upload_mb", "precision")
    unknown = [key for key in conf if key not in valid + _HOST_KEYS]
    if unknown:
        raise ConfError(f"--conf {unknown[0]} is unknown; choose from: {', '.join(valid)}.")
    default = Conf()
    return Conf(
        models=_names(conf["models"]) if "models" in conf else None,
        embedding_cache_mb=_megabytes(conf, "embedding_cache_mb", default.embedding_cache_mb),
        volume_cache_mb=_megabytes(conf, "volume_cache_mb", default.volume_cache_mb),
        max_upload_mb=_megabytes(conf, "max_upload_mb", default.max_upload_mb),
        precision=_precision(str(conf.get("precision", default.precision)).strip()),
    )


def _precision(text: str) -> str:
    if text not in PRECISIONS:
        raise ConfError(f"--conf precision is {text!r}; choose from: {', '.join(PRECISIONS)}.")
    return text


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def _megabytes(conf: Mapping[str, str], key: str, default: int) -> int:
    text = str(conf.get(key, default)).strip()
    if not text.isdecimal():
        raise ConfError(f"--conf {key} is {text!r}; a whole number of MiB, 0 or more, is needed.")
    return int(text)
