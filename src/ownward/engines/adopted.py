"""A server that somebody else runs (Ollama, LM Studio, llama-server): asked and watched, never started or stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ownward.core import EngineNotReady, UpstreamError
from ownward.engines import _talk
from ownward.engines._base import BaseEngine
from ownward.engines._state import EngineState, EngineStatus

_PROBE_TIMEOUT_S = 300.0  # it may load the model first
_LIST_TIMEOUT_S = 15.0


class AdoptedEngine(BaseEngine):
    """An OpenAI-compatible server at an address, with the interface of our own engines.

    `start` proves that it generates, `stop` leaves it running. Its state is
    what the last probe found: nobody here can restart it.
    """

    def __init__(
        self,
        url: str,
        *,
        name: str,
        model: str | None = None,
        api_key: str | None = None,
        is_embedding: bool = False,
        on_change: Callable[[EngineStatus], None] | None = None,
    ) -> None:
        """Name it; nothing is asked before `start`. `model` None takes the only one it lists."""
        super().__init__(name=name, model=model or "", api_key=api_key, is_embedding=is_embedding, on_change=on_change)
        self._url = url.rstrip("/").removesuffix("/v1")

    @property
    def base_url(self) -> str:
        """Its address, without `/v1`."""
        return self._url

    @property
    def status(self) -> EngineStatus:
        """All that can be said of it now."""
        return EngineStatus(
            name=self.name,
            state=self._state,
            base_url=self._url,
            pid=None,
            reason=self._reason,
            restarts=0,
            restart_in_s=None,
            load_s=self._load_s,
            lacks=frozenset(),
        )

    async def start(self) -> None:
        """Prove that it generates.

        Raises: EngineNotReady.
        """
        if self._state is EngineState.READY:
            return
        self._move(EngineState.STARTING)
        try:
            if not self.model:
                self.model = await self._find_model()
            self._load_s = await self.probe()
        except EngineNotReady as error:
            self._move(EngineState.FAILED, str(error))
            raise
        except asyncio.CancelledError:
            self._move(EngineState.FAILED, "the probe was given up")
            raise
        self._move(EngineState.READY)

    async def stop(self, *, drain_s: float = 0.0) -> None:  # noqa: ARG002 - the interface of our own engines
        """Let go of it; it runs on."""
        if self._state is EngineState.STOPPED:
            return
        self._move(EngineState.STOPPING)
        await self._close_door()
        self._move(EngineState.STOPPED)

    async def probe(self, *, timeout_s: float = _PROBE_TIMEOUT_S) -> float:
        """Have it make one real token, which may have it load the model first; return the seconds that took.

        Raises: EngineNotReady, if it does not.
        """
        return await super().probe(timeout_s=timeout_s)

    async def list_models(self) -> tuple[str, ...]:
        """Return the names of the models it offers.

        Raises: EngineNotReady.
        """
        try:
            return await _talk.list_models(
                self._open_door(), self._url, name=self.name, api_key=self._api_key, timeout_s=_LIST_TIMEOUT_S
            )
        except UpstreamError as error:
            raise self._made_no_token(error) from error

    async def _find_model(self) -> str:
        names = await self.list_models()
        if len(names) == 1:
            return names[0]
        raise EngineNotReady(
            f'engine "{self.name}" offers {len(names)} models and none was named',
            where=self._url,
            allowed=f"It offers: {', '.join(names)}" if names else None,
            next_step="Name one",
        )

    def _made_no_token(self, error: UpstreamError) -> EngineNotReady:
        return EngineNotReady(
            f'engine "{self.name}" produced no token: {error.message}',
            where=self._url,
            next_step="Start it, or correct its address in the plan",
        )
