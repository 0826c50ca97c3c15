"""All that a user said of one structure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from lib.prompts.box import Box
from lib.prompts.click import Click
from lib.prompts.mask import MaskPrompt
from lib.prompts.prompt import Prompt, prompt_kinds

P = TypeVar("P", bound=Prompt)


@dataclass(frozen=True)
class Prompts:
    """The prompts of one structure, of any kinds.

    Attributes:
        items: clicks in the order in which they were set; at most one box and one mask.
    """

    items: tuple[Prompt, ...] = ()

    @classmethod
    def read(cls, request: Mapping[str, Any], image_shape: Sequence[int], more: Iterable[Prompt] = ()) -> "Prompts":
        """Prompts from a request, a record or a training sample, which all write them as `to_json` does.

        Args:
            request: see the ``keys`` of each kind.
            image_shape: voxels along i, j, k.
            more: prompts that are not in the request itself, such as a mask.

        Raises:
            ValueError: a prompt that cannot be used.
        """
        read = (kind.read(request, image_shape) for kind in prompt_kinds().values())
        return cls((*(prompt for prompts in read for prompt in prompts), *more))

    def to_json(self) -> dict[str, Any]:
        """By the keys of a request."""
        values: dict[str, Any] = {}
        for kind in prompt_kinds().values():
            values |= kind.to_json(self.of(kind))
        return values

    def of(self, kind: type[P]) -> tuple[P, ...]:
        """Those of one kind, in their order."""
        return tuple(prompt for prompt in self.items if isinstance(prompt, kind))

    @property
    def kinds(self) -> frozenset[str]:
        """Names of the kinds that occur."""
        return frozenset(prompt.kind for prompt in self.items)

    @property
    def clicks(self) -> tuple[Click, ...]:
        """Foreground clicks in their order, then background clicks in theirs: requests do not say which came when."""
        return (*self.foreground, *self.background)

    @property
    def foreground(self) -> tuple[Click, ...]:
        """Clicks on the structure."""
        return tuple(click for click in self.of(Click) if click.is_foreground)

    @property
    def background(self) -> tuple[Click, ...]:
        """Clicks beside the structure."""
        return tuple(click for click in self.of(Click) if not click.is_foreground)

    @property
    def box(self) -> Box | None:
        """The box around the structure."""
        return next(iter(self.of(Box)), None)

    @property
    def mask(self) -> MaskPrompt | None:
        """The mask to start from."""
        return next(iter(self.of(MaskPrompt)), None)
