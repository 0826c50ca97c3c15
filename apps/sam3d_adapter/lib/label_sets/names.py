"""What cases, patients and readers are called in a set: their own names, or pseudonyms."""

from collections.abc import Callable

_DIGITS = 16
"""Hexadecimal digits of a pseudonym: 64 bits, so that no two names of a hospital share them by chance."""


class Names:
    """Names, or pseudonyms that nobody guesses back; equal names have equal pseudonyms, also in a later set.

    Args:
        keyed: a name -> its keyed hash; None where all keep their names.
    """

    def __init__(self, keyed: Callable[[str], str] | None) -> None:
        self._keyed = keyed
        self.readers: dict[str, str] = {}

    @property
    def are_pseudonyms(self) -> bool:
        """Whether names are replaced."""
        return self._keyed is not None

    def case(self, image_id: str) -> str:
        """Of an image and its label."""
        return self._named("case", image_id, image_id)

    def patient(self, name: str) -> str:
        """Of a patient."""
        return self._named("patient", name, name)

    def reader(self, name: str) -> str:
        """Of somebody who drew or accepted a label; "" where nobody knows him."""
        if not name.strip():
            return ""
        # As `lib.workflow.reviews.is_same_person` compares.
        found = self._named("reader", " ".join(name.split()).casefold(), name)
        self.readers[found] = name
        return found

    def hashed(self, kind: str, text: str) -> str:
        """Keyed hash, in hexadecimal; for sets in which names are replaced."""
        assert self._keyed is not None
        return self._keyed(f"{kind} {text}")

    def _named(self, kind: str, text: str, name: str) -> str:
        return f"{kind}_{self.hashed(kind, text)[:_DIGITS]}" if self.are_pseudonyms else name
