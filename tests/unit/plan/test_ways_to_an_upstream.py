"""Proxies, authorities and client certificates in the plan: what is accepted, what is refused, what is never shown."""

from __future__ import annotations

import pytest

from ownward.core import ConfigError
from ownward.plan import Tier, Upstream

URL = "https://llm.example.com"


def test_an_upstream_behind_a_proxy_is_not_local_and_neither_is_its_tier():
    behind = Upstream(name="a", url="http://10.0.0.5:8000", proxy_url="http://127.0.0.1:3128")
    assert not behind.is_local
    assert not Tier(name="t", kind="owned", model="m", engine="adopted", upstreams=(behind,)).place.is_local
    assert not behind.is_on_site
    assert Upstream(name="a", url="http://10.0.0.5:8000").is_on_site


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"proxy_url": "socks5://127.0.0.1:1080"}, "proxy_url"),
        ({"proxy_url": "http://proxy.example:3128/path"}, "proxy_url"),
        ({"proxy_url": "http://proxy.example:99999"}, "proxy_url"),
        ({"proxy_url": "http://proxy.example", "proxy_url_env": "P"}, "proxy_url_env"),
        ({"proxy_url_env": "lower"}, "proxy_url_env"),
        ({"ca_file": "ca.pem"}, "ca_file"),
        ({"ca_file": ""}, "ca_file"),
        ({"ca_file": "/a\nb.pem"}, "ca_file"),
        ({"client_key_file": "/k.pem"}, "client_key_file"),
        ({"client_cert_file": "/c.pem", "proxy_url": "https://proxy.example"}, "client_cert_file"),
        ({"url": "http://10.0.0.5", "ca_file": "/ca.pem"}, "ca_file"),
        ({"url": None, "proxy_url": "http://127.0.0.1:1"}, "proxy_url"),
        ({"url": None, "ca_file": "/ca.pem"}, "ca_file"),
    ],
)
def test_what_has_no_meaning_is_refused_at_its_key(values, key):
    with pytest.raises(ConfigError) as caught:
        Upstream(name="a", **{"url": URL, **values})
    assert key in [fault.key for fault in caught.value.faults]


@pytest.mark.parametrize(
    "values",
    [
        {"proxy_url": "http://me:hunter2hunter2@proxy.example:3128"},
        {"proxy_url_env": "http://me:hunter2hunter2@proxy.example:3128"},
    ],
)
def test_a_proxys_password_in_the_plan_is_refused_and_not_shown(values):
    with pytest.raises(ConfigError) as caught:
        Upstream(name="a", url=URL, **values)
    assert "hunter2" not in str(caught.value) + repr(caught.value) + str(caught.value.as_record())
    assert "proxy_url_env" in str(caught.value)


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "[fe80::1]",
        "0.0.0.0",
        "100.100.100.200",
        "[fd00:ec2::254]",
        "224.0.0.1",
        "[2002:a9fe:a9fe::1]",
    ],
)
@pytest.mark.parametrize("key", ["url", "proxy_url"])
def test_no_plan_names_an_address_where_no_upstream_may_be(host, key):
    with pytest.raises(ConfigError, match="where no upstream may be"):
        Upstream(name="a", **({"url": URL} | {key: f"http://{host}:80"}))
    Upstream(name="a", url="http://127.0.0.1:80")
    Upstream(name="a", url="http://metadata.example:80")  # names are looked at where they are resolved
