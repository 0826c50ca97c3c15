"""Records what users see of this version of the code, as the goldens that ``test_golden.py`` compares with.

    cd apps/sam3d_adapter && python -m tests.golden.record

takes two to four minutes. Run it where an answer is meant to change, and read the difference in ``recorded/*.json``
before it is committed. Masks are compared bit for bit only on the kind of machine that ``recorded/machine.json`` names.
"""

import tempfile
from pathlib import Path

from tests.golden.observe import observe
from tests.golden.store import FOLDER, write


def main() -> None:
    """Write the goldens anew."""
    with tempfile.TemporaryDirectory() as folder:
        write(observe(Path(folder).resolve()))
    print(f"Recorded in {FOLDER}.")


if __name__ == "__main__":
    main()
