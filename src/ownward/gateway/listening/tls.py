"""TLS of our own listener: which certificate it shows, read again without a restart.

TLS to upstreams is the outbound door's.
"""

from __future__ import annotations

import logging
import ssl
import stat
import sys
from pathlib import Path

from ownward.core import Clock, ConfigError, Fault
from ownward.gateway.listening.lifetime import Lifetime, read_lifetime
from ownward.gateway.settings import GatewaySettings

_LOG = logging.getLogger("ownward.gateway")
_OTHERS_MAY_READ = stat.S_IRWXG | stat.S_IRWXO


class ListenerTls:
    """The certificate chain and key of the listener; `context` is what asyncio's server takes."""

    def __init__(self, cert_file: Path, key_file: Path) -> None:
        """Read both files.

        Raises: ConfigError, naming the file that cannot be used.
        """
        self._cert_file = cert_file
        self._key_file = key_file
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
        self.context.set_alpn_protocols(["http/1.1"])
        self._lifetime: Lifetime | None = None
        self.reload()

    def reload(self) -> None:
        """Read both files again, for connections that come from now on; those that are open keep what they have.

        Raises: ConfigError, and the old certificate stays.
        """
        _try_files(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), self._cert_file, self._key_file)
        _try_files(self.context, self._cert_file, self._key_file)
        self._lifetime = read_lifetime(self.context, self._cert_file)
        if sys.platform != "win32" and self._key_file.stat().st_mode & _OTHERS_MAY_READ:
            _LOG.warning(
                "the key %s can be read by other users of this machine; run: chmod 600 %s",
                self._key_file,
                self._key_file,
            )

    def look(self, clock: Clock) -> None:
        """Log that the certificate has expired, or soon will; to be called now and then, as nothing else tells."""
        remark = None if self._lifetime is None else self._lifetime.remark(self._cert_file, clock.now())
        if remark is not None:
            _LOG.log(*remark)


def listener_tls(settings: GatewaySettings) -> ListenerTls | None:
    """Return the listener's TLS; None where it speaks plain HTTP.

    Raises: ConfigError, naming the file that cannot be used.
    """
    if settings.tls_cert_file is None:
        return None
    return ListenerTls(settings.tls_cert_file, settings.tls_key_file or settings.tls_cert_file)


def _try_files(context: ssl.SSLContext, cert_file: Path, key_file: Path) -> None:
    for key, path in (("tls_cert_file", cert_file), ("tls_key_file", key_file)):
        try:
            path.read_bytes()
        except OSError as error:
            raise _unusable(key, path, error.strerror or "it cannot be read", _READABLE) from None
    try:
        # Without a passphrase given, OpenSSL would ask for one at the terminal and wait.
        context.load_cert_chain(cert_file, key_file, password=lambda: "")
    except (OSError, ValueError) as error:
        key, path, why, allowed = _blame(error, cert_file, key_file)
        raise _unusable(key, path, why, allowed) from None


def _blame(error: OSError | ValueError, cert_file: Path, key_file: Path) -> tuple[str, Path, str, str]:
    """Return the file that is at fault, why, and what would do, from OpenSSL's few words."""
    reason = getattr(error, "reason", None) or ""
    if reason == "KEY_VALUES_MISMATCH":
        return (
            "tls_key_file",
            key_file,
            f"it is not the key of {cert_file}",
            "The key that the certificate was made for",
        )
    if b"BEGIN CERTIFICATE" not in cert_file.read_bytes():
        return "tls_cert_file", cert_file, "it holds no certificate", _CHAIN
    key_text = key_file.read_bytes()
    if b"ENCRYPTED" in key_text:
        return "tls_key_file", key_file, "it has a passphrase, and nobody is there to type it", _KEY
    if b"PRIVATE KEY" not in key_text:
        return "tls_key_file", key_file, "it holds no private key", _KEY
    return "tls_cert_file", cert_file, reason.replace("_", " ").lower() or "it is no PEM", _CHAIN


_READABLE = "A file in PEM that this user may read"
_CHAIN = "The server's certificate in PEM, followed by those of its issuers but the root"
_KEY = "The certificate's key in PEM, without a passphrase"


def _unusable(key: str, path: Path, why: str, allowed: str) -> ConfigError:
    return ConfigError(
        [Fault(file=str(path), key=f"server.{key}", message=f"cannot be used: {why}", allowed=allowed)],
        next_step="To try TLS on this machine, make a certificate as docs/how-to/serve-over-tls.md shows",
    )
