"""The endpoints that carry no inference: models, health, metrics, outcomes; and the answer to every other path."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import msgspec

from ownward.core import LedgerError, OwnwardError
from ownward.gateway.client import ClientGone, receive_body
from ownward.gateway.cross_origin import answer_preflight, is_foreign, readable_by_page
from ownward.gateway.endpoints import ENDPOINTS, ROUTES
from ownward.gateway.error_answers import body_of, headers_of_error, status_of
from ownward.gateway.errors import (
    BodyTooLarge,
    Dialect,
    ForeignPage,
    MalformedRequest,
    OutOfScope,
    UnknownPath,
    UnknownRoute,
    UnknownTask,
)
from ownward.gateway.head import check_one_key
from ownward.gateway.keeping import pages as kept_pages
from ownward.gateway.peeking import LONGEST_MODEL, refuse_packed
from ownward.gateway.placing.naming import may_ask_for, names_for
from ownward.gateway.placing.routing import anthropic_record
from ownward.gateway.watching import exposition
from ownward.ledger import Outcome, OutcomeSource
from ownward.upstreams import UNREADABLE

if TYPE_CHECKING:
    from ownward.gateway.asgi import Receive, Scope
    from ownward.gateway.commons import Commons
    from ownward.gateway.listening.asgi_call import AnyCall
    from ownward.gateway.placing.choice import KeyScope
    from ownward.ledger import TaskRow

_LOG = logging.getLogger("ownward.gateway")
_JSON = b"application/json"
_MODELS = "/v1/models"
_WITHOUT_VERSION = ("/models/", "/responses/")
_TASKS = "/v1/tasks/"
_OUTCOME = "/outcome"
_AZURE = "/openai/"
_REMEDY_FOR_AZURE = (
    "This is a path of Azure's: use a client of OpenAI's instead (OpenAI and not AzureOpenAI, api_type openai), with"
    " this gateway's address and /v1 as its base_url, and name a workload or a model where the deployment stood"
)
_MOST_OUTCOME_BYTES = 64 * 1024
_UPGRADE_REQUIRED = 426
_LOOK_S = 1.0
PATHS = (
    *ENDPOINTS,
    _MODELS,
    "/healthz",
    "/readyz",
    "/metrics",
    "/openapi.json",
    "/v1/tasks/ID/outcome",
    "/v1/responses/ID",
)

_Answer = tuple[int, bytes, bytes]


class _StatedOutcome(msgspec.Struct, forbid_unknown_fields=True):
    """The body of an outcome, as docs/reference/gateway.md has it."""

    completed: bool
    source: OutcomeSource = "user"
    score: float | None = None
    human_minutes: float | None = None
    comment: str = ""


async def answer(gateway: Commons, call: AnyCall) -> None:
    """Answer a request that is not for inference."""
    scope = call.scope
    headers: Mapping[bytes, bytes] = dict(scope["headers"])
    dialect: Dialect = "anthropic" if b"anthropic-version" in headers else "openai"
    demands_keys = gateway.keys is not None
    if scope["method"] == "OPTIONS":
        methods = _methods_of(_path_of(scope))
        preflight = answer_preflight(headers, methods=methods, demands_keys=demands_keys)
        if preflight is not None:
            call.begin(204, preflight)
            call.end()
            return
    extra = readable_by_page(headers, demands_keys=demands_keys)
    try:
        status, content_type, body = await _answer(gateway, call, headers)
    except OwnwardError as error:
        status, content_type, body = status_of(error), _JSON, body_of(error, dialect)
        extra += headers_of_error(error)
        if isinstance(error, UnknownPath) and error.allowed_methods:
            extra.append((b"allow", ", ".join(error.allowed_methods).encode()))
            if headers.get(b"upgrade", b"").lower() == b"websocket":
                # By this status clients that would rather have a WebSocket (Codex) go on over HTTP at once.
                status = _UPGRADE_REQUIRED
                extra += [(b"upgrade", b"HTTP/1.1"), (b"connection", b"upgrade")]
    call.answer(status, [(b"content-type", content_type), *extra], body)
    if call.is_write_paused:
        await call.drained()


async def _answer(gateway: Commons, call: AnyCall, headers: Mapping[bytes, bytes]) -> _Answer:
    scope = call.scope
    method, path = scope["method"], _path_of(scope)
    allowed = _methods_of(path)
    if method not in allowed:
        remedy = _REMEDY_FOR_AZURE if path.startswith(_AZURE) else kept_pages.remedy_for(path)
        raise UnknownPath(method, path, allowed_methods=allowed, paths=PATHS, remedy=remedy)
    if path == "/healthz":
        return 200, _JSON, b'{"status": "ok"}'
    if path == "/readyz":
        await gateway.ledger.look(_LOOK_S)  # at rest nothing else would tell that it is gone, or back
        why = gateway.why_not_ready
        record: dict[str, Any] = {"status": "ready"} if why is None else {"status": "not ready", "why": why}
        # No reason to take this gateway out: then nobody would find it paid.
        if unpaid := gateway.health.unpaid_upstreams:
            record["unpaid_upstreams"] = unpaid
        return 200 if why is None else 503, _JSON, json.dumps(record).encode()
    if path == "/openapi.json":
        from ownward.gateway import openapi

        return 200, _JSON, openapi.document_bytes()
    key = None
    if gateway.keys is not None:
        check_one_key(scope["headers"])
        key = await gateway.keys.find(headers)
    elif is_foreign(scope, headers):
        raise ForeignPage
    if path == "/metrics":
        if key is not None and not (key.workloads is None and key.tiers is None):
            raise OutOfScope(
                f"the key {key.key_id!r} may not see what other workloads do and cost",
                allowed="/metrics takes a key that is not scoped to workloads or tiers",
                next_step="Make one with: ownward keys create NAME",
            )
        return 200, exposition.CONTENT_TYPE, await gateway.render_metrics()
    if path.startswith(kept_pages.PREFIX):
        return 200, _JSON, await kept_pages.answer(gateway, method, path, scope.get("query_string", b""), key)
    if path.startswith(_MODELS):
        return _answer_models(gateway, path, headers, key)
    return await _record_outcome(gateway, path, call.receive, headers, key)


def _path_of(scope: Scope) -> str:
    """Return what is asked for, with the `/v1` that a client may leave out."""
    path: str = scope["path"]
    return f"/v1{path}" if path == "/models" or path.startswith(_WITHOUT_VERSION) else path


def _methods_of(path: str) -> tuple[str, ...]:
    if path in ROUTES:
        return ("POST",)
    fixed = {"/healthz", "/readyz", _MODELS, "/metrics", "/openapi.json"}
    if path in fixed or path.startswith(f"{_MODELS}/"):
        return ("GET", "HEAD")
    if path.startswith(_TASKS) and path.endswith(_OUTCOME) and len(path) > len(_TASKS) + len(_OUTCOME):
        return ("POST",)
    return kept_pages.methods_of(path)


def _answer_models(gateway: Commons, path: str, headers: Mapping[bytes, bytes], key: KeyScope | None) -> _Answer:
    table = gateway.table
    names = names_for(key, table)
    is_anthropic = b"anthropic-version" in headers
    if path == _MODELS:
        return 200, _JSON, table.list_models(names, is_anthropic=is_anthropic)
    name = unquote(path.removeprefix(f"{_MODELS}/"))
    if not 0 < len(name) <= LONGEST_MODEL or not may_ask_for(name, key, table):
        raise UnknownRoute(name, names)
    record = anthropic_record(name) if is_anthropic else table.model_record(name, None if key is None else key.key_id)
    return 200, _JSON, json.dumps(record).encode()


async def _record_outcome(
    gateway: Commons, path: str, receive: Receive, headers: Mapping[bytes, bytes], key: KeyScope | None
) -> _Answer:
    task_id = unquote(path[len(_TASKS) : -len(_OUTCOME)])
    try:
        body = await receive_body(receive, most_bytes=_MOST_OUTCOME_BYTES, most_s=gateway.settings.body_timeout_s)
    except ClientGone:
        raise MalformedRequest("the client left before its request was whole") from None
    except BodyTooLarge as error:
        raise BodyTooLarge(limit_bytes=_MOST_OUTCOME_BYTES, what="the outcome", is_fixed=True) from error
    try:
        stated = msgspec.json.decode(body, type=_StatedOutcome)
    except UNREADABLE as error:
        refuse_packed(headers)
        raise MalformedRequest(
            f"the outcome cannot be read: {error}",
            allowed='{"completed": true, "source": "user", "score": 0 to 1, "human_minutes": 2.5, "comment": ""}',
        ) from None
    _check_outcome(stated.score, stated.human_minutes)
    if key is not None and key.workloads is not None:
        task = await asyncio.to_thread(_find_task, gateway, task_id)
        if task is None or task.workload not in key.workloads:
            raise UnknownTask(task_id)
    outcome = Outcome(
        task_id=task_id,
        completed=stated.completed,
        source=stated.source,
        recorded_at=gateway.clock.now(),
        score=stated.score,
        human_minutes=stated.human_minutes,
        comment=stated.comment,
    )
    try:
        await asyncio.to_thread(gateway.ledger.record_outcome, outcome)
    except LedgerError:
        if await asyncio.to_thread(_find_task, gateway, task_id) is not None:
            raise
        raise UnknownTask(task_id) from None
    record = {"task_id": task_id, "source": outcome.source, "completed": outcome.completed}
    return 200, _JSON, json.dumps(record).encode()


def _find_task(gateway: Commons, task_id: str) -> TaskRow | None:
    return next(iter(gateway.ledger.query_tasks(task_id=task_id, limit=1)), None)


def _check_outcome(score: float | None, human_minutes: float | None) -> None:
    """Refuse an outcome whose numbers cannot be.

    Raises: MalformedRequest.
    """
    if score is not None and not 0 <= score <= 1:
        raise MalformedRequest(f"score is {score}", allowed="0 to 1")
    if human_minutes is not None and not 0 <= human_minutes < float("inf"):
        raise MalformedRequest(f"human_minutes is {human_minutes}", allowed="0 or more")
