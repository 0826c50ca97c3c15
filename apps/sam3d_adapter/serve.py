"""``make serve``: this app in MONAI Label's own server, on the loopback device unless told otherwise."""

import argparse
import logging
import os
import sys
from pathlib import Path

from lib.host.process.launch import LOOPBACK, LaunchError, require_free_port, server_command, server_environment

APP_DIR = Path(__file__).resolve().parent


def main() -> int:
    """Check what can be checked beforehand, then become the server."""
    arguments = _arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    log = logging.getLogger("serve")
    is_dicomweb = arguments.studies.startswith(("http://", "https://"))
    studies = arguments.studies if is_dicomweb else str(Path(arguments.studies).expanduser().resolve())
    if not is_dicomweb and not Path(studies).is_dir():
        log.error("STUDIES=%s is neither a folder nor the URL of a DICOMweb server", arguments.studies)
        return 1
    try:
        require_free_port(arguments.port, arguments.host)
    except LaunchError as error:
        log.error("%s", error)
        return 1
    if arguments.host != LOOPBACK:
        log.warning("Everybody who reaches %s can read and write here: MONAI Label asks nobody who he is. "
                    "Put a proxy with TLS and a login before it.", arguments.host)  # fmt: skip
    url = f"http://{arguments.host}:{arguments.port}"
    log.info(
        "Ready in about 10 s at %s/ (%s)", url, "OHIF: /ohif/" if is_dicomweb else "3D Slicer, MITK, Python client"
    )
    conf = dict(arguments.conf or ())
    if arguments.preset:
        conf["models"] = arguments.preset
    command = server_command(APP_DIR, studies, port=arguments.port, host=arguments.host, conf=conf)
    os.execve(sys.executable, command, server_environment())


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python apps/sam3d_adapter/serve.py", description=__doc__)
    parser.add_argument("--studies", required=True, help="folder of images, or http://.../dicom-web")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--host", default=LOOPBACK)
    parser.add_argument("--preset", help="presets to offer, with commas (default: all)")
    parser.add_argument("--conf", nargs=2, action="append", metavar=("KEY", "VALUE"), help="a setting of the app")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
