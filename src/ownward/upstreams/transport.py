"""The seam below the door: who carries a call that the door has let through."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from typing import Protocol

from ownward.policy import Origin, Reach
from ownward.upstreams.response import Response
from ownward.upstreams.timeouts import Timeouts

Headers = Sequence[tuple[bytes, bytes]]


class Transport(Protocol):
    """Carries one checked call to one origin.

    A transport connects to the address it has checked (no second resolution),
    follows no redirect and retries only where nothing can have been accepted.
    """

    async def exchange(
        self,
        origin: Origin,
        *,
        upstream: str,
        method: str,
        target: str,
        headers: Headers,
        body: bytes,
        timeouts: Timeouts,
        reach: Reach,
    ) -> Response:
        """Return the answer once its head is there.

        Raises: UpstreamUnreachable, if certainly nothing was accepted;
        UpstreamTimeout and BrokenStream, if it may have been; PolicyRefusal, if an
        address is beyond `reach`, or text would travel in the clear.
        """
        ...

    def use_tls(self, tls: ssl.SSLContext) -> None:
        """Connect by `tls` from now on; what was connected by another ends with the call on it."""
        ...

    async def close(self) -> None:
        """Close every connection at once."""
        ...
