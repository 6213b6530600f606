"""How an upstream is reached where not simply directly: a proxy, authorities of one's own, a client certificate."""

from __future__ import annotations

import base64
import os
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ownward.core import UsageError
from ownward.policy import Origin
from ownward.upstreams.certificates import PemFile, load_chain

_BUNDLES = (
    Path("/etc/ssl/cert.pem"),  # macOS, Alpine
    Path("/etc/ssl/certs/ca-certificates.crt"),  # Debian
    Path("/etc/pki/tls/certs/ca-bundle.crt"),  # Fedora
)
_ALLOWED = 'A proxy is scheme, host and port, perhaps with user and password: "http://proxy.example:3128"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """An HTTP proxy; `authorization` is what it is shown, and it is shown nowhere else."""

    origin: Origin
    authorization: str | None = field(default=None, repr=False)

    @staticmethod
    def parse(url: str) -> Proxy:
        """Return the proxy of a URL, whose user and password are percent-encoded.

        Raises: UsageError, which does not show the URL, since it may hold a password.

        >>> Proxy.parse("http://me:s3cret@proxy.example:3128")
        Proxy(origin=Origin(scheme='http', host='proxy.example', port=3128))
        """
        try:
            parts = urlsplit(url)
        except ValueError:
            raise _refuse() from None
        login, _, address = parts.netloc.rpartition("@")
        if parts.path not in {"", "/"} or parts.query or parts.fragment or not url.isprintable():
            raise _refuse()
        try:
            origin = Origin.parse(f"{parts.scheme}://{address}")
        except UsageError:
            raise _refuse() from None
        return Proxy(origin=origin, authorization=_basic(login) if login else None)

    def __str__(self) -> str:
        """Return its origin, without user and password."""
        return str(self.origin)


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """The way to an upstream; without anything stated it is direct, trusting the system's authorities.

    `ca_file` holds the authorities (PEM) to trust instead of the system's, of the
    upstream and of a proxy spoken to over TLS. `client_cert_file` holds the
    certificate chain shown to the upstream, `client_key_file` its key where that is
    not in the same file. `HTTPS_PROXY` and its like change nothing.
    Raises: UsageError, if a key has no certificate, or a certificate would be shown
    to a proxy.
    """

    proxy: Proxy | None = None
    ca_file: Path | None = None
    client_cert_file: Path | None = None
    client_key_file: Path | None = None

    def __post_init__(self) -> None:
        """Refuse what has no meaning."""
        if self.client_key_file is not None and self.client_cert_file is None:
            raise UsageError("client_key_file is stated without client_cert_file", next_step="State both, or neither")
        if self.proxy is not None and self.proxy.origin.scheme == "https" and self.client_cert_file is not None:
            raise UsageError(
                f"a client certificate would be shown to the proxy {self.proxy} too, which is spoken to over TLS",
                allowed="A proxy whose url begins with http://; TLS to the upstream goes through it all the same",
            )

    @property
    def through(self) -> str:
        """Through what it leads, as the end of a phrase; empty without a proxy."""
        return "" if self.proxy is None else f" through its proxy {self.proxy}"

    @property
    def is_direct(self) -> bool:
        """Whether nothing at all is stated."""
        return self.proxy is None and self.ca_file is None and self.client_cert_file is None


DIRECT = Way()


def make_tls_context(way: Way) -> ssl.SSLContext:
    """Return what TLS verifies and shows on this way; certificate and host name are always verified.

    Raises: ConfigError, naming the file that cannot be read or used; a key with a
    passphrase cannot be.
    """
    ca_file = _system_bundle() if way.ca_file is None else way.ca_file
    try:
        context = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    except (OSError, ValueError) as error:
        if way.ca_file is None:
            raise
        raise PemFile("ca_file", way.ca_file).unusable(_why(error), "A file of certificates in PEM") from None
    context.set_alpn_protocols(["http/1.1"])
    if way.client_cert_file is not None:
        cert = PemFile("client_cert_file", way.client_cert_file)
        key = cert if way.client_key_file is None else PemFile("client_key_file", way.client_key_file)
        load_chain(context, cert, key)
    return context


def _system_bundle() -> Path | None:
    """Return the system's authorities for a Python that was built to look elsewhere, as the one of python.org on macOS.

    None where Python finds some itself, or somebody has said where (`SSL_CERT_FILE`), found or not.
    """
    paths = ssl.get_default_verify_paths()
    is_stated = any(name in os.environ for name in (paths.openssl_cafile_env, paths.openssl_capath_env))
    if is_stated or paths.cafile or _holds_some(paths.capath) or os.name == "nt":
        return None
    return next((bundle for bundle in _BUNDLES if bundle.is_file()), None)


def _holds_some(folder: str | None) -> bool:
    try:
        return folder is not None and any(Path(folder).iterdir())
    except OSError:
        return False


def _basic(login: str) -> str:
    user, _, password = login.partition(":")
    user, password = unquote(user), unquote(password)
    if ":" in user or not (user + password).isprintable():
        raise _refuse()
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode("ascii")


def _refuse() -> UsageError:
    return UsageError("a proxy's url is not an http(s) proxy", allowed=_ALLOWED)


def _why(error: OSError | ValueError) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "no PEM").replace("_", " ").lower()
    return (error.strerror if isinstance(error, OSError) else None) or "it holds nothing that can be read"
