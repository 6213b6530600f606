"""Where an answer goes, and what is raised where another upstream may give a better one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from ownward.core import OwnwardError
from ownward.gateway.asgi import Headers

if TYPE_CHECKING:
    from ownward.gateway.placing.routing import Target
    from ownward.upstreams import Response


Refusal = tuple[int, bytes, Headers, bytes]
"""What an upstream said in place of an answer: status, content type, the headers that a client may see, body."""


class Retry(Exception):
    """An attempt failed before the first byte reached the client, in a way that another upstream may not.

    `error` is what to say if there is none; `answer` the upstream's own words, where it had any. `asks_again`: the
    same upstream refused what we had added, or what another one wrote, and is asked without it; with `body`, where
    that is not known when the request is made anew.
    """

    def __init__(
        self,
        error: OwnwardError,
        *,
        answer: Refusal | None = None,
        asks_again: bool = False,
        body: bytes | None = None,
    ) -> None:
        """Keep what to say."""
        super().__init__(str(error))
        self.error = error
        self.answer = answer
        self.asks_again = asks_again
        self.body = body


def forget_frames(error: BaseException) -> None:
    """Have an error that is kept hold nothing of where it was raised.

    The frames there hold it in turn, and the request with its body and its answer: only the garbage collector, which
    runs seldom, would free them.
    """
    error.__traceback__ = error.__context__ = error.__cause__ = None


class Sink(Protocol):
    """Where an answer goes: to the client, or to a strategy that wants to look at it first."""

    @property
    def takes_hedge(self) -> bool:
        """Whether a late call may get a second one beside it: not where the number of calls is somebody else's."""
        ...

    @property
    def has_begun(self) -> bool:
        """Whether anything was passed on, so that no other upstream can be asked."""
        ...

    def body_for(self, target: Target, body: bytes, /) -> bytes:
        """Return the request as `target` is asked."""
        ...

    async def answer(self, status: int, content_type: bytes, headers: Headers, body: bytes) -> None:
        """Take a whole answer."""
        ...

    async def begin(self, status: int, content_type: bytes, headers: Headers) -> None:
        """Take the head of a stream."""
        ...

    async def write(self, data: bytes) -> None:
        """Take a piece of a stream."""
        ...

    def direct_writer(self, response: Response) -> Callable[[bytes], None] | None:
        """Return a function that writes pieces of `response` as they arrive; None where each has to be awaited."""
        ...

    async def end(self, data: bytes = b"") -> None:
        """Take a stream's end."""
        ...

    async def end_broken(self, error: OwnwardError) -> None:
        """Take the news that a stream broke."""
        ...
