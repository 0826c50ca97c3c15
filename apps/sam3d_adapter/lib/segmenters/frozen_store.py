"""Frozen tensors that several models hold together."""

import weakref
from collections.abc import Hashable, Mapping

from torch import nn


class _Shared(dict[str, nn.Parameter]):
    """A dict that can be referred to weakly."""


class FrozenStore:
    """Hands the frozen parameters of one base and device to every model that stands on it.

    It keeps them only as long as a model does: replaced bases leave memory with the last model that used them.
    """

    def __init__(self) -> None:
        self._held: weakref.WeakValueDictionary[Hashable, _Shared] = weakref.WeakValueDictionary()

    def get(self, key: Hashable) -> Mapping[str, nn.Parameter] | None:
        """The parameters kept under ``key`` by their names, or None."""
        return self._held.get(key)

    def share(self, key: Hashable, parameters: Mapping[str, nn.Parameter], owner: nn.Module) -> None:
        """Keeps ``parameters`` under ``key`` for as long as ``owner``, or another model that joined, lives."""
        self._held[key] = shared = _Shared(parameters)
        self.join(shared, owner)

    @staticmethod
    def join(shared: Mapping[str, nn.Parameter], owner: nn.Module) -> None:
        """Makes ``owner`` one of those that keep ``shared``, and sets its parameters to them."""
        for name, parameter in shared.items():
            module, _, attribute = name.rpartition(".")
            setattr(owner.get_submodule(module), attribute, parameter)
        # As an attribute of the module, so that it goes with it.
        owner.__dict__["_frozen_shared"] = shared
