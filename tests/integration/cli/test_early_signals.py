"""Signals that reach `ownward serve` before it serves."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time

import openai
import psutil
import pytest

from ownward import ledger
from ownward.engines import FakeServer
from served_workers import PLAN

FIRST_PROCESS = """
import os, signal
from ownward.cli._early_signals import EarlySignals
os.getpid = lambda: 1
signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as the kernel does for a first process
EarlySignals()
signal.raise_signal(signal.SIGTERM)
print("goes on")
"""


@pytest.fixture(autouse=True)
def _hangups_are_heard():
    """Also where the tests were started by nohup: what is ignored stays so in processes that they start."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def test_a_stop_ends_the_first_process_of_a_container_while_it_starts():
    ended = subprocess.run(
        [sys.executable, "-c", FIRST_PROCESS], check=False, capture_output=True, text=True, timeout=30
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (143, "", "")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_reload_that_comes_during_the_start_is_done_after_it(tmp_path, workers):
    path, ready = tmp_path / "l.db", tmp_path / "r.json"
    with ledger.open(path):
        pass
    (tmp_path / "plan.toml").write_text(PLAN.format(tier="a", url="http://127.0.0.1:9"))
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")  # the start waits for it
        process = _serve(tmp_path, "--workers", workers)
        try:
            _until(lambda: str(path) in {file.path for file in psutil.Process(process.pid).open_files()})
            (tmp_path / "plan.toml").write_text(PLAN.format(tier="b", url="http://127.0.0.1:9"))
            os.kill(process.pid, signal.SIGHUP)
            time.sleep(0.2)
            holder.execute("ROLLBACK")
            _until(ready.exists)
            _until(lambda: _tiers(json.loads(ready.read_text())["base_url"]) == {"b"})
            process.terminate()
            assert process.wait(20) == 0
        finally:
            process.kill()
            process.communicate()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_stop_during_the_start_waits_for_no_lock_on_the_ledger(tmp_path, workers):
    path = tmp_path / "l.db"
    with ledger.open(path):
        pass
    (tmp_path / "plan.toml").write_text(PLAN.format(tier="a", url="http://127.0.0.1:9"))
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        process = _serve(tmp_path, "--workers", workers)
        try:
            _read_until(process.stderr, "is locked by process")
            process.terminate()
            assert process.wait(10) == 0, "the lock is waited for 30 s"
        finally:
            process.kill()
            process.communicate()


def test_a_stop_waits_for_a_lock_on_the_ledger_for_3_s_beyond_the_drain(tmp_path):
    async def main():
        async with FakeServer() as fake:
            (tmp_path / "plan.toml").write_text(PLAN.format(tier="a", url=fake.base_url))
            process = _serve(tmp_path, "--drain", "0.1")
            holder = sqlite3.connect(tmp_path / "l.db", isolation_level=None)
            try:
                await asyncio.to_thread(_until, (tmp_path / "r.json").exists)
                base_url = json.loads((tmp_path / "r.json").read_text())["base_url"]
                async with openai.AsyncOpenAI(base_url=f"{base_url}/v1", api_key="none", max_retries=0) as client:
                    question = {"model": "chat", "messages": [{"role": "user", "content": "hello"}]}
                    await client.chat.completions.create(**question)
                    await asyncio.sleep(0.5)  # until all of it is in the tables
                    holder.execute("BEGIN EXCLUSIVE")
                    asked = asyncio.create_task(client.chat.completions.create(**question))
                    await asyncio.to_thread(_read_until, process.stderr, "is locked by process")
                    process.terminate()
                    began_s = time.monotonic()
                    with pytest.raises(openai.InternalServerError) as told:
                        await asked
                    assert "takes no new request" in told.value.message, "nothing was sent, and nothing is charged"
                    assert told.value.response.headers["x-ownward-attempts"] == "0"
                assert await asyncio.to_thread(process.wait, 20) == 5
                assert time.monotonic() - began_s < 6.5
                assert fake.record.count(with_calls=False)["accepted"] == 1
            finally:
                holder.close()
                process.kill()
                process.communicate()

    asyncio.run(main())


def _serve(folder, *flags):
    return subprocess.Popen(
        [sys.executable, "-m", "ownward", "serve", "--plan", "plan.toml", "--ledger", "l.db", "--port", "0",
         "--ready-file", "r.json", *flags],
        cwd=folder, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def _read_until(log, words):
    while words not in (line := log.readline()):
        assert line, f"it ended without saying that it {words}"


def _until(holds):
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _tiers(base_url):
    client = openai.OpenAI(base_url=f"{base_url}/v1", api_key="none", timeout=5)
    return {model.id for model in client.models.list() if model.model_extra["kind"] == "tier"}
