"""How long the certificate that we show is valid, and what there is to say of it to who can renew it."""

from __future__ import annotations

import logging
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

_NO_CHECK_TIME: Final = 0x200000
"""OpenSSL's X509_V_FLAG_NO_CHECK_TIME, which Python does not name: what has expired is looked at too."""

_ROUNDS: Final = 4  # of messages, until a handshake is over: TLS 1.3 takes two
_SOON: Final = timedelta(days=14)
_SOON_FRACTION: Final = 4
"""Of certificates that live for days this part of their time is soon: whoever renews them does so before."""

_RENEW: Final = "put a renewed one in its place and send SIGHUP (to serve itself, not to a worker)"


@dataclass(frozen=True, slots=True)
class Lifetime:
    """From when until when a certificate is valid."""

    begins_at: datetime
    ends_at: datetime

    def remark(self, cert_file: Path, now: datetime) -> tuple[int, str] | None:
        """Return what to log of the certificate, and at which level; None where it stays valid for a while."""
        if now < self.begins_at:
            return logging.ERROR, (
                f"the certificate {cert_file} is valid from {_told(self.begins_at)} on, and the clock of this machine"
                f" says {_told(now)}: clients that verify it do not connect; set the clock, or {_RENEW}"
            )
        if now >= self.ends_at:
            return logging.ERROR, (
                f"the certificate {cert_file} expired on {_told(self.ends_at)}: clients that verify it do not"
                f" connect; {_RENEW}"
            )
        if self.ends_at - now < min(_SOON, (self.ends_at - self.begins_at) / _SOON_FRACTION):
            return logging.WARNING, f"the certificate {cert_file} expires on {_told(self.ends_at)}; {_RENEW}"
        return None


def read_lifetime(server: ssl.SSLContext, cert_file: Path) -> Lifetime | None:
    """Return how long the certificate is valid that `server` shows; None where OpenSSL does not say.

    It is shown to a client of our own, in memory: the standard library tells what is in a certificate only of a peer
    that was verified.
    """
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | _NO_CHECK_TIME
    client.load_verify_locations(cert_file)
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = client.wrap_bio(to_client, to_server), server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(_ROUNDS):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError:  # such as of one that is for clients: whoever connects hears of it
                return None
    shown = ends[0].getpeercert()
    if not shown:
        return None
    return Lifetime(_moment(shown["notBefore"]), _moment(shown["notAfter"]))


def _moment(text: object) -> datetime:
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(str(text)), UTC)


def _told(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
