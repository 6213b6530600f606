"""A strategy's judge: it reads each answer once, aside where that may take long."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ownward.gateway.calling.sink import forget_frames
from ownward.gateway.holding.judging import UNREAD, AnswerUnread, Read

if TYPE_CHECKING:
    from ownward.gateway.calling.served import Served
    from ownward.gateway.placing.strategy import CompiledStrategy

_READ_AT_ONCE_CHARACTERS = 64 * 1024


class Judge:
    """The judge of one request's answers: `unread` counts those that took it too long."""

    __slots__ = ("_exchange", "_found", "_strategy", "unread")

    def __init__(self, strategy: CompiledStrategy, exchange: Served) -> None:
        """Begin; nothing is read yet."""
        self._strategy = strategy
        self._exchange = exchange
        self._found: dict[str, Read] = {}
        self.unread = 0

    async def look_at(self, text: str) -> None:
        """Read an answer, aside where that may take long: others are served meanwhile."""
        strategy, exchange = self._strategy, self._exchange
        if strategy.judge is None or text in self._found:
            return
        if strategy.is_bounded and len(text) <= _READ_AT_ONCE_CHARACTERS:
            self._found[text] = strategy.judge.extract(text), strategy.judge.verify(text)
            return
        try:
            self._found[text] = await exchange.gateway.judging.read(strategy.rule, text)
        except AnswerUnread as error:
            forget_frames(error)
            self._found[text] = UNREAD
            self.unread += 1
            exchange.gateway.fault_log.say("an answer to %s counts as unread", exchange.request_id, error)

    def extract(self, text: str) -> str | None:
        """Return what an answer that was looked at says."""
        return self._found[text][0]

    def verify(self, text: str) -> float | None:
        """Return how right an answer that was looked at is, from 0 to 1."""
        return self._found[text][1]
