"""Train the small weights that ship anew: ``python make_weights.py --help``."""

import os

# Before torch is loaded: there will be a process for each core, whose threads would take the cores from each other.
os.environ["OMP_NUM_THREADS"] = "1"

from lib.cli.weights import run

if __name__ == "__main__":
    raise SystemExit(run())
