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
    from lib.host.log.form import form_log
    from lib.host.log.privacy import keep_values_out_of_the_log

    sys.path.remove(app_dir)
    keep_values_out_of_the_log()
    from monailabel.main import Main

    # It sets up the log.
    server = Main()
    form_log()
    server.run()


if __name__ == "__main__":
    main()
