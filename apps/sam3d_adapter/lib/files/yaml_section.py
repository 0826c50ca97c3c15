"""A mapping of a YAML file, read strictly: every complaint names file, key and the valid choices.

Not pydantic: its errors name neither the file nor the valid keys, and which keys are valid depends on the family.
"""

import math
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any


class SettingsError(ValueError):
    """A file of settings that cannot be used, with the file, the key, what was found and what is valid."""


class Section:
    """One mapping of a file whose keys are checked when it is opened and whose values are checked when read."""

    def __init__(
        self, path: Path, name: str, content: Any, *, required: tuple[str, ...], optional: tuple[str, ...] = ()
    ) -> None:
        self.path, self.name = path, name
        valid = ", ".join(required + optional)
        if not isinstance(content, Mapping):
            raise SettingsError(f"{path}: {name or 'the file'} must be a mapping with the keys {valid}.")
        self.values: Mapping[str, Any] = content
        unknown = [str(key) for key in content if key not in required + optional]
        missing = [key for key in required if key not in content]
        if unknown:
            raise self.error(unknown[0], f"is unknown; valid keys: {valid}")
        if missing:
            raise self.error(missing[0], f"is missing; needed keys: {', '.join(required)}")

    def error(self, key: str, text: str) -> SettingsError:
        return SettingsError(f"{self.path}: {self.name + '.' if self.name else ''}{key} {text}.")

    def section(self, key: str, *, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> "Section":
        return Section(self.path, key, self.values[key], required=required, optional=optional)

    def text(self, key: str) -> str:
        value = self.values[key]
        if not isinstance(value, str) or not value.strip():
            raise self.error(key, f"is {value!r}; a non-empty text is needed")
        return value.strip()

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of at least one text, all different."""
        value = self.values[key]
        if not isinstance(value, list) or not value or not all(isinstance(v, str) and v.strip() for v in value):
            raise self.error(key, f"is {value!r}; a list of non-empty texts is needed")
        texts = tuple(text.strip() for text in value)
        if len(set(texts)) < len(texts):
            raise self.error(key, f"is {value!r}; all must differ")
        return texts

    def choice(self, key: str, choices: tuple[str, ...]) -> str:
        value = self.values[key]
        if value not in choices:
            raise self.error(key, f"is {value!r}; choose from: {', '.join(choices)}")
        return str(value)

    def number(self, key: str, *, low: float, high: float) -> float:
        return self._checked(key, self.values[key], low, high)

    def whole_number(self, key: str, *, low: int, high: int) -> int:
        value = self._checked(key, self.values[key], low, high)
        if value != int(value):
            raise self.error(key, f"is {value!r}; a whole number is needed")
        return int(value)

    def pair(self, key: str, *, low: float, high: float) -> tuple[float, float]:
        value = self.values[key]
        if not isinstance(value, list) or len(value) != 2:
            raise self.error(key, f"is {value!r}; a list [lowest, highest] is needed")
        first, second = (self._checked(key, item, low, high) for item in value)
        if first >= second:
            raise self.error(key, f"is {value!r}; the first number must be below the second")
        return first, second

    def numbers(self, key: str, count: int, *, low: float, high: float) -> tuple[float, ...]:
        """So many numbers, in any order."""
        value = self.values[key]
        if not isinstance(value, list) or len(value) != count:
            raise self.error(key, f"is {value!r}; a list of {count} numbers is needed")
        return tuple(self._checked(key, item, low, high) for item in value)

    def ascending(self, key: str, *, low: float, high: float) -> tuple[float, ...]:
        """Numbers above ``low``, each above the one before; none where the key is absent."""
        value = self.values.get(key, [])
        if not isinstance(value, list):
            raise self.error(key, f"is {value!r}; a list of numbers is needed")
        numbers = tuple(self._checked(key, item, low, high) for item in value)
        if any(second <= first for first, second in zip((low, *numbers), numbers, strict=False)):
            raise self.error(key, f"is {value!r}; each number must be above the one before, the first above {low:g}")
        return numbers

    def relative_path(self, key: str) -> str:
        value = self.text(key)
        path = PurePosixPath(value)
        if path.is_absolute() or ".." in path.parts or "\\" in value:
            raise self.error(key, f"is {value!r}; a path inside the app folder is needed")
        return value

    def _checked(self, key: str, value: Any, low: float, high: float) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self.error(key, f"is {value!r}; a number is needed")
        if not low <= value <= high:
            raise self.error(key, f"is {value!r}; it must lie between {low:g} and {high:g}")
        return float(value)
