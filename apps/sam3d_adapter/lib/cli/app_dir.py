"""How a command gets the app folder."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import click


def pass_app_dir(command: Callable[..., None]) -> Callable[..., None]:
    """Hands the app folder to a command as its first argument.

    The program's ``obj`` is a function that finds the folder, or makes it; so ``--help`` makes none.
    """

    @click.pass_obj
    @wraps(command)
    def with_app_dir(find: Callable[[], Any], *args: Any, **options: Any) -> None:
        command(find(), *args, **options)

    return with_app_dir
