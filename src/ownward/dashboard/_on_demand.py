"""The pages of a gateway that nobody looks at: not there, for what they are made with is a third of its memory."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from decimal import Decimal

    from starlette.types import ASGIApp, Receive, Scope, Send

    from ownward.ledger import Ledger
    from ownward.plan import Plan


class Dashboard:
    """The pages as an ASGI application: `/` the overview, `/overview.json` the same as data.

    It is for loopback: it asks for no key and answers only under a loopback name. Its libraries are imported, on a
    thread, when somebody first asks for a page.
    """

    def __init__(self, ledger: Ledger, *, find_plan: Callable[[], Plan | None], human_usd_per_hour: Decimal) -> None:
        """Show what `ledger` holds, beside what the plan in force expected of it, and what people's hours cost."""
        self._ledger, self._find_plan, self._human_usd_per_hour = ledger, find_plan, human_usd_per_hour
        self._application: asyncio.Future[ASGIApp] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request.

        Raises: ImportError, if the extra `pages` is not installed.
        """
        if self._application is None:
            self._application = asyncio.ensure_future(asyncio.to_thread(self._make))
        making = self._application
        try:
            application = await asyncio.shield(making)
        except Exception:
            if self._application is making:
                self._application = None  # what hindered it may be over when somebody asks again
            raise
        await application(scope, receive, send)

    def _make(self) -> ASGIApp:
        from ownward.dashboard._app import make_application

        return make_application(self._ledger, find_plan=self._find_plan, human_usd_per_hour=self._human_usd_per_hour)
