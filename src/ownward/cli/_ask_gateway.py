"""Tasks asked at a running gateway: one request each, through the outbound door."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from ownward.core import PolicyRefusal, UpstreamError, UpstreamUnreachable, UsageError

if TYPE_CHECKING:
    from ownward.trials import Answer, Task
    from ownward.upstreams import Door

_LARGEST_ANSWER_BYTES = 8 << 20
_NAME: Final = re.compile(r"[A-Za-z0-9_.:@/+-]{1,128}")
_OK = 200
_TOO_MANY = 429
FORBIDDEN: Final = "its label does not allow it to be sent there"
UNREACHED: Final = "the gateway could not be reached"
# Kinds of errors of the gateway at which nobody was asked; those of an upstream or an engine are the candidate's own.
_NOT_ASKED = frozenset(
    {
        "draining", "foreign_page", "ledger_error", "out_of_scope", "over_budget", "over_limit", "rate_limited",
        "too_many_in_flight", "unauthorized", "unbounded_charge", "unknown_route", "upstream_credentials",
        "upstream_unpaid",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A gateway's address, the key to show it, the run that task ids are marked with, and whose tasks they are."""

    url: str
    key: str | None
    run_id: str
    workload: str | None = None


def make_asker(door: Door, endpoint: Endpoint, *, model: str) -> Callable[[Task], Awaitable[Answer]]:
    """Return a function that asks `model`, a tier or workload of the gateway, for a task's answer.

    Raises: UsageError, if the address is not one of this machine or a private network.
    """
    from ownward.policy import Label, Place, is_loopback_address, is_private_address, issue_permit
    from ownward.trials import Answer

    parts = urlsplit(endpoint.url)
    host = parts.hostname or ""
    if parts.scheme not in {"http", "https"} or not (host == "localhost" or is_private_address(host)):
        raise UsageError(
            f"--url is {endpoint.url!r}",
            allowed="a gateway on this machine or a private network, such as http://127.0.0.1:8484",
        )
    origin = f"{parts.scheme}://{parts.netloc}"
    place = Place(is_local=host == "localhost" or is_loopback_address(host), is_on_site=True)
    headers = [(b"content-type", b"application/json")]
    if endpoint.key is not None:
        headers.append((b"authorization", f"Bearer {endpoint.key}".encode()))
    if endpoint.workload is not None:  # the workload's own label holds, and the ledger counts them as its tasks
        headers.append((b"x-ownward-workload", endpoint.workload.encode()))
        headers.append((b"x-ownward-tier", model.encode()))

    async def ask(task: Task) -> Answer:
        body = json.dumps(_body(task, model)).encode()
        named = [(b"x-ownward-task", task_name(endpoint.run_id, model, task.task_id).encode())]
        if task.label is not None:  # the gateway sends it no further
            named.append((b"x-ownward-label", task.label.encode()))
        if task.path == "/v1/messages":
            named.append((b"anthropic-version", b"2023-06-01"))
        try:
            permit = issue_permit(
                label=Label.parse(task.label or "site"), place=place, upstream="gateway", origin=origin, body=body
            )
            response = await door.send(permit, method="POST", target=task.path, headers=[*headers, *named], body=body)
            async with response:
                raw = await response.read(_LARGEST_ANSWER_BYTES)
        except UpstreamUnreachable as error:
            return Answer(text=None, error=str(error), not_asked=UNREACHED)
        except UpstreamError as error:
            return Answer(text=None, error=str(error))
        except PolicyRefusal as error:
            return Answer(text=None, error=str(error), not_asked=FORBIDDEN)
        request_id = next(
            (value.decode() for name, value in response.headers if name.lower() == b"x-ownward-request-id"), None
        )
        return _answer(response.status, raw, request_id)

    return ask


def task_name(run_id: str, model: str, task_id: str) -> str:
    """Return the task's name at the gateway, which takes no spaces and no more than 128 characters."""
    name = f"{run_id}/{model}/{task_id}"
    if _NAME.fullmatch(name) is not None:
        return name
    digest = hashlib.sha256(f"{model}/{task_id}".encode("utf-8", "surrogatepass")).hexdigest()
    return f"{run_id}/{digest[:32]}"


def _body(task: Task, model: str) -> dict[str, Any]:
    if task.body is not None:
        return dict(task.body) | {"model": model}
    asked = {"model": model, "messages": list(task.messages), "max_tokens": task.max_tokens, "temperature": 0}
    return asked | dict(task.extra)


def _answer(status: int, raw: bytes, request_id: str | None) -> Answer:
    from ownward.trials import Answer, text_of_answer

    text = text_of_answer(raw) if status == _OK else None
    if text is not None:
        return Answer(text=text, request_id=request_id)
    try:
        body: Any = json.loads(raw)
    except (ValueError, RecursionError):
        body = None
    error = body.get("error") if isinstance(body, dict) else None
    said = error if isinstance(error, dict) else {}
    told = f"status {status}: {said.get('message') or repr(raw[:200])}"
    return Answer(text=None, error=told, request_id=request_id, not_asked=_why_not_asked(status, said))


def _why_not_asked(status: int, said: dict[str, Any]) -> str | None:
    """Return why nobody was asked, by the gateway's error; None where an upstream was."""
    kind = said.get("ownward_kind")
    if kind == "policy_refusal":
        return FORBIDDEN
    if kind in _NOT_ASKED:
        return f"the gateway did not send it ({kind})"
    return "the upstream asks to wait (429)" if status == _TOO_MANY else None
