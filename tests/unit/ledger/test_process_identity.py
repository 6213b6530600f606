"""Whether a process lives is not a matter of its pid alone."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys

from ownward.ledger._process import is_alive, process_start, this_process

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
