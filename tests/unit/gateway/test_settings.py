"""What an operator can set, and what cannot be."""

import pytest

from ownward.core import ConfigError
from ownward.gateway import GatewaySettings


def test_settings_that_cannot_be_are_refused_together():
    with pytest.raises(ConfigError) as refused:
        GatewaySettings(port=99_999, max_attempts=0, drain_s=-1, host="10.0.0.1")
    assert [fault.key for fault in refused.value.faults] == ["port", "max_attempts", "drain_s", "host", "host"]


@pytest.mark.parametrize("host", ["", "127.0.0.1:8484", "[::1]", "a b", "unix:/run/x", "a\x00b"])
def test_a_host_that_is_no_address_is_told_so_and_not_who_could_reach_it(host):
    with pytest.raises(ConfigError) as refused:
        GatewaySettings(host=host)
    assert [(fault.key, "neither an IP address nor a name" in fault.message) for fault in refused.value.faults] == [
        ("host", True)
    ]


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("::ffff:127.0.0.1", True), ("a.b", False)],
)
def test_loopback(host, is_loopback):
    assert GatewaySettings(host=host, requires_keys=True, allow_plaintext=True).is_loopback is is_loopback
