"""An engine process kept alive: started, proved by a token, watched, brought back, drained and stopped."""

from __future__ import annotations

import abc
import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ownward.core import EngineError, EngineExited, EngineNotReady, OwnwardError
from ownward.engines import _talk
from ownward.engines._base import BaseEngine
from ownward.engines._child import Child, describe_status, pick_reason
from ownward.engines._state import EngineState, EngineStatus, RestartPolicy, compute_restart_delay_s
from ownward.upstreams import Door

_LACKS_TIMEOUT_S = 60.0
_GAUGE_TIMEOUT_S = 10.0
_DRAIN_LOOK_S = 0.1
_LEAVE_S = 1.0
_DEFAULT_RESTART = RestartPolicy()


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthPolicy:
    """How a ready engine is looked after: a token every `interval_s`; given up after `failures` misses in a row.

    An engine that is at work, by its own counters, is never given up.
    """

    interval_s: float = 60.0
    timeout_s: float = 60.0
    failures: int = 2


_DEFAULT_HEALTH = HealthPolicy()


class SupervisedEngine(BaseEngine):
    """An engine in a child process, as a state machine.

    ========  ==========================================================
    stopped   starting: `start`
    starting  ready: it made a token; failed: it exited, timed out or
              made none; stopping: `stop`
    ready     failed: it exited or makes no tokens; stopping: `stop`
    failed    starting: the restart policy, or `start`; stopping: `stop`
    stopping  stopped: the process is gone
    ========  ==========================================================

    A failed first start is raised to its caller and not tried again by itself;
    an engine that was ready is. One event loop, from `start` to `stop`.
    """

    def __init__(
        self,
        *,
        name: str,
        model: str,
        is_embedding: bool = False,
        log_file: Path | None = None,
        restart: RestartPolicy = _DEFAULT_RESTART,
        health: HealthPolicy = _DEFAULT_HEALTH,
        on_change: Callable[[EngineStatus], None] | None = None,
    ) -> None:
        """Name it; nothing runs before `start`. `on_change` hears of every new state, in the event loop."""
        super().__init__(name=name, model=model, is_embedding=is_embedding, on_change=on_change)
        self.log_file = log_file
        self._restart = restart
        self._health = health
        self._base_url: str | None = None
        self._restarts = 0
        self._failures_in_row = 0
        self._restart_in_s: float | None = None
        self._lacks: frozenset[str] = frozenset()
        self._child: Child | None = None
        self._starting: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None

    @abc.abstractmethod
    async def _launch(self) -> Child:
        """Start the process."""

    @abc.abstractmethod
    async def _find_address(self, child: Child, door: Door) -> str:
        """Return the base URL once the engine listens there and has loaded; never return if it leaves first."""

    @abc.abstractmethod
    def _load_timeout_s(self) -> float:
        """Return how long from the launch to the first token may take."""

    @property
    def base_url(self) -> str:
        """Its address, without `/v1`. It may be another after a restart.

        Raises: EngineNotReady, if it never had one.
        """
        if self._base_url is None:
            raise EngineNotReady(f'engine "{self.name}" is {self._state.value} and has no address yet')
        return self._base_url

    @property
    def status(self) -> EngineStatus:
        """All that can be said of it now."""
        return EngineStatus(
            name=self.name,
            state=self._state,
            base_url=self._base_url,
            pid=None if self._child is None else self._child.pid,
            reason=self._reason,
            restarts=self._restarts,
            restart_in_s=self._restart_in_s if self._state is EngineState.FAILED else None,
            load_s=self._load_s,
            lacks=self._lacks,
        )

    @property
    def last_words(self) -> tuple[str, ...]:
        """The last lines of the process's standard error."""
        return () if self._child is None else self._child.last_words

    async def start(self) -> None:
        """Bring it up; return when it has made a token.

        Raises: EngineExited, EngineNotReady, with what the engine said.
        """
        if self._state is EngineState.READY:
            return
        if self._state is EngineState.STOPPING:
            raise EngineNotReady(f'engine "{self.name}" is stopping', next_step="Start it again when it has stopped")
        if self._starting is None:
            await self._forget_watch()
            self._begin_start()
        assert self._starting is not None
        task = self._starting
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise EngineNotReady(f'engine "{self.name}" was stopped while it was starting') from None
            raise

    async def stop(self, *, drain_s: float = 0.0) -> None:
        """Let it end what it is making, for at most `drain_s`, then stop it; return when the process is gone."""
        if self._state is EngineState.STOPPED:
            return
        was_ready = self._state is EngineState.READY
        self._move(EngineState.STOPPING)
        await self._forget_watch()
        if self._starting is not None:
            self._starting.cancel()
            with contextlib.suppress(asyncio.CancelledError, EngineError):
                await self._starting
        if was_ready and drain_s > 0:
            await self._drain(drain_s)
        if self._child is not None:
            await self._child.stop()
            self._child = None
        await self._close_door()
        self._move(EngineState.STOPPED)

    def _begin_start(self) -> None:
        self._move(EngineState.STARTING)
        self._starting = asyncio.create_task(self._bring_up(), name=f"start {self.name}")

    async def _bring_up(self) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            try:
                async with asyncio.timeout(self._load_timeout_s()):
                    self._child = await self._launch()
                    await self._become_ready(self._child)
            except TimeoutError as error:
                raise EngineNotReady(
                    f'engine "{self.name}" was not ready after {self._load_timeout_s():.0f} s. {self._quote()}',
                    next_step=self._whole_log(),
                ) from error
            except OSError as error:
                raise EngineNotReady(f'engine "{self.name}" could not be started: {error}') from error
        except OwnwardError as error:
            await self._end_child()
            self._fail(str(error), comes_back=self._watching is not None)  # a first start is not tried again
            raise
        except asyncio.CancelledError:
            await self._end_child()
            raise
        finally:
            self._starting = None
        self._load_s = loop.time() - began
        self._move(EngineState.READY)
        self._watching = asyncio.create_task(self._watch(self._child), name=f"watch {self.name}")

    async def _become_ready(self, child: Child) -> None:
        """Wait for address and first token, or for the process to leave, whichever comes first."""
        began = asyncio.get_running_loop().time()
        gone = asyncio.create_task(child.wait())
        up = asyncio.create_task(self._prove(child))
        try:
            await asyncio.wait({gone, up}, return_when=asyncio.FIRST_COMPLETED)
            if up.done() and up.exception() is None:
                return
            await asyncio.wait({gone}, timeout=_LEAVE_S)  # a call that broke off may be the first sign of its end
            if not gone.done():
                up.result()
            status = await gone
            after_s = asyncio.get_running_loop().time() - began
            raise EngineExited(
                f'engine "{self.name}" {describe_status(status)} after {after_s:.1f} s, before it was ready. '
                f"{self._quote()}",
                next_step=self._whole_log(),
            )
        finally:
            for task in (gone, up):
                task.cancel()
            await asyncio.gather(gone, up, return_exceptions=True)

    async def _prove(self, child: Child) -> None:
        self._base_url = await self._find_address(child, self._open_door())
        await self.probe(timeout_s=self._load_timeout_s())
        self._lacks = await _talk.find_lacks(
            self._open_door(), self.base_url, name=self.name, timeout_s=_LACKS_TIMEOUT_S
        )

    async def _watch(self, child: Child) -> None:
        """Stay with a ready engine; when it fails, bring it back as the policy says."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        reason = await self._wait_for_failure(child)
        await self._end_child()
        if loop.time() - began >= self._restart.healthy_after_s:
            self._failures_in_row = 0
        self._fail(reason, comes_back=True)
        while (delay_s := self._restart_in_s) is not None:
            await asyncio.sleep(delay_s)
            self._restarts += 1
            self._begin_start()
            assert self._starting is not None
            try:
                await self._starting
            except OwnwardError:
                continue
            return  # the new run has a watch of its own

    def _fail(self, reason: str, *, comes_back: bool) -> None:
        self._restart_in_s = None
        if comes_back:
            self._failures_in_row += 1
            self._restart_in_s = compute_restart_delay_s(self._restart, self._failures_in_row)
        self._move(EngineState.FAILED, reason)

    async def _wait_for_failure(self, child: Child) -> str:
        gone = asyncio.create_task(child.wait())
        misses = 0
        last_work: float | None = None
        try:
            while True:
                await asyncio.wait({gone}, timeout=self._health.interval_s)
                if gone.done():
                    reason = pick_reason(self.last_words)
                    said = "" if reason is None else f'. It said: "{reason}"'
                    return f'engine "{self.name}" {describe_status(gone.result())}{said}'
                try:
                    await self.probe(timeout_s=self._health.timeout_s)
                except EngineNotReady as error:
                    _, work = await self._read_gauges()
                    is_working = work is not None and work != last_work
                    last_work = work
                    misses = 0 if is_working else misses + 1
                    if misses >= self._health.failures:
                        return error.message
                else:
                    misses = 0
        finally:
            gone.cancel()

    async def _read_gauges(self) -> tuple[int | None, float | None]:
        return await _talk.read_gauges(
            self._open_door(), self.base_url, name=self.name, timeout_s=min(_GAUGE_TIMEOUT_S, self._health.timeout_s)
        )

    async def _drain(self, drain_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(drain_s):
                while True:
                    busy, _ = await self._read_gauges()
                    if not busy:
                        return
                    await asyncio.sleep(_DRAIN_LOOK_S)

    async def _forget_watch(self) -> None:
        if self._watching is not None and self._watching is not asyncio.current_task():
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
            self._watching = None

    async def _end_child(self) -> None:
        if self._child is not None:
            await self._child.kill()

    def _quote(self) -> str:
        words = self.last_words
        reason = pick_reason(words) or (words[-1].strip() if words else None)
        return "It said nothing" if reason is None else f'It said: "{reason}"'

    def _whole_log(self) -> str | None:
        return None if self.log_file is None else f"Whole log: {self.log_file}"
