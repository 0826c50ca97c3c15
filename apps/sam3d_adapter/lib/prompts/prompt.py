"""What all kinds of prompts have in common, and the list of the kinds that there are."""

import functools
import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self


class Prompt:
    """One thing that a user says of a structure. Each kind is a subclass in a file of this package.

    Attributes:
        kind: name of the kind, in capabilities and warnings.
        keys: of a request and of its record that hold prompts of this kind.
    """

    kind: ClassVar[str]
    keys: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def read(cls, request: Mapping[str, Any], image_shape: Sequence[int]) -> tuple[Self, ...]:
        """The prompts of this kind in a request, checked; none where it holds none.

        Args:
            request: by key, as clients send it or as `Prompts.to_json` writes it.
            image_shape: voxels along i, j, k.

        Raises:
            ValueError: a prompt that cannot be used: what was sent, what is expected, what to do.
        """
        raise NotImplementedError

    @classmethod
    def to_json(cls, prompts: Sequence[Self]) -> dict[str, Any]:
        """What `read` gives the same prompts for."""
        raise NotImplementedError


@functools.cache
def prompt_kinds() -> dict[str, type[Prompt]]:
    """Every kind of prompt by its name: the subclasses of `Prompt` in the files of this package."""
    package = importlib.import_module("lib.prompts")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"lib.prompts.{module.name}")
    return {kind.kind: kind for kind in Prompt.__subclasses__()}
