"""Certificate and key for https: checked before the server starts, or made for a trial."""

import ipaddress
import os
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

VALID_DAYS = 365


class KeyPairError(ValueError):
    """Certificate and key that cannot be used: what was given, what is expected, what to do."""


@dataclass(frozen=True)
class KeyPair:
    """What a server shows that it is, and proves it with.

    Attributes:
        certificate: PEM file; the server's own certificate first, then those that signed it.
        key: PEM file with the private key, without password.
    """

    certificate: Path
    key: Path

    def require_usable(self) -> None:
        """Passes if a server can use the two.

        Raises:
            KeyPairError: a file is missing or is no such file, or the key is not the certificate's.
        """
        for option, path in (("--tls-cert", self.certificate), ("--tls-key", self.key)):
            if not path.is_file():
                raise KeyPairError(f"{option} is {path}, which is no file; the path of a PEM file is expected.")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            # Asked for a password, OpenSSL would wait at the terminal.
            context.load_cert_chain(self.certificate, self.key, password=lambda: "")
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                text = f"The key in {self.key} does not belong to the certificate in {self.certificate}"
            else:
                text = f"{self.certificate} and {self.key} cannot be used ({error.reason or 'no certificate or key'})"
            raise KeyPairError(
                f"{text}; a certificate and its own key without password, both as PEM, are expected."
            ) from error
        except OSError as error:
            raise KeyPairError(f"The certificate or its key cannot be read: {error}.") from error


def self_signed(folder: Path, host: str) -> KeyPair:
    """A pair that nobody else signed, for the names of this machine; an earlier one is kept while it fits.

    Args:
        folder: has ``certificate.pem`` and ``key.pem``; made if it is not there.
        host: address or name to listen on.

    Raises:
        KeyPairError: the folder cannot be written.
    """
    names = sorted({"localhost", "127.0.0.1", "::1", socket.gethostname(), *_addresses(host)})
    pair = KeyPair(folder / "certificate.pem", folder / "key.pem")
    try:
        if not _is_for(pair, names):
            folder.mkdir(parents=True, exist_ok=True)
            certificate, key = _make(names)
            # The key first: a certificate is not used without it.
            pair.key.unlink(missing_ok=True)
            with os.fdopen(os.open(pair.key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(key)
            pair.certificate.write_bytes(certificate)
    except OSError as error:
        raise KeyPairError(
            f"No certificate can be written to {folder}: {error}. Give a pair with --tls-cert and --tls-key."
        ) from error
    return pair


def _addresses(host: str) -> set[str]:
    """What clients call a server that listens on ``host``."""
    if host not in ("0.0.0.0", "::"):
        return {host}
    devices = psutil.net_if_addrs().values()
    return {each.address for device in devices for each in device if each.family == socket.AF_INET}


def _is_for(pair: KeyPair, names: Sequence[str]) -> bool:
    """Whether a pair can be used for another day, under all these names."""
    try:
        pair.require_usable()
        certificate = x509.load_pem_x509_certificate(pair.certificate.read_bytes())
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (KeyPairError, ValueError, x509.ExtensionNotFound):
        return False
    known = {str(name.value) for name in found}
    return known >= set(names) and certificate.not_valid_after_utc > datetime.now(UTC) + timedelta(days=1)


def _make(names: Sequence[str]) -> tuple[bytes, bytes]:
    """Certificate and key as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "sam3d serve, self-signed")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=VALID_DAYS))
        .add_extension(x509.SubjectAlternativeName([_alternative(text) for text in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM), secret


def _alternative(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)
