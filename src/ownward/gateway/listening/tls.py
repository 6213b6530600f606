"""TLS of our own listener: which certificate it shows, read again without a restart.

TLS to upstreams is the outbound door's.
"""

from __future__ import annotations

import logging
import ssl
import stat
import sys
from pathlib import Path

from ownward.core import Clock
from ownward.gateway.listening.lifetime import Lifetime, read_lifetime
from ownward.gateway.settings import GatewaySettings
from ownward.upstreams import PemFile, load_chain

_LOG = logging.getLogger("ownward.gateway")
_OTHERS_MAY_READ = stat.S_IRWXG | stat.S_IRWXO
_NEXT_STEP = "To try TLS on this machine, make a certificate as docs/how-to/serve-over-tls.md shows"


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

    def log_expiry(self, clock: Clock) -> None:
        """Log a certificate that has expired or soon will; call it now and then, as nothing else notices."""
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
    cert = PemFile("server.tls_cert_file", cert_file)
    key = PemFile("server.tls_key_file", key_file) if key_file != cert_file else cert
    load_chain(context, cert, key, next_step=_NEXT_STEP)
