"""Fine-tune a preset on submitted labels: ``python finetune.py --help``."""

import os
import sys
from pathlib import Path

# Before torch is loaded: waiting threads leave the cores to the server and to the other processes.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

APP_DIR = Path(__file__).resolve().parent

if __name__ == "__main__":
    sys.path.insert(0, str(APP_DIR))
    from lib.cli.finetune import main

    raise SystemExit(main(APP_DIR))
