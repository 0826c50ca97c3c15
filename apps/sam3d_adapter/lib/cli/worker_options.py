"""The options of commands that work on many cases: where they do it."""

from functools import wraps
from typing import Any

import click

from lib.workers.choice import WorkerChoice


def with_workers(command: Any) -> Any:
    """Gives a command ``workers``, a `WorkerChoice`."""

    @click.option(
        "--workers",
        "count",
        type=click.IntRange(min=1),
        default=1,
        help="Processes of Ray to work in; one that is lost is replaced.  [default: without Ray]",
    )
    @click.option("--cluster", metavar="ADDRESS", help="The Ray cluster that has them.  [default: this machine]")
    @wraps(command)
    def with_choice(*args: Any, count: int, cluster: str | None, **options: Any) -> None:
        command(*args, workers=WorkerChoice(count, cluster), **options)

    return with_choice
