"""What each viewer sends, one file a viewer.

A module names the ``KEYS`` of its viewer's prompts and the keys that the viewer sends with everything and that have no
meaning here, ``IGNORED``. Its ``read(request, label)`` gives the prompts by the canonical keys ``foreground``,
``background`` and ``box``, each by the name under which the client sent them.
"""

import functools
import importlib
import pkgutil
from types import ModuleType


@functools.cache
def viewers() -> tuple[ModuleType, ...]:
    """The modules of this package, by name."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return tuple(importlib.import_module(f"{__name__}.{name}") for name in names)
