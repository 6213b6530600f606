"""A connection that finds out that its server is frozen: one that acknowledges what it is sent, and never answers.

TCP sees nothing wrong there, and a statement may rightly take as long as it takes. So a server that says nothing for a
while is asked anew whether it takes connections, as it does while a statement runs or waits for a lock.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Generator, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from ownward.ledger._patience import Patience

if TYPE_CHECKING:
    import psycopg

_T = TypeVar("_T")

_SILENCE_S: Final = 10.0
_ANEW_S: Final = 5
_SOONEST_S: Final = 2
"""The least that `connect_timeout` can say."""


def connect_watched(stated: Mapping[str, Any], patience: Patience) -> psycopg.Connection[Any]:
    """Return an open connection in autocommit mode; a server that is frozen is given up after 15 s.

    Raises: psycopg.OperationalError, also where `patience` is over, or nearly.
    """
    import psycopg

    left_s = patience.left_s
    if left_s < _SOONEST_S:
        raise psycopg.OperationalError("no time is left in which the server could answer")
    if left_s != math.inf:
        asked_s = int(stated["connect_timeout"])
        stated = {**stated, "connect_timeout": int(min(left_s, asked_s) if asked_s > 0 else left_s)}  # 0: without end
    watched: Any = _watched_class().connect(autocommit=True, **stated)
    watched.stated, watched.patience = stated, patience
    return cast("psycopg.Connection[Any]", watched)


@functools.cache
def _watched_class() -> type[Any]:
    import psycopg

    class Watched(psycopg.Connection[Any]):
        """One whose waiting is looked at."""

        stated: Mapping[str, Any] | None = None
        patience: Patience

        def wait(self, gen: Generator[Any, Any, _T], *args: Any, **kwargs: Any) -> _T:
            if self.stated is not None:
                is_frozen = functools.partial(_is_frozen, self, self.stated)
                gen = watch(gen, is_frozen, silence_s=_SILENCE_S, has_time=functools.partial(_has_time, self))
            return super().wait(gen, *args, **kwargs)

    return Watched


def watch(
    waiting: Generator[Any, Any, _T],
    is_frozen: Callable[[], bool],
    *,
    silence_s: float,
    has_time: Callable[[], bool] = lambda: True,
    monotonic_s: Callable[[], float] = time.monotonic,
) -> Generator[Any, Any, _T]:
    """Wait as psycopg's own generator does, which is told now and then that nothing came.

    Raises: psycopg.OperationalError, if nothing comes for `silence_s`, and then `is_frozen`, asked again as often; or
    if nothing comes any more once nobody `has_time`.
    """
    import psycopg

    came = None
    looks_at_s = monotonic_s() + silence_s
    while True:
        try:
            wanted = waiting.send(came)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        came = yield wanted
        if came:
            looks_at_s = monotonic_s() + silence_s
        elif not has_time():
            waiting.close()
            raise psycopg.OperationalError("the server had not answered when the time for it was over")
        elif monotonic_s() >= looks_at_s:
            if is_frozen():
                waiting.close()
                raise psycopg.OperationalError("the server has stopped answering, and takes no connections")
            looks_at_s = monotonic_s() + silence_s


def _has_time(connection: Any) -> bool:
    """Return whether an answer is still waited for; the connection is closed where it is not."""
    if connection.patience.is_over:
        connection.pgconn.finish()
        return False
    return True


def _is_frozen(connection: psycopg.Connection[Any], stated: Mapping[str, Any]) -> bool:
    """Return whether the connection's own server has nothing to say to another one; the connection is closed then."""
    import psycopg

    info = connection.info
    place = {"host": info.host, "hostaddr": info.hostaddr or None, "port": info.port, "connect_timeout": _ANEW_S}
    try:
        psycopg.connect(**{**stated, **place}).close()
    except psycopg.errors.ConnectionTimeout:
        connection.pgconn.finish()
        return True
    except psycopg.Error:
        pass  # it refuses, and so it answers
    return False
