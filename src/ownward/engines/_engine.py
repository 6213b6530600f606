"""What the rest of the house asks of an engine, whoever runs it."""

from __future__ import annotations

from typing import Protocol

from ownward.engines._state import EngineState, EngineStatus


class Engine(Protocol):
    """One served model: embedded, launched or adopted."""

    @property
    def name(self) -> str:
        """Its name in the plan and in messages."""
        ...

    @property
    def model(self) -> str:
        """The model name that it wants in requests."""
        ...

    @property
    def state(self) -> EngineState:
        """Where it is in its life."""
        ...

    @property
    def base_url(self) -> str:
        """Its address, without `/v1`; it may be another after a restart."""
        ...

    @property
    def status(self) -> EngineStatus:
        """All that can be said of it now."""
        ...

    async def start(self) -> None:
        """Bring it up, and return when it has made a token."""
        ...

    async def probe(self, *, timeout_s: float = 60.0) -> float:
        """Have it make one real token; return the seconds that took."""
        ...

    async def stop(self, *, drain_s: float = 0.0) -> None:
        """Let it end what it is making, then let it go."""
        ...
