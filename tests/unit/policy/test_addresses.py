from __future__ import annotations

import pytest

from ownward.policy import is_forbidden_address, is_loopback_address, is_private_address


@pytest.mark.parametrize(
    ("address", "is_private", "is_forbidden"),
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
        ("fd00:ec2::254", True, True),
        ("fd20:ce::254", True, True),
        ("100.100.100.200", False, True),
        ("168.63.129.16", False, True),
        ("192.0.0.192", False, True),
        ("64:ff9b::a9fe:a9fe", False, True),
        ("64:ff9b::7f00:1", False, True),
        ("64:ff9b::808:808", False, True),
        ("2002:a9fe:a9fe::1", False, True),
        ("2002:0a00:0001::1", False, True),
        ("::169.254.169.254", False, True),
        ("localhost", False, True),
        ("", False, True),
        ("127.1", False, True),
        ("0x7f000001", False, True),
    ],
)
def test_addresses_are_private_public_or_forbidden(address, is_private, is_forbidden):
    assert is_private_address(address) is is_private
    assert is_forbidden_address(address) is is_forbidden


@pytest.mark.parametrize(
    ("address", "is_loopback"),
    [
        ("127.0.0.1", True),
        ("127.255.255.254", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("10.0.0.1", False),
        ("192.168.1.1", False),
        ("fd12:3456::1", False),
        ("128.0.0.1", False),
        ("8.8.8.8", False),
        ("localhost", False),
        ("", False),
    ],
)
def test_loopback_is_narrower_than_private(address, is_loopback):
    assert is_loopback_address(address) is is_loopback
    assert is_private_address(address) or not is_loopback
