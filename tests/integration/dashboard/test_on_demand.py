"""A gateway whose pages nobody looks at does without what they are made with."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from ownward import ledger
from ownward.dashboard import Dashboard, _app

PLAN = """
schema = "ownward.plan/1"
name = "pages"
default_label = "any"

[tiers.a]
kind = "owned"
engine = "adopted"
model = "m"
max_context_tokens = 1024
max_output_tokens = 64

[[tiers.a.upstreams]]
name = "one"
url = "http://127.0.0.1:9"

[workloads.w]
label = "any"
strategy = { kind = "direct", tiers = ["a"] }
"""


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="what a process has loaded is read in /proc")
def test_a_gateway_loads_what_its_pages_are_made_with_when_somebody_looks_at_them(tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text(PLAN)
    ready = tmp_path / "ready.json"
    command = [sys.executable, "-m", "ownward", "serve", "--plan", tmp_path / "plan.toml", "--port", "0"]
    command += ["--ledger", tmp_path / "ledger.db", "--ready-file", ready]
    with subprocess.Popen(list(map(os.fspath, command)), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        try:
            deadline_s = time.monotonic() + 60
            while not ready.exists():
                assert process.poll() is None, process.stderr.read() if process.stderr else ""
                assert time.monotonic() < deadline_s
                time.sleep(0.02)
            loaded = Path(f"/proc/{process.pid}/maps")
            assert "markupsafe" not in loaded.read_text()
            port = int(json.loads(ready.read_text())["base_url"].rpartition(":")[2])
            with socket.create_connection(("127.0.0.1", port), timeout=60) as browser:
                browser.sendall(b"GET /dashboard/ HTTP/1.1\r\nhost: localhost\r\n\r\n")
                assert browser.recv(64).startswith(b"HTTP/1.1 200")
            assert "markupsafe" in loaded.read_text()  # so that this test would notice
        finally:
            process.kill()


def test_all_who_ask_first_at_once_wait_for_one_making_and_a_failure_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, made = _app.make_application, []

    def make_application(*args: Any, **more: Any) -> Any:
        made.append(args)
        if len(made) == 1:
            raise OSError(24, "Too many open files")
        return make(*args, **more)

    monkeypatch.setattr(_app, "make_application", make_application)

    async def ask(pages: Dashboard) -> int:
        statuses: list[int] = []

        async def send(message: Any) -> None:
            statuses.append(message.get("status"))

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        headers = [(b"host", b"localhost")]
        scope = {"type": "http", "method": "GET", "path": "/", "headers": headers, "query_string": b"", "root_path": ""}
        await pages(scope, receive, send)
        return statuses[0]

    async def main() -> None:
        with ledger.open(tmp_path / "ledger.db") as opened:
            pages = Dashboard(opened, find_plan=lambda: None, human_usd_per_hour=Decimal(0))
            failed = await asyncio.gather(ask(pages), ask(pages), return_exceptions=True)
            assert [type(one) for one in failed] == [OSError, OSError]
            assert await asyncio.gather(ask(pages), ask(pages)) == [200, 200]

    asyncio.run(main())
    assert len(made) == 2
