"""Tasks asked at a running gateway: one chat completion each, through the outbound door."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ownward.core import UpstreamError, UsageError

if TYPE_CHECKING:
    from ownward.trials import Answer, Task
    from ownward.upstreams import Door

_LARGEST_ANSWER_BYTES = 8 << 20
_OK = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A gateway's address, the key to show it, the run that task ids are marked with, and whose tasks they are."""

    url: str
    key: str | None
    run_id: str
    workload: str | None = None


def asker(door: Door, endpoint: Endpoint, *, model: str) -> Callable[[Task], Awaitable[Answer]]:
    """Return what asks `model` (a tier or workload of the gateway) for a task's answer.

    Raises: UsageError, if the address is not one of this machine or a private network.
    """
    from ownward.policy import Label, Place, is_loopback_address, is_private_address, issue_permit
    from ownward.trials import Answer

    parts = urlsplit(endpoint.url)
    host = parts.hostname or ""
    if parts.scheme not in {"http", "https"} or not (host == "localhost" or is_private_address(host)):
        raise UsageError(f"--url is {endpoint.url!r}", allowed="the address of a gateway here: http://127.0.0.1:8484")
    origin = f"{parts.scheme}://{parts.netloc}"
    place = Place(is_local=host == "localhost" or is_loopback_address(host), is_on_site=True)
    label = Label.parse("site")
    headers = [(b"content-type", b"application/json")]
    if endpoint.key is not None:
        headers.append((b"authorization", f"Bearer {endpoint.key}".encode()))
    if endpoint.workload is not None:  # the workload's own label holds, and the ledger counts them as its tasks
        headers.append((b"x-ownward-workload", endpoint.workload.encode()))
        headers.append((b"x-ownward-tier", model.encode()))

    async def ask(task: Task) -> Answer:
        body = json.dumps(
            {"model": model, "messages": list(task.messages), "max_tokens": task.max_tokens, "temperature": 0}
            | dict(task.extra)
        ).encode()
        permit = issue_permit(label=label, place=place, upstream="gateway", origin=origin, body=body)
        named = (b"x-ownward-task", f"{endpoint.run_id}/{model}/{task.task_id}".encode())
        try:
            response = await door.send(
                permit, method="POST", target="/v1/chat/completions", headers=[*headers, named], body=body
            )
            async with response:
                raw = await response.read(_LARGEST_ANSWER_BYTES)
        except UpstreamError as error:
            return Answer(text=None, error=str(error))
        request_id = next(
            (value.decode() for name, value in response.headers if name.lower() == b"x-ownward-request-id"), None
        )
        return _answer(response.status, raw, request_id)

    return ask


def _answer(status: int, raw: bytes, request_id: str | None) -> Answer:
    from ownward.trials import Answer

    try:
        body: Any = json.loads(raw)
    except (ValueError, RecursionError):
        body = None
    if status != _OK or not isinstance(body, dict):
        message = body.get("error", {}).get("message") if isinstance(body, dict) else None
        return Answer(text=None, error=f"status {status}: {message or raw[:200]!r}", request_id=request_id)
    message = body["choices"][0]["message"]
    calls = message.get("tool_calls")
    if calls:
        text = json.dumps([{"name": c["function"]["name"], "arguments": c["function"]["arguments"]} for c in calls])
    else:
        text = message.get("content") or ""
    return Answer(text=text, request_id=request_id)
