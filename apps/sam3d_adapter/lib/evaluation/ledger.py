"""The folder of a run: its settings, and a line for each finished interaction, so that a stopped run can go on."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lib.evaluation.record import DATA_HASH, Record

CASES, OTHERS, SETTINGS = "cases.jsonl", "other_cases.jsonl", "settings.json"
"""What was asked for last; what an earlier run of the same folder did beside it; what both depend on."""
Key = tuple[str, str, int]


class LedgerError(ValueError):
    """A folder that holds something else than what is asked for."""


class Ledger:
    """Reads and appends the records of one folder.

    Args:
        folder: made where it does not exist.
        settings: all that a score depends on, but for the data; JSON values.

    Raises:
        LedgerError: the folder holds records of other settings, or of other data.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self._file, self._others = folder / CASES, folder / OTHERS
        self._records: dict[Key, Record] = {}
        folder.mkdir(parents=True, exist_ok=True)
        held = read_settings(folder) if (folder / SETTINGS).exists() else None
        if held is None and self._file.exists():
            raise LedgerError(f"{folder} holds {CASES} without {SETTINGS}: it is no folder of a run. Choose another.")
        if held is not None and held != settings:
            raise LedgerError(f"{folder} holds a run with other settings: {_difference(held, settings)}. "
                              "Choose another OUT, or remove that folder to start anew.")  # fmt: skip
        write_json(folder / SETTINGS, settings)
        for file in filter(Path.exists, (self._others, self._file)):
            own = {key_of(record): record for record in _read(file)}
            # A line that a stopped run left unfinished is dropped.
            _write(file, own.values())
            self._records |= own

    def finished(self, facts: Mapping[str, Mapping[str, Any]]) -> set[Key]:
        """The interactions that need not be held again.

        Args:
            facts: `lib.evaluation.record.facts_of` each case that is to be evaluated, by its id.

        Raises:
            LedgerError: a case that was evaluated on other files, or counted for another patient or data set.
        """
        for record in self._records.values():
            now = facts.get(record["case"], {})
            for key, value in now.items():
                if record.get(key) != value:
                    where = f"{self._file.parent} holds scores of {record['case']}"
                    what = "on other files (image or label was changed since)"
                    if key != DATA_HASH:
                        what = f"as of {key} {record.get(key)!r}, which now is {value!r}"
                    raise LedgerError(f"{where} {what}. Choose another OUT, or remove that folder.")
        return {key for key in self._records if key[0] in facts}

    def add(self, record: Record) -> None:
        """Appends a record; it is there even if the run is stopped at once."""
        self._records[key_of(record)] = record
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def sort(self, order: Sequence[Key]) -> list[Record]:
        """Writes those that were asked for in the order given, and returns them; others go into a file of their own.

        So whoever reads the file reads what the summary was made of.
        """
        asked = set(order)
        others = [record for key, record in self._records.items() if key not in asked]
        records = [self._records[key] for key in order]
        if others or self._others.exists():
            _write(self._others, others)
        _write(self._file, records)
        return records


def key_of(record: Mapping[str, Any]) -> Key:
    """What identifies an interaction: case, mode, seed."""
    return record["case"], record["mode"], record["seed"]


def read_records(folder: Path) -> list[Record]:
    """The records of a run; an unfinished last line does not count.

    Raises:
        LedgerError: no such file, or not one of a run.
    """
    return _read(folder / CASES)


def read_settings(folder: Path) -> dict[str, Any]:
    """The settings of a run.

    Raises:
        LedgerError: no such file, or not one of a run.
    """
    try:
        return dict(json.loads((folder / SETTINGS).read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise LedgerError(f"{folder} holds no readable {SETTINGS}: {error}") from error


def write_json(path: Path, content: Any) -> None:
    """Writes a whole file or none."""
    _replace(path, json.dumps(content, indent=1) + "\n")


def _read(file: Path) -> list[Record]:
    try:
        text = file.read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
    except (OSError, ValueError) as error:
        raise LedgerError(f"{file.parent} holds no readable {file.name}: {error}") from error


def _write(file: Path, records: Iterable[Record]) -> None:
    _replace(file, "".join(json.dumps(record) + "\n" for record in records))


def _replace(path: Path, text: str) -> None:
    # One name, and not that of `lib.files.atomic_write`: what a killed run left is overwritten by the next.
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


def _difference(held: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    keys = [key for key in {**held, **wanted} if held.get(key) != wanted.get(key)]
    return "; ".join(f"{key} was {held.get(key)!r} and is {wanted.get(key)!r}" for key in keys)
