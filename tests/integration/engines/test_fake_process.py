"""The fake upstream as a process: it tells its address, obeys its parent and does not outlive it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from ownward.core import EngineExited
from ownward.engines import FakeOptions, run_fake
from processes import wait_until_all_gone


def test_it_runs_answers_its_parent_and_stops():
    with run_fake(FakeOptions(reply="hello")) as fake:
        assert fake.base_url.startswith("http://127.0.0.1:")
        assert fake.count()["accepted"] == 0
        assert fake.requests() == []
        fake.set_options(FakeOptions(ttft_s=0.5))
        fake.reset()
        pid = fake.pid
    assert wait_until_all_gone([pid])


def test_a_start_that_fails_says_why():
    with run_fake() as fake:
        port = int(fake.base_url.rsplit(":", 1)[1])
        with pytest.raises(EngineExited, match="cannot listen"):
            run_fake(FakeOptions(port=port))


def test_the_ready_file_holds_the_real_address(tmp_path: Path):
    with run_fake(FakeOptions(ready_file=tmp_path / "ready.json")) as fake:
        ready = json.loads((tmp_path / "ready.json").read_text())
        assert ready["schema"] == "ownward.fake_ready/1"
        assert (ready["base_url"], ready["pid"]) == (fake.base_url, fake.pid)


@pytest.mark.parametrize("place", ["nowhere/ready.json", "."])
def test_a_ready_file_that_cannot_be_written_ends_it_with_status_2_and_says_why(tmp_path: Path, place: str):
    command = [sys.executable, "-m", "ownward.engines.fake", "--ready-file", str(tmp_path / place)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--ready-file" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_address_of_ip_version_6_can_be_called():
    with run_fake(FakeOptions(host="::1")) as fake:
        address = urlsplit(fake.base_url)
        assert address.hostname == "::1"
        socket.create_connection((address.hostname, address.port), timeout=10).close()


def test_sigterm_ends_it_with_status_0():
    process = subprocess.Popen([sys.executable, "-m", "ownward.engines.fake"], stdout=subprocess.PIPE)
    with process:
        assert json.loads(process.stdout.readline())["pid"] == process.pid
        process.terminate()
        assert process.wait(10) == 0


def test_a_wrong_flag_ends_it_with_status_2():
    command = [sys.executable, "-m", "ownward.engines.fake", "--fail", "never"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--fail is 'never'" in done.stderr


def test_a_killed_parent_leaves_no_fake_behind():
    code = "from ownward.engines import run_fake; f = run_fake(); print(f.pid, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        pid = int(parent.stdout.readline())
        assert psutil.pid_exists(pid)
        os.kill(parent.pid, signal.SIGKILL)
        assert wait_until_all_gone([pid])
