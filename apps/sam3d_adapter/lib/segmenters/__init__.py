"""What answers a user's prompts: the contract, and the engine that networks which see a cube share."""

import functools
import importlib
import pkgutil

from lib.segmenters.contract import Family


@functools.cache
def families() -> dict[str, Family]:
    """Every family by its name: the ``FAMILY`` of each folder of ``lib/families``."""
    folders = importlib.import_module("lib.families").__path__
    names = sorted(module.name for module in pkgutil.iter_modules(folders))
    found = [importlib.import_module(f"lib.families.{name}").FAMILY for name in names]
    return {family.name: family for family in found}
