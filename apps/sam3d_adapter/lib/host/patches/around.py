"""Puts mends around the functions of MONAI Label's endpoints, and takes them off again.

MONAI Label 0.8.5 answers every request by a function that it calls by its name in ``monailabel.endpoints.*``; what
stands under that name is replaced here. A process that serves no HTTP has none of these modules, and nothing is done.

The app is built anew after ``/reload``, with a fresh copy of ``lib``: the newest mend then takes the place of the one
before, whose module has no part in the new app, and whatever others put around the function meanwhile stays.
"""

import functools
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

_MENDS, _ORIGINALS = "host_mends", "host_originals"


def put_around(module_name: str, name: str, mend: Callable[..., Any]) -> None:
    """From now on ``mend(host, ...)`` is called in place of the function ``host`` of that name.

    Args:
        module_name: of MONAI Label, in full.
        name: of the function in it.
        mend: takes the host's function, then what it is called with.
    """
    module = sys.modules.get(module_name)
    if module is None:
        return
    mends = vars(module).setdefault(_MENDS, {})
    mends[name] = mend
    originals = _originals(module)
    if name in originals:
        return
    host = originals[name] = getattr(module, name)

    @functools.wraps(host)
    def mended(*arguments: Any, **keywords: Any) -> Any:
        # Taken off, it may still lie below what others put around it.
        now = mends.get(name)
        return now(host, *arguments, **keywords) if now else host(*arguments, **keywords)

    setattr(module, name, mended)


def put_in_place(module_name: str, name: str, make: Callable[[Any], Any]) -> None:
    """Replaces what is no function: a module that an endpoint uses.

    Args:
        module_name: of MONAI Label, in full.
        name: of what is replaced in it.
        make: takes the host's, returns what takes its place.
    """
    module = sys.modules.get(module_name)
    if module is not None:
        setattr(module, name, make(_originals(module).setdefault(name, getattr(module, name))))


def take_off() -> None:
    """Leaves every module as MONAI Label ships it."""
    for module in [module for name, module in list(sys.modules.items()) if name.startswith("monailabel.")]:
        for name, host in vars(module).pop(_ORIGINALS, {}).items():
            setattr(module, name, host)
        vars(module).pop(_MENDS, {}).clear()


def _originals(module: ModuleType) -> dict[str, Any]:
    return vars(module).setdefault(_ORIGINALS, {})
