"""A certificate chain and its key, read from files: what is shown, by our listener or to an upstream."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from ownward.core import ConfigError, Fault

_READABLE = "A file in PEM that this user may read"
_CHAIN = "The certificate in PEM, followed by those of its issuers but the root"
_KEY = "The certificate's key in PEM, without a passphrase"


@dataclass(frozen=True, slots=True)
class PemFile:
    """A file in PEM, and the setting that names it."""

    setting: str
    path: Path

    def unusable(self, why: str, allowed: str, *, next_step: str | None = None) -> ConfigError:
        """Return what to say where it cannot be used."""
        fault = Fault(file=str(self.path), key=self.setting, message=f"cannot be used: {why}", allowed=allowed)
        return ConfigError([fault], next_step=next_step)


def load_chain(context: ssl.SSLContext, cert: PemFile, key: PemFile, *, next_step: str | None = None) -> None:
    """Have `context` show a certificate chain; `cert` and `key` may be the same file.

    Raises: ConfigError, naming the file that cannot be used; a key with a passphrase cannot be.
    """
    for file in (cert, key):
        try:
            file.path.read_bytes()
        except OSError as error:
            raise file.unusable(error.strerror or "it cannot be read", _READABLE, next_step=next_step) from None
    try:
        # Without a passphrase given, OpenSSL would ask for one at the terminal and wait.
        context.load_cert_chain(cert.path, key.path, password=lambda: "")
    except (OSError, ValueError) as error:
        file, why, allowed = _blame(error, cert, key)
        raise file.unusable(why, allowed, next_step=next_step) from None


def _blame(error: OSError | ValueError, cert: PemFile, key: PemFile) -> tuple[PemFile, str, str]:
    """Return the file that is at fault, why, and what would do, from OpenSSL's few words."""
    reason = getattr(error, "reason", None) or ""
    if reason == "KEY_VALUES_MISMATCH":
        return key, f"it is not the key of {cert.path}", "The key that the certificate was made for"
    if b"BEGIN CERTIFICATE" not in cert.path.read_bytes():
        return cert, "it holds no certificate", _CHAIN
    key_text = key.path.read_bytes()
    if b"ENCRYPTED" in key_text:
        return key, "it has a passphrase, and nobody is there to type it", _KEY
    if b"PRIVATE KEY" not in key_text:
        return key, "it holds no private key", _KEY
    return cert, reason.replace("_", " ").lower() or "it is not PEM", _CHAIN
