"""What every engine has, whoever runs its process: a state, a door to it, and the proof that it makes a token."""

from __future__ import annotations

import abc
import asyncio
from collections.abc import Callable
from typing import Self

from ownward.core import EngineNotReady, UpstreamError
from ownward.engines import _talk
from ownward.engines._state import TRANSITIONS, EngineState, EngineStatus
from ownward.upstreams import Door

_PROBE_TIMEOUT_S = 60.0


class BaseEngine(abc.ABC):
    """An engine at an address: its state, and calls to it through one outbound door."""

    def __init__(
        self,
        *,
        name: str,
        model: str,
        api_key: str | None = None,
        is_embedding: bool = False,
        on_change: Callable[[EngineStatus], None] | None = None,
    ) -> None:
        """Name it; nothing is asked before `start`. `on_change` hears of every new state, in the event loop."""
        self.name = name
        self.model = model
        self._api_key = api_key
        self._is_embedding = is_embedding
        self._on_change = on_change
        self._state = EngineState.STOPPED
        self._reason: str | None = None
        self._load_s: float | None = None
        self._door: Door | None = None

    @property
    def state(self) -> EngineState:
        """Where it is in its life."""
        return self._state

    @property
    @abc.abstractmethod
    def base_url(self) -> str:
        """Its address, without `/v1`."""

    @property
    @abc.abstractmethod
    def status(self) -> EngineStatus:
        """All that can be said of it now."""

    @abc.abstractmethod
    async def start(self) -> None:
        """Bring it up; return when it has made a token."""

    @abc.abstractmethod
    async def stop(self, *, drain_s: float = 0.0) -> None:
        """Let it end what it is making, for at most `drain_s`, then let it go."""

    async def probe(self, *, timeout_s: float = _PROBE_TIMEOUT_S) -> float:
        """Have it make one real token; return the seconds that took.

        Raises: EngineNotReady, if it does not.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            await _talk.generate_one_token(
                self._open_door(),
                self.base_url,
                name=self.name,
                model=self.model,
                is_embedding=self._is_embedding,
                api_key=self._api_key,
                timeout_s=timeout_s,
            )
        except UpstreamError as error:
            raise self._made_no_token(error) from error
        return loop.time() - began

    async def __aenter__(self) -> Self:
        """Start it; what a failed start left is cleared away."""
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(self, *_exc: object) -> None:
        """Stop it."""
        await self.stop()

    def _made_no_token(self, error: UpstreamError) -> EngineNotReady:
        return EngineNotReady(f'engine "{self.name}" produced no token: {error.message}', where=self.base_url)

    def _move(self, state: EngineState, reason: str | None = None) -> None:
        assert (self._state, state) in TRANSITIONS, f"{self._state} to {state}"
        self._state = state
        if reason is not None:
            self._reason = reason
        if self._on_change is not None:
            self._on_change(self.status)

    def _open_door(self) -> Door:
        if self._door is None:
            self._door = Door()
        return self._door

    async def _close_door(self) -> None:
        if self._door is not None:
            await self._door.close()
            self._door = None
