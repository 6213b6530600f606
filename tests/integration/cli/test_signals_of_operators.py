"""What habits from other servers, and a terminal that goes away, do to `ownward serve`."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import time

import openai
import pytest

from served_workers import PLAN

SERVE = ["serve", "--plan", "plan.toml", "--ledger", "l.db", "--port", "0", "--ready-file", "r.json"]


@pytest.fixture(params=["1", "2"], ids=["one process", "workers"])
def command(request, tmp_path):
    (tmp_path / "plan.toml").write_text(PLAN.format(tier="a", url="http://127.0.0.1:9"))
    return [sys.executable, "-m", "ownward", *SERVE, "--workers", request.param]


@contextlib.contextmanager
def started(command, folder, **more):
    process = subprocess.Popen(command, cwd=folder, **more)
    try:
        _until((folder / "r.json").exists)
        yield process
    finally:
        process.kill()
        process.communicate()


def _until(holds):
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _is_served(folder):
    record = json.loads((folder / "r.json").read_text())
    client = openai.OpenAI(base_url=f"{record['base_url']}/v1", api_key="none", timeout=5)
    return "a" in {model.id for model in client.models.list()}


def test_signals_by_which_other_servers_open_their_logs_anew_end_nothing_and_sigquit_stops(command, tmp_path):
    with started(command, tmp_path, stderr=subprocess.PIPE, text=True) as process:
        for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGUSR1):
            process.send_signal(number)
            time.sleep(0.1)
        assert _is_served(tmp_path)
        process.send_signal(signal.SIGQUIT)
        assert "SIGUSR1 and SIGUSR2 do nothing here" in process.communicate(timeout=20)[1]
        assert process.returncode == 0
        assert not (tmp_path / "r.json").exists()


def test_a_stop_that_is_said_again_and_again_ends_as_one_that_is_said_once(command, tmp_path):
    with started(command, tmp_path, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            process.send_signal(signal.SIGINT)
            time.sleep(0.01)
        assert process.returncode == 0
        assert "Traceback" not in process.communicate(timeout=20)[1]


IN_A_TERMINAL = """
import fcntl, os, signal, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
if sys.argv[1] == "nohup":
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
os.execv(sys.argv[2], sys.argv[2:])
"""


@pytest.mark.parametrize("way", ["as it is", "nohup"])
def test_a_gateway_ends_with_its_terminal_unless_it_was_started_to_outlive_it(command, tmp_path, way):
    """What is closed is the terminal: a SIGHUP while it is there reads the plan again, as it does without one."""
    ours, terminal = pty.openpty()
    command = [sys.executable, "-c", IN_A_TERMINAL, way, *command]
    with (
        started(command, tmp_path, stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True) as process,
        contextlib.ExitStack() as open_ends,
    ):
        os.close(terminal)
        open_ends.callback(os.close, ours)
        process.send_signal(signal.SIGHUP)
        time.sleep(0.3)
        assert _is_served(tmp_path)
        open_ends.close()
        if way == "nohup":
            time.sleep(0.5)
            assert _is_served(tmp_path)
            process.terminate()
        assert process.wait(20) == 0
        assert not (tmp_path / "r.json").exists()
