"""``sam3d serve``: this app in MONAI Label's own server, on the loopback device unless told otherwise."""

import logging
import os
import sys
from pathlib import Path

import click

from lib.cli.app_dir import pass_app_dir
from lib.host.process.key_pair import KeyPair, KeyPairError, self_signed
from lib.host.process.launch import (
    LOOPBACK,
    LaunchError,
    is_loopback,
    require_free_port,
    server_command,
    server_environment,
    url_of,
)


@click.command(short_help="Start the server for OHIF, 3D Slicer and MITK.")
@click.option("--studies", required=True, help="Folder of images, or the URL of a DICOMweb server.")
@click.option("--port", type=int, default=8000, show_default=True, help="TCP port to listen on.")
@click.option(
    "--host",
    default=LOOPBACK,
    show_default=True,
    help="Address to listen on. With another one than this machine's own, put a proxy with TLS and a login before it.",
)
@click.option("--preset", help="Presets to offer, with commas: ct,mr.  [default: all]")
@click.option(
    "--conf", nargs=2, multiple=True, metavar="KEY VALUE", help="A setting of the server; may be given several times."
)
@click.option(
    "--tls-cert", type=click.Path(path_type=Path), metavar="FILE", help="Certificate (PEM) to answer https with."
)
@click.option("--tls-key", type=click.Path(path_type=Path), metavar="FILE", help="The private key of that certificate.")
@click.option(
    "--tls-self-signed", is_flag=True, help="For a trial: https with a certificate of its own, kept in APP/tls."
)
@click.option("--review-only", is_flag=True, help="Images, labels and reviews alone: no model is loaded or trained.")
@click.option(
    "--ohif",
    type=click.Path(exists=True, file_okay=False, resolve_path=True),
    metavar="FOLDER",
    help="A built OHIF to serve in place of the one that comes with MONAI Label (docs/ohif.md).",
)
@pass_app_dir
def serve(
    app_dir: Path,
    studies: str,
    port: int,
    host: str,
    preset: str | None,
    conf: tuple[tuple[str, str], ...],
    tls_cert: Path | None,
    tls_key: Path | None,
    tls_self_signed: bool,
    review_only: bool,
    ohif: str | None,
) -> None:
    """Start the server for OHIF, 3D Slicer and MITK.

    \b
    Examples:
      sam3d serve --studies path/to/niftis
      sam3d serve --studies http://127.0.0.1:8042/dicom-web --preset ct,mr
      sam3d serve --studies path/to/niftis --conf precision fp32
      sam3d serve --studies path/to/niftis --tls-cert server.pem --tls-key server.key
      sam3d serve --studies path/to/niftis --review-only
      sam3d serve --studies http://127.0.0.1:8042/dicom-web --ohif package/dist
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    log = logging.getLogger("serve")
    is_dicomweb = studies.startswith(("http://", "https://"))
    place = studies if is_dicomweb else str(Path(studies).expanduser().resolve())
    if not is_dicomweb and not Path(place).is_dir():
        log.error("STUDIES=%s is neither a folder nor the URL of a DICOMweb server", studies)
        raise SystemExit(1)
    try:
        tls = _key_pair(app_dir, host, tls_cert, tls_key, tls_self_signed)
    except KeyPairError as error:
        log.error("%s", error)
        raise SystemExit(2) from error
    try:
        require_free_port(port, host)
    except LaunchError as error:
        log.error("%s", error)
        raise SystemExit(1) from error
    if not is_loopback(host):
        log.warning("Everybody who reaches %s can read and write here: MONAI Label asks nobody who he is. "
                    "Put a proxy with TLS and a login before it.", host)  # fmt: skip
    viewers = "OHIF: /ohif/" if is_dicomweb else "3D Slicer, MITK, Python client" if tls else "3D Slicer, Python client"
    if tls_self_signed and tls:
        log.info("Nobody else signed the certificate, so clients ask whether to trust it: %s", tls.certificate)
    url = url_of(host, port, "https" if tls else "http")
    log.info("Ready in about 10 s at %s/ (%s)", url, viewers)
    settings = dict(conf) | ({"models": preset} if preset else {}) | ({"review_only": "yes"} if review_only else {})
    settings |= {"ohif": ohif} if ohif else {}
    command = server_command(app_dir, place, port=port, host=host, conf=settings, tls=tls)
    os.execve(sys.executable, command, server_environment())


def _key_pair(app_dir: Path, host: str, certificate: Path | None, key: Path | None, self_sign: bool) -> KeyPair | None:
    """What to answer https with, checked; None for http.

    Raises:
        KeyPairError: options that contradict one another, or a pair that cannot be used.
    """
    if self_sign and (certificate or key):
        raise KeyPairError("--tls-self-signed makes a pair of its own; leave out --tls-cert and --tls-key, or that.")
    if self_sign:
        return self_signed(app_dir / "tls", host)
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise KeyPairError("--tls-cert and --tls-key belong together, and one of them is missing; give both.")
    # Absolute: the server is another process.
    pair = KeyPair(certificate.expanduser().absolute(), key.expanduser().absolute())
    pair.require_usable()
    return pair
