"""Whether a process lives is not a matter of its pid alone."""

from __future__ import annotations

import dataclasses
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from ownward.ledger import _process
from ownward.ledger._process import is_alive, process_start, this_host_id, this_process

LIMITS = {"heartbeat_age_s": 1e9, "heartbeat_limit_s": 60.0}


def test_this_process_lives() -> None:
    assert is_alive(this_process(), **LIMITS)


def test_a_later_process_with_the_same_pid_is_another() -> None:
    assert not is_alive(dataclasses.replace(this_process(), process_start="ticks:1"), **LIMITS)


def test_an_ended_process_that_waits_for_its_parent_is_dead() -> None:
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert process_start(child.pid) is None
    child.wait()
    assert process_start(child.pid) is None


def test_a_process_elsewhere_lives_by_its_heartbeat() -> None:
    elsewhere = dataclasses.replace(this_process(), host_id="another boot")
    assert is_alive(elsewhere, heartbeat_age_s=59, heartbeat_limit_s=60)
    assert not is_alive(elsewhere, heartbeat_age_s=61, heartbeat_limit_s=60)


@pytest.fixture
def without_proc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A system that has no /proc, such as macOS."""
    monkeypatch.setattr(_process, "_PROC", tmp_path)
    _process._boot_session.cache_clear()
    yield
    _process._boot_session.cache_clear()


@pytest.mark.usefixtures("without_proc")
def test_a_mac_whose_clock_was_set_and_whose_name_changed_with_the_network_is_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """macOS computes `kern.boottime` anew whenever its clock is set, by little and often."""

    def run(command: tuple[str, ...], **_: object) -> SimpleNamespace:
        assert command == ("/usr/sbin/sysctl", "-n", "kern.bootsessionuuid")
        return SimpleNamespace(stdout="6F9619FF-8B86-D011-B42D-00C04FC964FF\n")

    monkeypatch.setattr(subprocess, "run", run)
    before = this_process()
    monkeypatch.setattr(socket, "gethostname", lambda: "dhcp-17.example.org")
    monkeypatch.setattr(psutil, "boot_time", lambda: 1.0)
    assert is_alive(before, **LIMITS)
    assert not is_alive(
        dataclasses.replace(before, process_start="time:1.000"), heartbeat_age_s=0, heartbeat_limit_s=60
    )


@pytest.mark.usefixtures("without_proc")
def test_a_system_that_does_not_name_its_boots_is_told_by_its_name_and_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_process, "_BOOT_SESSION", ("/nowhere/sysctl",))
    monkeypatch.setattr(socket, "gethostname", lambda: "ada")
    monkeypatch.setattr(psutil, "boot_time", lambda: 1000.4)
    assert this_host_id() == "ada/1000"
    assert is_alive(this_process(), **LIMITS)
