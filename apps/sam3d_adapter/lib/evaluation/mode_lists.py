"""Lists of modes and seeds as users write them."""

from lib.evaluation.simulated_user import ModeError, clicks_at_once

MODE_SETS = {
    "all": ("centre", "random", "jitter"),
    "paper": ("paper-1", "paper-3", "paper-10"),
}


def read_modes(text: str) -> tuple[str, ...]:
    """Modes with commas between them, or the names of `MODE_SETS`; each once.

    Raises:
        ModeError: no mode, or one that does not exist.
    """
    modes: list[str] = []
    for name in filter(None, (part.strip() for part in text.split(","))):
        modes += MODE_SETS.get(name, (name,))
    for mode in modes:
        clicks_at_once(mode)  # raises for a mode that does not exist
    if not modes:
        raise ModeError("No mode is given.")
    return tuple(dict.fromkeys(modes))


def read_seeds(text: str) -> tuple[int, ...]:
    """Whole numbers with commas between them; each once.

    Raises:
        ModeError: something else.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise ModeError(f"--seeds {text} are no whole numbers; give them like 42,43,44.")
    return tuple(dict.fromkeys(map(int, parts)))
