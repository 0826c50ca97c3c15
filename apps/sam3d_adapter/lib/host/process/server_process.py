"""MONAI Label's server with a log that is clean from its first line; run as a file, with MONAI Label's arguments.

``monailabel start_server`` prints its arguments, the folder of studies among them, before it knows of any app. Started
here, it cannot: everything else is as there.
"""

import sys
from pathlib import Path


def main() -> None:
    """Becomes the server."""
    app_dir = str(Path(__file__).resolve().parents[3])
    # In place of this file's folder, and for these imports only: MONAI Label puts the app there when it loads it.
    sys.path[0] = app_dir
    from lib.host.log.form import use_logfmt
    from lib.host.log.privacy import remove_values_from_log

    sys.path.remove(app_dir)
    remove_values_from_log()
    from monailabel.main import Main

    # It sets up the log.
    server = Main()
    use_logfmt()
    server.run()


if __name__ == "__main__":
    main()
