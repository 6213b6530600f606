"""`ownward serve` as a real process."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Serve = Callable[..., tuple[subprocess.Popen[bytes], str]]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Start `ownward serve` on a free port, with the ledger `ledger.db` of the test's folder.

    Returns the process and its base URL once it is ready. What is still running at the end is killed.
    """
    started: list[subprocess.Popen[bytes]] = []

    def start(*argv: str) -> tuple[subprocess.Popen[bytes], str]:
        ready = tmp_path / "ready.json"
        command = [sys.executable, "-m", "ownward", "serve", "--port", "0", "--ready-file", str(ready)]
        with (tmp_path / "stderr.txt").open("wb") as stderr:
            process = subprocess.Popen(
                [*command, "--ledger", str(tmp_path / "ledger.db"), *argv], stdout=subprocess.DEVNULL, stderr=stderr
            )
        started.append(process)
        deadline = time.monotonic() + 120
        while not ready.exists():
            assert process.poll() is None, (tmp_path / "stderr.txt").read_text()
            assert time.monotonic() < deadline, (tmp_path / "stderr.txt").read_text()
            time.sleep(0.05)
        record = json.loads(ready.read_text())
        assert record["schema"] == "ownward.ready/1"
        assert record["pid"] == process.pid
        return process, record["base_url"]

    yield start
    for process in started:
        process.kill()
        process.wait()
