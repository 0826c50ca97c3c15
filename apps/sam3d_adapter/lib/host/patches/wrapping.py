"""Wraps functions of MONAI Label's endpoints, and unwraps them.

MONAI Label 0.8.5 looks up the function that answers a request by its name in ``monailabel.endpoints.*``; we replace
what that name refers to. A process that serves no HTTP has none of these modules, and nothing is done.

``/reload`` builds the app anew with a fresh copy of ``lib``. The newest patch then replaces the one before, and what
others wrapped around the function meanwhile stays.
"""

import functools
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

_PATCHES, _ORIGINALS = "host_patches", "host_originals"


def wrap(module_name: str, name: str, patch: Callable[..., Any]) -> None:
    """Calls ``patch(host, ...)`` from now on in place of the function ``host`` of that name.

    Args:
        module_name: Full name of MONAI Label's module.
        name: Of the function in it.
        patch: Takes the host's function, then the arguments of the call.
    """
    module = sys.modules.get(module_name)
    if module is None:
        return
    patches = vars(module).setdefault(_PATCHES, {})
    patches[name] = patch
    originals = _originals(module)
    if name in originals:
        return
    host = originals[name] = getattr(module, name)

    @functools.wraps(host)
    def patched(*arguments: Any, **keywords: Any) -> Any:
        # After `unwrap` it may still be called by what others wrapped around it.
        now = patches.get(name)
        return now(host, *arguments, **keywords) if now else host(*arguments, **keywords)

    setattr(module, name, patched)


def replace(module_name: str, name: str, make: Callable[[Any], Any]) -> None:
    """Replaces what is not a function, such as a module that an endpoint uses.

    Args:
        module_name: Full name of MONAI Label's module.
        name: Of the object in it.
        make: Takes the host's object, returns the replacement.
    """
    module = sys.modules.get(module_name)
    if module is not None:
        setattr(module, name, make(_originals(module).setdefault(name, getattr(module, name))))


def unwrap() -> None:
    """Restores every module as MONAI Label ships it."""
    for module in [module for name, module in list(sys.modules.items()) if name.startswith("monailabel.")]:
        for name, host in vars(module).pop(_ORIGINALS, {}).items():
            setattr(module, name, host)
        vars(module).pop(_PATCHES, {}).clear()


def _originals(module: ModuleType) -> dict[str, Any]:
    return vars(module).setdefault(_ORIGINALS, {})
