"""A server program on its leash, with the fake upstream standing in for llama-server; and an adopted server."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from ownward.core import EngineExited, EngineNotReady
from ownward.engines import (
    AdoptedEngine,
    EngineState,
    FakeOptions,
    FakeServer,
    HealthPolicy,
    LaunchedEngine,
    RestartPolicy,
    parse_fake_arguments,
)
from processes import is_gone, wait_until_all_gone


def stand_in(*flags: str):
    return lambda port: [sys.executable, "-m", "ownward.engines.fake", "--port", str(port), *flags]


def children_of(pid: int) -> list[int]:
    return [child.pid for child in psutil.Process(pid).children(recursive=True)]


def launched(*flags: str, command=None, **changes) -> LaunchedEngine:
    settings = {"name": "stand-in", "model": "m", "load_timeout_s": 20, "restart": RestartPolicy(first_delay_s=0.05)}
    return LaunchedEngine(command or stand_in(*flags), **{**settings, **changes})


def test_a_program_is_started_proved_restarted_and_stopped(tmp_path: Path):
    async def main():
        engine = launched("--reply", "yes", log_file=tmp_path / "engine.log")
        async with engine:
            assert engine.state is EngineState.READY
            assert await engine.probe() >= 0
            first = engine.status.pid
            (server,) = children_of(first)
            os.kill(server, signal.SIGKILL)
            while engine.status.restarts == 0 or engine.state is not EngineState.READY:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            assert engine.status.pid != first
            assert "status 137" in engine.status.reason
            pids = [engine.status.pid, *children_of(engine.status.pid)]
        assert engine.state is EngineState.STOPPED
        assert all(map(is_gone, pids))
        assert "ownward.fake_ready/1" in (tmp_path / "engine.log").read_text()

    asyncio.run(main())


def test_it_is_the_same_under_uvloop():
    uvloop = pytest.importorskip("uvloop")

    async def main():
        async with launched() as engine:
            (server,) = children_of(engine.status.pid)
            os.kill(server, signal.SIGKILL)
            while engine.status.restarts == 0 or engine.state is not EngineState.READY:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            pids = [engine.status.pid, *children_of(engine.status.pid)]
        assert all(map(is_gone, pids))

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def test_a_program_that_leaves_is_quoted(tmp_path: Path):
    script = "import sys; sys.exit('error: unknown architecture: llama99')"

    async def main():
        engine = launched(command=lambda _: [sys.executable, "-c", script], log_file=tmp_path / "engine.log")
        with pytest.raises(EngineExited) as caught:
            await engine.start()
        assert 'It said: "error: unknown architecture: llama99"' in str(caught.value)
        assert str(tmp_path / "engine.log") in str(caught.value)
        assert engine.state is EngineState.FAILED
        await engine.stop()

    asyncio.run(main())


def test_a_program_that_is_not_there_is_named():
    async def main():
        engine = launched(command=lambda _: ["llama-server-that-is-not-there"])
        with pytest.raises(EngineExited, match='program "llama-server-that-is-not-there"'):
            await engine.start()
        await engine.stop()

    asyncio.run(main())


def test_a_program_that_never_listens_is_given_up():
    async def main():
        engine = launched(command=lambda _: [sys.executable, "-c", "input()"], load_timeout_s=1)
        with pytest.raises((EngineNotReady, EngineExited)):
            await engine.start()
        await engine.stop()

    asyncio.run(main())


def test_a_server_that_is_healthy_but_makes_no_token_is_not_ready():
    async def main():
        engine = launched("--fail", "500")
        with pytest.raises(EngineNotReady, match="answers 500 to a request for one token"):
            await engine.start()
        await engine.stop()

    asyncio.run(main())


def test_a_server_that_goes_mute_is_replaced():
    async def main():
        engine = launched("--max-concurrency", "1", health=HealthPolicy(interval_s=0.05, timeout_s=0.3, failures=2))
        await engine.start()
        (server,) = children_of(engine.status.pid)
        os.kill(server, signal.SIGSTOP)  # it lives, listens, and answers nothing
        while engine.status.restarts == 0 or engine.state is not EngineState.READY:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        assert "produced no token" in engine.status.reason
        await engine.stop()
        assert is_gone(server)

    asyncio.run(main())


def test_a_program_that_ignores_every_request_to_stop_is_ended():
    script = """
import asyncio, signal, sys
from ownward.engines import FakeOptions, FakeServer
signal.signal(signal.SIGTERM, signal.SIG_IGN)
async def main():
    async with FakeServer(FakeOptions(port=int(sys.argv[1]))):
        await asyncio.Event().wait()
asyncio.run(main())
"""

    async def main():
        engine = launched(command=lambda port: [sys.executable, "-c", script, str(port)])
        await engine.start()
        pids = [engine.status.pid, *children_of(engine.status.pid)]
        await engine.stop()
        assert all(map(is_gone, pids))

    asyncio.run(main())


@pytest.mark.parametrize("victim", ["parent", "leash"])
def test_a_killed_parent_or_leash_leaves_no_server_behind(victim: str):
    code = """
import asyncio, sys
from ownward.engines import LaunchedEngine
async def main():
    engine = LaunchedEngine(
        lambda port: [sys.executable, "-m", "ownward.engines.fake", "--port", str(port)],
        name="x", model="m", load_timeout_s=20)
    await engine.start()
    print(engine.status.pid, flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        leash = int(parent.stdout.readline())
        (server,) = children_of(leash)
        os.kill(parent.pid if victim == "parent" else leash, signal.SIGKILL)
        assert wait_until_all_gone([server])
        parent.kill()
        assert wait_until_all_gone([leash, server])


def with_server(flags: str, scenario):
    async def main():
        async with FakeServer(parse_fake_arguments(flags.split())) as server:
            return await scenario(server)

    return asyncio.run(main())


def test_an_adopted_server_is_proved_and_left_running():
    async def scenario(server: FakeServer):
        engine = AdoptedEngine(f"{server.base_url}/v1/", name="ollama")
        await engine.start()
        assert engine.state is EngineState.READY
        assert engine.model == "only"
        assert engine.base_url == server.base_url
        assert engine.status.pid is None
        await engine.stop()
        assert engine.state is EngineState.STOPPED
        assert server.record.totals()["completed"] == 1

    with_server("--model only", scenario)


def test_an_adopted_server_with_several_models_wants_a_name():
    async def scenario(server: FakeServer):
        engine = AdoptedEngine(server.base_url, name="ollama")
        with pytest.raises(EngineNotReady, match="offers 2 models") as caught:
            await engine.start()
        assert "a, b" in str(caught.value)
        await engine.stop()
        async with AdoptedEngine(server.base_url, name="ollama", model="b") as named:
            assert await named.list_models() == ("a", "b")

    with_server("--model a --model b", scenario)


def test_an_adopted_server_that_fails_can_be_tried_again():
    async def scenario(server: FakeServer):
        engine = AdoptedEngine(server.base_url, name="ollama", model="m")
        with pytest.raises(EngineNotReady):
            await engine.start()
        assert engine.state is EngineState.FAILED
        server.set_options(FakeOptions())
        await engine.start()
        assert engine.state is EngineState.READY
        await engine.stop()

    with_server("--fail 503", scenario)


def test_an_adopted_server_that_is_not_there_says_what_to_do():
    async def main():
        engine = AdoptedEngine("http://127.0.0.1:9", name="ollama", model="m")
        with pytest.raises(EngineNotReady, match="Start it, or correct its address"):
            await engine.start()
        await engine.stop()

    asyncio.run(main())
