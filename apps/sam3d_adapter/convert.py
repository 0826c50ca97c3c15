"""Make the files of a preset from a checkpoint of the 3DSAM-adapter authors and SAM's own file."""

import logging
from pathlib import Path

from lib.cli.convert import run

APP_DIR = Path(__file__).resolve().parent


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    raise SystemExit(run(None, APP_DIR))
