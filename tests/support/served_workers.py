"""`ownward serve --workers N` as its users see it, over a plan of one tier."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from pathlib import Path

import psutil
import pytest

PLAN = """
schema = "ownward.plan/1"
name = "t"
default_label = "any"
[tiers.{tier}]
kind = "owned"
model = "m"
engine = "adopted"
max_concurrency = 600
[[tiers.{tier}.upstreams]]
name = "u"
url = "{url}"
[workloads.chat]
match = {{ models = ["chat"] }}
strategy = {{ kind = "direct", tiers = ["{tier}"] }}
"""


class Served:
    """`ownward serve --workers 2` as its users see it."""

    def __init__(self, process, record, folder):
        self.process, self.folder = process, folder
        self.base_url, self.pid = record["base_url"], record["pid"]

    @property
    def workers(self):
        return psutil.Process(self.pid).children()

    async def until(self, holds, what, seconds=20):
        for _ in range(int(seconds / 0.05)):
            if holds():
                return
            await asyncio.sleep(0.05)
        pytest.fail(f"never: {what}")


@contextlib.asynccontextmanager
async def serving(folder: Path, url: str, *, config: str = "", plan: str = PLAN, workers: int = 2, ends_with: int = 0):
    (folder / "plan.toml").write_text(plan.format(tier="a", url=url))
    (folder / "ownward.toml").write_text(config)
    flags = ["--plan", "plan.toml", "--ledger", "l.db", "--port", "0", "--ready-file", "r.json"]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "ownward", "serve", *flags, "--workers", str(workers),
        cwd=folder, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        for _ in range(600):
            if (folder / "r.json").exists():
                break
            assert process.returncode is None, (await process.stderr.read()).decode()
            await asyncio.sleep(0.05)
        yield Served(process, json.loads((folder / "r.json").read_text()), folder)
    finally:
        if process.returncode is None:
            process.terminate()
        said = (await asyncio.wait_for(process.communicate(), 30))[1].decode()
        assert "Traceback" not in said, said
        assert process.returncode == ends_with, said
