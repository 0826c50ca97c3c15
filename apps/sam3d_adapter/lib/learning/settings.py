"""Settings of a training request: parsing and checking.

Not pydantic: viewers send lists of choices and emptied fields, and every rule has a sentence of its own.
"""

import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any

from lib.prompts.reading import short
from lib.serving.devices import available_devices, read_device

SERVED = "served"
BEST = "best"
SHIPPED = "shipped"
TRACKERS = ("none", "tensorboard", "mlflow")

_HOST_KEYS = ("model", "bundle_path", "gpus", "client_id", "local_rank", "name", "multi_gpu", "logging")
"""Keys that MONAI Label or its clients add to every training request."""
_VERSION = re.compile(r"v\d{4,9}-[0-9a-f]{8}")
_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,64}")
_MOST_EPOCHS = 10_000
_MOST_MINUTES = 7 * 24 * 60


class SettingError(ValueError):
    """A setting cannot be used: what it is, what is expected, what to do."""


@dataclass(frozen=True)
class TrainSettings:
    """Settings of one fine-tuning run.

    Attributes:
        max_epochs: limit; training ends earlier when validation no longer improves.
        max_minutes: limit, including a resumed run; None for no limit.
        parent: the version to start from: ``served``, ``best``, ``shipped`` or an id.
        label_name: the one structure to learn; None for the preset's.
        started_by: person, for the registry.
        device: ``cpu`` or ``cuda:N``.
        tracking: one of ``TRACKERS``.
        fresh: whether to start a new run instead of resuming a stopped one.
        publish: whether the gate may publish; otherwise the version is only measured and kept.
        seed: of all random draws.
    """

    max_epochs: int = 10
    max_minutes: float | None = None
    parent: str = SERVED
    label_name: str | None = None
    started_by: str = "unnamed"
    device: str = "cpu"
    tracking: str = TRACKERS[0]
    fresh: bool = False
    publish: bool = True
    seed: int = 1


def read_settings(request: Mapping[str, Any], trainers: Collection[str] = ()) -> TrainSettings:
    """The settings of a request; an unknown key is refused, because the sender expects it to have an effect.

    Args:
        request: of a client, with the keys that MONAI Label adds.
        trainers: names of all train tasks: a request to all of them holds an object for each.

    Raises:
        SettingError: an unknown key, or a value of the wrong type or out of range.
    """
    known = {field.name for field in fields(TrainSettings)}
    unknown = sorted(key for key in request if key not in known and key not in _HOST_KEYS and key not in trainers)
    if unknown:
        raise SettingError(
            f"Unknown key(s) {', '.join(short(key) for key in unknown[:5])}. A training takes: "
            f"{', '.join(sorted(known))}. Leave out the others."
        )
    given = {name: request[name] for name in known if name in request}
    values = {name: _READERS[name](name, value) for name, value in given.items()}
    # Without a device in the request: the first device of the machine.
    values.setdefault("device", read_device(None))
    return TrainSettings(**{name: value for name, value in values.items() if value is not _DEFAULT})


def shown_settings() -> dict[str, Any]:
    """For viewers: text and number fields, and lists of choices with the default first."""
    return {
        "max_epochs": TrainSettings.max_epochs,
        "parent": [SERVED, BEST, SHIPPED],
        "label_name": "",
        "started_by": "",
        "device": available_devices(),
        "tracking": list(TRACKERS),
    }


_DEFAULT: Any = object()


def _is_emptied(value: Any) -> bool:
    """Whether a viewer sent an empty field."""
    return value is None or value == "" or (isinstance(value, str) and not value.strip())


def _first(value: Any) -> Any:
    # Some viewers send the list of choices back unchanged: its first item is the default.
    return value[0] if isinstance(value, list) and value else value


def _read_epochs(name: str, value: Any) -> Any:
    number = _number(name, value, 1, _MOST_EPOCHS)
    if number is _DEFAULT:
        return _DEFAULT
    if number != int(number):
        raise SettingError(f"{name} is {short(value)}; a whole number from 1 to {_MOST_EPOCHS} is needed.")
    return int(number)


def _read_minutes(name: str, value: Any) -> Any:
    return _number(name, value, 0.01, _MOST_MINUTES)


def _read_seed(name: str, value: Any) -> Any:
    number = _number(name, value, 0, 2**31)
    return number if number is _DEFAULT else int(number)


def _number(name: str, value: Any, low: float, high: float) -> Any:
    if _is_emptied(value) or (value == 0 and low > 0 and not isinstance(value, bool)):
        return _DEFAULT
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not low <= number <= high:
        raise SettingError(f"{name} is {short(value)}; a number from {low:g} to {high:g} is needed.")
    return number


def _read_parent(name: str, value: Any) -> Any:
    value = _first(value)
    if _is_emptied(value):
        return _DEFAULT
    if value in (SERVED, BEST, SHIPPED) or (isinstance(value, str) and _VERSION.fullmatch(value)):
        return value
    raise SettingError(
        f"{name} is {short(value)}; '{SERVED}', '{BEST}', '{SHIPPED}' or the id of a version such as v0001-0123abcd "
        "is needed."
    )


def _read_text(name: str, value: Any) -> Any:
    # Slicer sends 0 for a text field from which a number was deleted.
    if _is_emptied(value) or (value == 0 and not isinstance(value, bool)):
        return _DEFAULT
    if not isinstance(value, str) or not _NAME.fullmatch(value.strip()):
        raise SettingError(f"{name} is {short(value)}; a text of 1 to 64 printable characters is needed.")
    return value.strip()


def _read_tracking(name: str, value: Any) -> Any:
    value = _first(value)
    if _is_emptied(value):
        return _DEFAULT
    if value not in TRACKERS:
        raise SettingError(f"{name} is {short(value)}; choose from: {', '.join(TRACKERS)}.")
    return value


def _read_bool(name: str, value: Any) -> Any:
    if _is_emptied(value):
        return _DEFAULT
    text = str(value).strip().lower() if isinstance(value, str | int) else ""
    if text not in ("true", "1", "false", "0"):
        raise SettingError(f"{name} is {short(value)}; true or false is needed.")
    return text in ("true", "1")


_READERS: Mapping[str, Callable[[str, Any], Any]] = {
    "max_epochs": _read_epochs,
    "max_minutes": _read_minutes,
    "parent": _read_parent,
    "label_name": _read_text,
    "started_by": _read_text,
    "device": lambda _, value: read_device(value),
    "tracking": _read_tracking,
    "fresh": _read_bool,
    "publish": _read_bool,
    "seed": _read_seed,
}
