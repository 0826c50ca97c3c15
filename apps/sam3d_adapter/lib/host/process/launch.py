"""Starts the real MONAI Label server with this app as a child process, on the loopback device unless told otherwise.

The ``monailabel`` script finds its Python through PATH and breaks on paths and settings with spaces, so the module is
run with this very Python instead, by way of ``server_process``. Used by ``make demo``, ``make serve`` and
the tests that need a server.
"""

import contextlib
import ipaddress
import logging
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from lib.host.process.key_pair import KeyPair

logger = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
_POLL_S = 0.2
_STOP_S = 10.0


class LaunchError(RuntimeError):
    """The server cannot be started, with the reason and, where it ran, the end of its log."""


@dataclass(frozen=True)
class RunningServer:
    """A server that answers.

    Attributes:
        url: where it answers, without a slash at the end.
        process: the child process; it leads its own process group.
        log_path: everything the server printed.
    """

    url: str
    process: subprocess.Popen[bytes]
    log_path: Path

    def log_tail(self, lines: int = 20) -> str:
        """The last lines of the server's log."""
        return log_tail(self.log_path, lines)


def free_port(host: str = LOOPBACK) -> int:
    """A TCP port nobody listens on at the moment."""
    with socket.socket(_family(host)) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def require_free_port(port: int, host: str = LOOPBACK) -> None:
    """Find out before ten seconds of imports whether the port can be had.

    Raises:
        LaunchError: somebody uses the port, or it may not be used.
    """
    with socket.socket(_family(host)) as probe:
        # As uvicorn does it: a port whose last connection is just closing counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError) as error:
            raise LaunchError(
                f"Port {port} on {host} cannot be used: {error}. Choose another one with PORT=..."
            ) from error


def is_loopback(host: str) -> bool:
    """Whether an address or name is this machine's own, which no other reaches."""
    try:
        found = socket.getaddrinfo(host, None)
    except (OSError, UnicodeError):
        return False
    # An address of a device may bear its name behind a "%".
    return all(ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback for *_, address in found)


def url_of(host: str, port: int, scheme: str = "http") -> str:
    """Where a server on that address answers, without a slash at the end."""
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def server_command(
    app_dir: Path,
    studies: Path | str,
    *,
    port: int,
    host: str = LOOPBACK,
    conf: Mapping[str, str] | None = None,
    tls: KeyPair | None = None,
) -> list[str]:
    """The command line of the server.

    Args:
        app_dir: folder with main.py; MONAI Label creates model/, logs/ and bin/ in it.
        studies: folder of images, or the URL of a DICOMweb server.
        port: TCP port.
        host: address to listen on.
        conf: the app's settings, ``--conf key value``.
        tls: certificate and key to answer https with; None for http.
    """
    command = [sys.executable, str(Path(__file__).with_name("server_process.py")), "start_server"]
    command += ["--app", str(app_dir), "--studies", str(studies), "--host", host, "--port", str(port)]
    for key, value in (conf or {}).items():
        command += ["--conf", key, value]
    if tls is not None:
        command += ["--ssl_certfile", str(tls.certificate), "--ssl_keyfile", str(tls.key)]
    return command


def server_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of the server: this one, with what MONAI Label needs.

    Whatever is set already stays: an administrator may know better.
    """
    env = dict(os.environ)
    # itkimage2segimage (dcmqi) lies beside this Python; not finding it, MONAI Label downloads it at start.
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env.get('PATH', '')}"
    env.setdefault("PYTHONUNBUFFERED", "1")
    # Automatic scoring after POST /reload makes the server wait for itself.
    env.setdefault("MONAI_LABEL_AUTO_UPDATE_SCORING", "false")
    # Threads that wait for one another by spinning keep the core from the one they wait for: with other work on the
    # machine a click of tiny then took thirty times as long.
    env.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    env.update(extra or {})
    return env


@contextlib.contextmanager
def running_server(
    app_dir: Path,
    studies: Path | str,
    *,
    log_path: Path,
    port: int | None = None,
    conf: Mapping[str, str] | None = None,
    env: Mapping[str, str] | None = None,
    timeout_s: float = 180.0,
    on_wait: Callable[[float], None] | None = None,
) -> Iterator[RunningServer]:
    """A server on the loopback device for the time of the ``with`` block.

    Args:
        app_dir: folder with main.py.
        studies: folder of images (created by MONAI Label if missing), or the URL of a DICOMweb server.
        log_path: file that takes what the server prints; overwritten.
        port: TCP port; a free one if None.
        conf: the app's settings.
        env: environment variables on top of ``server_environment``.
        timeout_s: how long the server may take to answer, in seconds.
        on_wait: called a few times per second with the seconds waited so far, to show progress.

    Raises:
        LaunchError: no app there, port in use, or the server ended or did not answer in time.
    """
    if not (app_dir / "main.py").is_file():
        raise LaunchError(f"{app_dir} holds no MONAI Label app: main.py is missing.")
    port = free_port() if port is None else port
    require_free_port(port)
    url = f"http://{LOOPBACK}:{port}"
    log_path.parent.mkdir(parents=True, exist_ok=True)
    command = server_command(app_dir.resolve(), studies, port=port, conf=conf)
    logger.info("starting %s", command)
    with log_path.open("wb") as log:
        # Its own folder: a module or .env file lying where the user stands must not be picked up.
        # Its own session: stopping it must reach the training processes that it may have started.
        process = subprocess.Popen(
            command,
            cwd=log_path.parent,
            env=server_environment(env),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_for_answer(process, f"{url}/info/", log_path=log_path, timeout_s=timeout_s, on_wait=on_wait)
        yield RunningServer(url, process, log_path)
    finally:
        stop(process)


def wait_for_answer(
    process: subprocess.Popen[bytes],
    url: str,
    *,
    log_path: Path,
    timeout_s: float,
    on_wait: Callable[[float], None] | None = None,
    trusted: ssl.SSLContext | None = None,
) -> None:
    """Return when ``url`` answers with 200: an open port says only that uvicorn runs, not that the app could be built.

    Args:
        process: the server.
        url: to ask.
        log_path: everything the server prints.
        timeout_s: how long it may take, in seconds.
        on_wait: called a few times per second with the seconds waited so far.
        trusted: certificates to trust, of https.

    Raises:
        LaunchError: the process ended, or ``timeout_s`` seconds passed.
    """
    # A proxy named in the environment must not be asked for the loopback device.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trusted))
    began = time.monotonic()
    answer = "nothing"
    while (waited := time.monotonic() - began) < timeout_s:
        if process.poll() is not None:
            raise LaunchError(_failure(f"The server ended with exit status {process.returncode}", log_path))
        if on_wait is not None:
            on_wait(waited)
        try:
            with opener.open(url, timeout=timeout_s) as response:
                response.read()
                return
        except urllib.error.HTTPError as error:
            answer = f"status {error.code}"
            error.close()
        except OSError as error:
            answer = str(error)
        time.sleep(_POLL_S)
    raise LaunchError(_failure(f"The server did not answer at {url} in {timeout_s:.0f} s (last: {answer})", log_path))


def stop(process: subprocess.Popen[bytes]) -> None:
    """End the server and everything it started; returns when the server is gone."""
    started: list[psutil.Process] = []
    with contextlib.suppress(psutil.NoSuchProcess):
        started = psutil.Process(process.pid).children(recursive=True)
    for how in (signal.SIGTERM, signal.SIGKILL):
        # The group outlives its leader while a training process runs.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, how)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_S)
    # Tasks have groups of their own, and end by themselves a moment later.
    for task in started:
        with contextlib.suppress(psutil.NoSuchProcess):
            task.kill()


def log_tail(log_path: Path, lines: int = 20) -> str:
    """The last lines of a log, or an empty text where there is none."""
    try:
        return "\n".join(log_path.read_text(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return ""


def _failure(what: str, log_path: Path) -> str:
    return f"{what}. The end of its log ({log_path}):\n{log_tail(log_path)}"
