from __future__ import annotations

import pytest

from ownward.policy import is_forbidden_address, is_local_address


@pytest.mark.parametrize(
    ("address", "is_local", "is_forbidden"),
    [
        ("127.0.0.1", True, False),
        ("127.255.255.254", True, False),
        ("::1", True, False),
        ("10.0.0.1", True, False),
        ("172.16.0.1", True, False),
        ("172.31.255.255", True, False),
        ("172.32.0.1", False, False),
        ("192.168.1.1", True, False),
        ("192.169.0.1", False, False),
        ("fd12:3456::1", True, False),
        ("::ffff:192.168.0.1", True, False),
        ("::ffff:8.8.8.8", False, False),
        ("8.8.8.8", False, False),
        ("11.0.0.1", False, False),
        ("128.0.0.1", False, False),
        ("100.64.0.1", False, False),
        ("2606:4700::1", False, False),
        ("169.254.169.254", False, True),
        ("::ffff:169.254.169.254", False, True),
        ("fe80::1", False, True),
        ("fe80::1%eth0", False, True),
        ("0.0.0.0", False, True),
        ("::", False, True),
        ("224.0.0.1", False, True),
        ("255.255.255.255", False, True),
        ("ff02::1", False, True),
        ("localhost", False, True),
        ("", False, True),
        ("127.1", False, True),
        ("0x7f000001", False, True),
    ],
)
def test_addresses_are_local_public_or_forbidden(address, is_local, is_forbidden):
    assert is_local_address(address) is is_local
    assert is_forbidden_address(address) is is_forbidden
