"""Comments in a streamed answer that is silent, so that proxies on its way do not take it for dead.

A comment is a line that starts with a colon; readers of events pass over it (HTML standard, "Server-sent events").
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from ownward.gateway.asgi import Headers
    from ownward.gateway.listening.call import Call

COMMENT: Final = b": keep-alive\n\n"


class StreamKeepAlive:
    """One streamed answer while it is awaited and while it runs.

    `has_written`: something went out since the last beat; whole events, between which a comment may stand.
    `has_head`: a comment went out before the answer had begun, and with it the head of a stream.
    """

    __slots__ = ("_call", "_every_s", "_headers", "_silent_since_s", "has_head", "has_written")

    def __init__(self, call: Call, *, every_s: float, headers: Callable[[], Headers]) -> None:
        """Begin with the first beat; `headers` tells those of a head that goes out before it is known who answers."""
        self._call = call
        self._every_s = every_s
        self._headers = headers
        self._silent_since_s = 0.0
        self.has_written = True
        self.has_head = False

    def beat(self, now_s: float) -> None:
        """Send a comment if nothing went out for `every_s`, unless the client has yet to read what did."""
        call = self._call
        if self.has_written:
            self.has_written = False
            self._silent_since_s = now_s
        elif now_s - self._silent_since_s >= self._every_s and not (call.is_over or call.is_write_paused):
            if not call.has_begun:
                self.has_head = True
                call.begin(200, self._headers())
            call.write(COMMENT)
            self._silent_since_s = now_s
