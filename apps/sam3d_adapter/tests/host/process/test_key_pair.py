"""Certificates and keys: what a server is started with, and what is refused."""

import os
import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from lib.host.process import key_pair
from lib.host.process.key_pair import VALID_DAYS, KeyPair, KeyPairError, self_signed


def test_a_pair_of_its_own_proves_who_the_server_is(tmp_path: Path) -> None:
    pair = self_signed(tmp_path / "tls", "127.0.0.1")
    pair.require_usable()
    assert pair.key.stat().st_mode & 0o777 == 0o600
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pair.certificate, pair.key)
    ours, theirs = socket.socketpair()

    def answer() -> None:
        with server.wrap_socket(ours, server_side=True) as secure:
            secure.sendall(b"yes")

    thread = threading.Thread(target=answer)
    thread.start()
    trusting = ssl.create_default_context(cafile=pair.certificate)
    with trusting.wrap_socket(theirs, server_hostname="127.0.0.1") as secure:
        assert secure.recv(3) == b"yes"
    thread.join()


def test_a_pair_is_kept_until_it_runs_out_or_lacks_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def serial(host: str) -> int:
        return x509.load_pem_x509_certificate(self_signed(tmp_path, host).certificate.read_bytes()).serial_number

    first = serial("127.0.0.1")
    assert serial("localhost") == first
    second = serial("192.0.2.7")
    assert second != first and serial("192.0.2.7") == second

    class NextYear(datetime):
        @classmethod
        def now(cls, tz: object = None) -> "NextYear":
            return cls.fromtimestamp(datetime.now(UTC).timestamp(), UTC) + timedelta(days=VALID_DAYS)

    monkeypatch.setattr(key_pair, "datetime", NextYear)
    assert serial("192.0.2.7") != second
    (tmp_path / "key.pem").unlink()
    KeyPair(tmp_path / "certificate.pem", self_signed(tmp_path, "::").key).require_usable()


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "tls").write_text("no folder")
    with pytest.raises(KeyPairError, match=r"No certificate can be written to .*--tls-cert and --tls-key"):
        self_signed(tmp_path / "tls", "127.0.0.1")


def test_pairs_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    one, other = self_signed(tmp_path / "one", "127.0.0.1"), self_signed(tmp_path / "other", "127.0.0.1")
    with pytest.raises(KeyPairError, match=r"The key in .* does not belong to the certificate in"):
        KeyPair(one.certificate, other.key).require_usable()
    with pytest.raises(KeyPairError, match=r"--tls-cert is .*absent\.pem, which is no file"):
        KeyPair(tmp_path / "absent.pem", one.key).require_usable()
    with pytest.raises(KeyPairError, match=r"--tls-key is .*one, which is no file"):
        KeyPair(one.certificate, tmp_path / "one").require_usable()
    (tmp_path / "text.pem").write_text("no certificate")
    with pytest.raises(KeyPairError, match="both as PEM, are expected"):
        KeyPair(tmp_path / "text.pem", one.key).require_usable()
    # A key with a password: nobody is asked for it.
    secret = serialization.load_pem_private_key(one.key.read_bytes(), None)
    locked = secret.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret")
    )
    (tmp_path / "locked.pem").write_bytes(locked)
    with pytest.raises(KeyPairError, match="without password"):
        KeyPair(one.certificate, tmp_path / "locked.pem").require_usable()
    if os.getuid():
        one.key.chmod(0)
        with pytest.raises(KeyPairError, match="cannot be read"):
            one.require_usable()
