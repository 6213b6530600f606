"""The pages as one ASGI application, rendered on the server: they work without a script and without the internet."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, select_autoescape
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from ownward.core import format_count, format_duration, format_percent, format_usd, to_jsonable
from ownward.reports import compute_report, price_steps

if TYPE_CHECKING:
    from collections.abc import Callable
    from decimal import Decimal

    from starlette.requests import Request

    from ownward.ledger import AttemptRow, Ledger
    from ownward.plan import Plan
    from ownward.reports import Report

    _Seen = tuple[Report, list[AttemptRow], Plan | None]

_NEWEST = 25
# A page that a stranger's site could make a browser fetch must not answer under the stranger's name.
_HOSTS = ["127.0.0.1", "localhost", "[::1]"]
_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'self'; img-src 'self' data:; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


def make_application(ledger: Ledger, *, find_plan: Callable[[], Plan | None], human_usd_per_hour: Decimal) -> Starlette:
    """Return the application that shows what `ledger` holds, beside what the plan in force expected of it."""
    environment = Environment(
        loader=PackageLoader("ownward.dashboard"), autoescape=select_autoescape(), trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "count": format_count,
        "duration": format_duration,
        "percent": format_percent,
        "usd": format_usd,
    }
    template = environment.get_template("overview.html")
    style = files("ownward.dashboard").joinpath("static/style.css").read_text(encoding="utf-8")

    def look() -> _Seen:
        plan = find_plan()
        report = compute_report(
            ledger.query_served(input_steps=price_steps(plan)),
            ledger.query_certificates(),
            plan=plan,
            human_usd_per_hour=human_usd_per_hour,
            at=datetime.now(UTC),
        )
        return report, list(ledger.query_requests(newest_first=True, limit=_NEWEST)), plan

    looking: asyncio.Future[_Seen] | None = None

    async def look_together() -> _Seen:
        """Return what a look that is under way finds, or a new one: over millions of calls it takes a minute."""
        nonlocal looking
        if looking is None or looking.done():
            looking = asyncio.ensure_future(asyncio.to_thread(look))
        return await asyncio.shield(looking)

    async def overview(request: Request) -> Response:
        report, newest, plan = await look_together()
        page = template.render(report=report, newest=newest, plan=plan, root=request.scope.get("root_path", ""))
        return HTMLResponse(page, headers=_HEADERS)

    async def data(_request: Request) -> Response:
        report, newest, _ = await look_together()
        body: dict[str, Any] = {**to_jsonable(report.as_record()), "newest": to_jsonable(newest)}
        return JSONResponse(body | {"schema": "ownward.overview/1"}, headers=_HEADERS)

    async def stylesheet(_request: Request) -> Response:
        return Response(style, media_type="text/css", headers=_HEADERS)

    return Starlette(
        routes=[
            Route("/", overview),
            Route("/overview.json", data),
            Route("/style.css", stylesheet),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=_HOSTS)],
    )
