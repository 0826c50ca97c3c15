"""Ways in which a file of weights can be wrong, each applied in place."""

import os
import pickle
import struct
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

RAN = Path(tempfile.gettempdir()) / f"sam3d_adapter_test_ran_code_{os.getpid()}"
"""Folder that the hostile files would make."""


class Hostile:
    """Makes `RAN` when it is unpickled by a reader that executes what it reads."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(RAN),))


class HostileEval:
    """The same through `eval`."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (eval, (f"__import__('os').mkdir({str(RAN)!r})",))


def rewrite(path: Path, change: Callable[[dict], Any] | None = None, **metadata: str) -> None:
    """Change tensors (in place, or by giving others) and metadata of a safetensors file."""
    with safe_open(path, framework="pt") as file:
        stored = dict(file.metadata() or {})
    tensors = load_file(path)
    changed = change(tensors) if change else None
    save_file(tensors if changed is None else changed, path, metadata=stored | metadata)


def cut(path: Path, *, keep: float) -> None:
    """Keep the first part of the file."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])


def as_folder(path: Path) -> None:
    """A folder of that name."""
    path.unlink()
    path.mkdir()


def zip_without_data(path: Path) -> None:
    """A file of torch.save without the entries that hold the numbers."""
    torch.save({"a": torch.zeros(4)}, path)
    with zipfile.ZipFile(path) as archive:
        kept = {n: archive.read(n) for n in archive.namelist() if "/data/" not in n}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in kept.items():
            archive.writestr(name, content)


def flip(path: Path, pattern: bytes) -> None:
    """Turn one bit of the first place that holds the pattern."""
    content = bytearray(path.read_bytes())
    content[content.index(pattern) + 1] ^= 4
    path.write_bytes(content)


def set_value(tensors: dict, value: float) -> None:
    """Put a value into the last tensor."""
    tensors[max(tensors)].view(-1)[-1] = value


def cast(tensors: dict, dtype: torch.dtype) -> None:
    """Change the number type of the last tensor."""
    tensors[max(tensors)] = tensors[max(tensors)].to(dtype)


def reshape(tensors: dict) -> None:
    """Add an axis to the last tensor."""
    tensors[max(tensors)] = tensors[max(tensors)].unsqueeze(0).contiguous()


def drop(tensors: dict) -> None:
    """Leave the last tensor out."""
    del tensors[max(tensors)]


ANY_FILE: dict[str, Callable[[Path], Any]] = {
    "empty": lambda p: p.write_bytes(b""),
    "folder": as_folder,
    "text": lambda p: p.write_text("weights are here\n"),
    "web page": lambda p: p.write_text("<!DOCTYPE html><html><body>404</body></html>"),
    "end is missing": lambda p: cut(p, keep=0.999),
    "half written": lambda p: cut(p, keep=0.5),
    "seven bytes": lambda p: p.write_bytes(b"\x80\x02}q\x00.\x00"),
    "zip without data": zip_without_data,
    "empty zip": lambda p: zipfile.ZipFile(p, "w").close(),
    "zip of something else": lambda p: zipfile.ZipFile(p, "w").writestr("readme.txt", "hello"),
    "hostile pickle": lambda p: torch.save({"a": Hostile()}, p),
    "hostile eval": lambda p: torch.save({"encoder_dict": HostileEval()}, p),
    "hostile old form": lambda p: torch.save({"a": Hostile()}, p, _use_new_zipfile_serialization=False),
    "bare hostile pickle": lambda p: p.write_bytes(pickle.dumps(Hostile())),
    "huge header": lambda p: p.write_bytes(struct.pack("<Q", 2**60) + b"{}"),
    "foreign dictionary": lambda p: torch.save({"state_dict": {"conv.weight": torch.zeros(3)}}, p),
    "foreign list": lambda p: torch.save([1, 2, 3], p),
    "foreign safetensors": lambda p: save_file({"conv.weight": torch.zeros(3)}, p),
}
"""Wrong for every reader."""

SAFETENSORS: dict[str, Callable[[Path], Any]] = {
    "no metadata": lambda p: save_file(load_file(p), p),
    "other size": lambda p: rewrite(p, size="tiny"),
    "other config": lambda p: rewrite(p, config='{"embed_dim": 8}'),
    "other version": lambda p: rewrite(p, format="sam3d_adapter/999"),
    "missing key": lambda p: rewrite(p, drop),
    "extra key": lambda p: rewrite(p, lambda t: t.update(foreign=torch.zeros(1))),
    "wrong shape": lambda p: rewrite(p, reshape),
    "NaN": lambda p: rewrite(p, lambda t: set_value(t, float("nan"))),
    "infinite": lambda p: rewrite(p, lambda t: set_value(t, float("inf"))),
    "minus infinite": lambda p: rewrite(p, lambda t: set_value(t, float("-inf"))),
    "integers": lambda p: rewrite(p, lambda t: cast(t, torch.int32)),
    "double": lambda p: rewrite(p, lambda t: cast(t, torch.float64)),
    "8-bit": lambda p: rewrite(p, lambda t: cast(t, torch.float8_e4m3fn)),
    "complex": lambda p: rewrite(p, lambda t: cast(t, torch.complex64)),
    "provenance is no JSON": lambda p: rewrite(p, provenance="{"),
    "provenance is a list": lambda p: rewrite(p, provenance="[]"),
}
"""Wrong for a reader of our own files, base or weights."""
