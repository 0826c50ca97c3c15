"""The versions of a preset's weights: what there is, what is served, and changing it by hand.

    versions.py list --preset ct
    versions.py publish v0003-1a2b3c4d --preset ct --by "Dr. Jones" --reason "better on our scanner"
    versions.py roll-back --preset ct --by "Dr. Jones"

A running server takes what is published at its next click. Exit status 0: done; 1: refused, with the reason.
"""

import logging
from pathlib import Path

from lib.cli.versions import run
from lib.registry.registry import DEFAULT_LEARNING_DIR

APP_DIR = Path(__file__).resolve().parent


def main(command: list[str] | None = None) -> int:
    """Reads the command line; the exit status."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    return run(command, APP_DIR, str(__doc__), DEFAULT_LEARNING_DIR)


if __name__ == "__main__":
    raise SystemExit(main())
