"""The engine's state machine: each edge of its table walked, and no other way taken, without a process."""

from __future__ import annotations

import asyncio
import time

import pytest

from ownward.core import EngineExited, EngineNotReady
from ownward.engines import (
    TRANSITIONS,
    EngineState,
    EngineStatus,
    HealthPolicy,
    RestartPolicy,
    SupervisedEngine,
)
from ownward.engines._state import choose_threads, compute_load_timeout_s, compute_restart_delay_s


class StubChild:
    """A process that lives until it is told otherwise."""

    def __init__(self):
        self.pid = 4711
        self.gone: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.last_words = ("loading", "error: out of luck", "bye")

    async def wait(self) -> int:
        return await asyncio.shield(self.gone)

    def leave(self, status: int) -> None:
        if not self.gone.done():
            self.gone.set_result(status)

    async def stop(self) -> int:
        self.leave(0)
        return 0

    async def kill(self) -> None:
        self.leave(-9)


class StubEngine(SupervisedEngine):
    """An engine whose loads and tokens follow a script: `ok`, `leaves`, `hangs` or `mute`."""

    def __init__(self, *loads: str, restart: RestartPolicy | None = None, health: HealthPolicy | None = None):
        self.edges: list[tuple[EngineState, EngineState]] = []
        self.reasons: list[str | None] = []
        self._before = EngineState.STOPPED
        super().__init__(
            name="stub",
            model="stub",
            restart=restart or RestartPolicy(first_delay_s=0, limit=3),
            health=health or HealthPolicy(interval_s=3600),
            on_change=self._note,
        )
        self.loads = list(loads)
        self.children: list[StubChild] = []
        self.is_mute = False
        self.timeout_s = 5.0
        self.work: list[float] = []

    def _note(self, status: EngineStatus) -> None:
        self.edges.append((self._before, status.state))
        self.reasons.append(status.reason)
        self._before = status.state

    async def _launch(self):
        child = StubChild()
        self.children.append(child)
        return child

    async def _find_address(self, child, door) -> str:
        match self.loads.pop(0):
            case "leaves":
                child.leave(3)
                await asyncio.get_running_loop().create_future()
            case "hangs":
                await asyncio.get_running_loop().create_future()
            case "mute":
                self.is_mute = True
        return "http://127.0.0.1:1"

    async def probe(self, *, timeout_s: float = 60.0) -> float:
        if self.is_mute:
            raise EngineNotReady("it made no token")
        return 0.0

    async def _read_gauges(self):
        return 0, (self.work.pop(0) if self.work else None)

    def _load_timeout_s(self) -> float:
        return self.timeout_s

    async def until(self, state: EngineState) -> None:
        deadline_s = time.monotonic() + 10
        while time.monotonic() < deadline_s:
            if self.state is state:
                return
            await asyncio.sleep(0)
        raise AssertionError(f"it stayed {self.state}")


S = EngineState


def walk(engine_script):
    async def main():
        engine = await engine_script()
        assert set(engine.edges) <= TRANSITIONS
        return engine

    return asyncio.run(main())


async def starts_and_stops() -> StubEngine:
    engine = StubEngine("ok")
    await engine.start()
    await engine.stop(drain_s=1)
    return engine


async def leaves_while_loading() -> StubEngine:
    engine = StubEngine("leaves", "ok")
    with pytest.raises(EngineExited):
        await engine.start()
    await engine.stop()
    return engine


async def leaves_when_ready() -> StubEngine:
    engine = StubEngine("ok", "ok")
    await engine.start()
    engine.children[0].leave(-11)
    await engine.until(S.FAILED)
    await engine.until(S.READY)
    await engine.stop()
    return engine


async def is_stopped_while_loading() -> StubEngine:
    engine = StubEngine("hangs")
    start = asyncio.create_task(engine.start())
    await engine.until(S.STARTING)
    await asyncio.sleep(0)
    await engine.stop()
    with pytest.raises(EngineNotReady, match="stopped while it was starting"):
        await start
    return engine


def test_start_proves_a_token_and_stop_ends_the_process():
    engine = walk(starts_and_stops)
    assert engine.edges == [
        (S.STOPPED, S.STARTING),
        (S.STARTING, S.READY),
        (S.READY, S.STOPPING),
        (S.STOPPING, S.STOPPED),
    ]


def test_a_failed_first_start_is_raised_with_the_engines_own_words_and_not_retried():
    engine = walk(leaves_while_loading)
    assert engine.edges[1:] == [(S.STARTING, S.FAILED), (S.FAILED, S.STOPPING), (S.STOPPING, S.STOPPED)]
    assert "status 3" in engine.reasons[1]
    assert "error: out of luck" in engine.reasons[1]
    assert len(engine.children) == 1


def test_an_engine_that_was_ready_is_brought_back():
    engine = walk(leaves_when_ready)
    assert (S.READY, S.FAILED) in engine.edges
    assert (S.FAILED, S.STARTING) in engine.edges
    assert "SIGSEGV" in engine.status.reason
    assert engine.status.restarts == 1


def test_stop_ends_a_start_in_the_making():
    engine = walk(is_stopped_while_loading)
    assert (S.STARTING, S.STOPPING) in engine.edges
    assert engine.children[0].gone.done()


def test_these_walks_cover_every_edge_of_the_table():
    scripts = [starts_and_stops, leaves_while_loading, leaves_when_ready, is_stopped_while_loading]
    assert {edge for script in scripts for edge in walk(script).edges} == TRANSITIONS


def test_an_engine_that_keeps_failing_stays_down_and_can_be_started_again_by_hand():
    async def main():
        engine = StubEngine("ok", "leaves", "leaves", "leaves", "ok")
        await engine.start()
        engine.children[0].leave(1)
        await engine.until(S.FAILED)
        for _ in range(1000):
            await asyncio.sleep(0)
        assert engine.state is S.FAILED
        assert len(engine.children) == 4  # the first and three restarts
        await engine.start()
        assert engine.state is S.READY
        await engine.stop()

    asyncio.run(main())


def test_a_load_that_takes_too_long_is_given_up():
    async def main():
        engine = StubEngine("hangs")
        engine.timeout_s = 0.01
        with pytest.raises(EngineNotReady, match="not ready after"):
            await engine.start()
        assert engine.state is S.FAILED
        assert engine.children[0].gone.done()
        await engine.stop()

    asyncio.run(main())


def test_a_server_that_listens_but_makes_no_token_is_not_ready():
    async def main():
        engine = StubEngine("mute")
        with pytest.raises(EngineNotReady, match="no token"):
            await engine.start()
        await engine.stop()

    asyncio.run(main())


def test_two_starts_at_once_are_one():
    async def main():
        engine = StubEngine("ok")
        await asyncio.gather(engine.start(), engine.start())
        assert len(engine.children) == 1
        await engine.stop()

    asyncio.run(main())


def test_an_engine_that_goes_mute_is_replaced_but_not_while_its_counters_move():
    async def main():
        engine = StubEngine("ok", "ok", health=HealthPolicy(interval_s=0.001, timeout_s=1, failures=2))
        await engine.start()
        engine.work = [1.0, 2.0, 3.0, 4.0]
        engine.is_mute = True
        while engine.work:
            assert engine.state is S.READY
            await asyncio.sleep(0.001)
        while engine.state is S.READY and len(engine.children) == 1:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        engine.is_mute = False
        await engine.until(S.READY)
        assert len(engine.children) == 2
        await engine.stop()

    asyncio.run(main())


def test_a_start_while_it_stops_is_refused_and_the_stop_goes_on():
    async def main():
        engine = StubEngine("ok")
        await engine.start()
        stop = asyncio.create_task(engine.stop())
        await asyncio.sleep(0)
        assert engine.state is S.STOPPING
        with pytest.raises(EngineNotReady, match="is stopping"):
            await engine.start()
        await stop
        assert engine.state is S.STOPPED

    asyncio.run(main())


def test_a_process_that_the_system_refuses_is_a_failed_start():
    class Refused(StubEngine):
        async def _launch(self):
            raise OSError(12, "Cannot allocate memory")

    async def main():
        engine = Refused()
        with pytest.raises(EngineNotReady, match="Cannot allocate memory"):
            await engine.start()
        assert engine.state is S.FAILED
        await engine.stop()

    asyncio.run(main())


def test_stop_ends_a_restart_in_the_making():
    async def main():
        engine = StubEngine("ok", "hangs")
        await engine.start()
        engine.children[0].leave(1)
        await engine.until(S.FAILED)
        await engine.until(S.STARTING)
        await asyncio.sleep(0)
        await engine.stop()
        assert engine.state is S.STOPPED
        assert all(child.gone.done() for child in engine.children)

    asyncio.run(main())


def test_a_token_that_fails_because_the_process_left_is_told_as_its_end():
    class Dies(StubEngine):
        async def probe(self, *, timeout_s: float = 60.0) -> float:
            asyncio.get_running_loop().call_later(0.01, self.children[-1].leave, -11)
            raise EngineNotReady("connection reset")

    async def main():
        engine = Dies("ok")
        with pytest.raises(EngineExited, match="SIGSEGV"):
            await engine.start()
        await engine.stop()

    asyncio.run(main())


def test_an_address_is_asked_for_too_early():
    async def main():
        with pytest.raises(EngineNotReady):
            _ = StubEngine().base_url

    asyncio.run(main())


def test_restart_delays_grow_to_a_ceiling_and_end():
    policy = RestartPolicy(first_delay_s=1, factor=3, longest_delay_s=10, limit=4)
    assert [compute_restart_delay_s(policy, failures) for failures in range(1, 6)] == [1, 3, 9, 10, None]


def test_a_larger_file_is_given_more_time():
    assert compute_load_timeout_s(200 * 10**9) > compute_load_timeout_s(10**9) > 60


@pytest.mark.parametrize(
    ("usable", "machine", "busy", "threads"),
    [(2, 2, 0.0, 2), (2, 2, 1.9, 1), (8, 8, 0.4, 8), (8, 8, 3.2, 5), (4, 64, 40.0, 4), (1, 1, 1.0, 1), (8, 16, 4.0, 8)],
)
def test_threads_stay_within_free_cores_and_never_below_one(usable: int, machine: int, busy: float, threads: int):
    assert choose_threads(usable_cores=usable, machine_cores=machine, busy_cores=busy) == threads
