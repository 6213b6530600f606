"""Ways: what a proxy's URL may be, what is never shown, which files can be used."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from ownward.core import ConfigError, MissingExtra, UpstreamUnreachable, UsageError
from ownward.policy import Label, Place, issue_permit
from ownward.upstreams import DIRECT, Door, Http1Transport, Proxy, Way, make_transport, ways
from ownward.upstreams.ways import make_tls_context


def test_a_proxys_url_is_read_and_its_password_shown_by_nothing():
    proxy = Proxy.parse("http://me%40home:p%3Ass%2Fw%C3%B6rd@Proxy.Example:3128/")
    assert str(proxy) == "http://proxy.example:3128"
    assert proxy.authorization == "Basic bWVAaG9tZTpwOnNzL3fDtnJk"
    assert "bWVA" not in repr(proxy) + repr(Way(proxy=proxy)) + f"{proxy}"
    assert Proxy.parse("https://proxy.example").authorization is None


@pytest.mark.parametrize(
    "url",
    [
        "",
        "proxy.example:3128",
        "socks5://hunter2@proxy.example",
        "http://hunter2:x@",
        "http://hunter2:x@proxy.example/path",
        "http://hunter2:x@proxy.example?q",
        "http://hunter2:x@proxy.example#f",
        "http://hunter2:x@proxy.example:99999",
        "http://a%3Ahunter2:x@proxy.example",
        "http://a%0Ahunter2:x@proxy.example",
        "http://hunter2\r\n:x@proxy.example",
        "http://[hunter2@proxy.example",
    ],
)
def test_what_is_no_proxy_is_refused_without_being_shown(url):
    with pytest.raises(UsageError) as caught:
        Proxy.parse(url)
    assert "hunter2" not in str(caught.value) + repr(caught.value)
    assert caught.value.__cause__ is None


def test_what_has_no_meaning_is_refused():
    with pytest.raises(UsageError, match="without client_cert_file"):
        Way(client_key_file=Path("/k.pem"))
    with pytest.raises(UsageError, match=r"shown to the proxy https://proxy\.example too"):
        Way(proxy=Proxy.parse("https://me:pw@proxy.example"), client_cert_file=Path("/c.pem"))


def test_only_a_proxy_takes_a_call_off_our_own_transport():
    assert isinstance(make_transport(DIRECT), Http1Transport)
    assert not isinstance(make_transport(Way(proxy=Proxy.parse("http://127.0.0.1:1"))), Http1Transport)


@pytest.fixture
def files(tmp_path):
    """A certificate, its key, another key, the key with a passphrase, and a file that is not one of these."""
    authority = trustme.CA()
    cert, other = authority.issue_cert("a.example"), authority.issue_cert("b.example")
    cert.cert_chain_pems[0].write_to_path(tmp_path / "cert")
    cert.private_key_pem.write_to_path(tmp_path / "key")
    other.private_key_pem.write_to_path(tmp_path / "other")
    cert.private_key_and_cert_chain_pem.write_to_path(tmp_path / "both")
    key = serialization.load_pem_private_key(cert.private_key_pem.bytes(), None)
    locked = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x")
    )
    (tmp_path / "locked").write_bytes(locked)
    (tmp_path / "text").write_text("hello")
    (tmp_path / "empty").write_text("")
    return tmp_path


@pytest.mark.parametrize(
    ("stated", "key", "says"),
    [
        ({"ca_file": "none"}, "ca_file", "No such file"),
        ({"ca_file": "text"}, "ca_file", "no certificate"),
        ({"ca_file": "empty"}, "ca_file", "cannot be used"),
        ({"ca_file": "."}, "ca_file", "cannot be used"),
        ({"client_cert_file": "none", "client_key_file": "key"}, "client_cert_file", "No such file"),
        ({"client_cert_file": "cert", "client_key_file": "none"}, "client_key_file", "No such file"),
        ({"client_cert_file": "cert"}, "client_cert_file", "it holds no private key"),
        ({"client_cert_file": "cert", "client_key_file": "other"}, "client_key_file", "it is not the key of"),
        ({"client_cert_file": "cert", "client_key_file": "locked"}, "client_key_file", "it has a passphrase"),
        ({"client_cert_file": "text", "client_key_file": "key"}, "client_cert_file", "it holds no certificate"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_and_nobody_is_asked_for_a_passphrase(files, stated, key, says):
    way = Way(**{name: files / value for name, value in stated.items()})
    with pytest.raises(ConfigError, match=says) as caught:
        make_tls_context(way)
    assert caught.value.faults[0].key == key
    assert str(files) in str(caught.value)


def test_certificate_and_key_may_stand_in_one_file(files):
    make_tls_context(Way(client_cert_file=files / "both"))
    make_tls_context(Way(client_cert_file=files / "cert", client_key_file=files / "key"))


def test_without_aiohttp_a_proxy_is_refused_with_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    way = Way(proxy=Proxy.parse("http://127.0.0.1:1"))
    with pytest.raises(MissingExtra, match="aiohttp") as caught:
        make_transport(way)
    assert "ownward[proxy]" in str(caught.value)

    async def main():
        permit = issue_permit(
            label=Label.parse("any"), place=Place(region="eu", is_local=False), upstream="u",
            origin="https://a.example", body=b"",
        )  # fmt: skip
        async with Door() as door:
            with pytest.raises(UpstreamUnreachable, match=r"ownward\[proxy\]"):
                await door.send(permit, method="GET", target="/", headers=(), way=way)

    asyncio.run(main())


def test_the_door_opens_without_loading_aiohttp():
    program = "import sys, ownward.upstreams; sys.exit('aiohttp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.fixture
def system_authority(monkeypatch, tmp_path):
    """Return whether the system's authorities are trusted by a Python that was built to look for some elsewhere."""
    bundle = tmp_path / "cert.pem"
    trustme.CA(organization_name="the system's").cert_pem.write_to_path(bundle)
    monkeypatch.setattr(ways, "_BUNDLES", (tmp_path / "not-there.pem", bundle))
    (tmp_path / "certs").mkdir()

    def is_trusted(**found: str | None) -> bool:
        paths = ssl.DefaultVerifyPaths(
            cafile=found.get("cafile"), capath=found.get("capath", str(tmp_path / "certs")),
            openssl_cafile_env="SSL_CERT_FILE", openssl_cafile="/elsewhere/cert.pem",
            openssl_capath_env="SSL_CERT_DIR", openssl_capath=str(tmp_path / "certs"),
        )  # fmt: skip
        monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: paths)
        return "the system's" in str(make_tls_context(DIRECT).get_ca_certs())

    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    return is_trusted


@pytest.mark.skipif(sys.platform == "win32", reason="Python reads Windows' own store")
def test_a_python_that_finds_no_authorities_trusts_those_of_the_system(system_authority):
    """That of python.org on macOS looks in a folder that stays empty until one of its scripts is run."""
    assert system_authority()
    assert system_authority(capath=None)


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_authorities_that_somebody_named_are_not_added_to_also_where_they_are_not_there(
    system_authority, monkeypatch, name
):
    monkeypatch.setenv(name, "/nowhere")
    assert not system_authority()


def test_authorities_that_python_finds_are_not_added_to(system_authority, tmp_path):
    assert not system_authority(cafile=str(tmp_path / "its-own.pem"))
    (tmp_path / "certs" / "5ed36f99.0").touch()
    assert not system_authority()
