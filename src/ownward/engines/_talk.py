"""The few questions asked of a running engine, through the outbound door: is it up, does it generate, is it busy."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import urlsplit

from ownward.core import EngineNotReady, UpstreamError
from ownward.policy import ANY, LOCAL_ONLY, Place, is_loopback_address, issue_permit
from ownward.upstreams import Door, Timeouts

_MAX_ANSWER_BYTES = 4 * 1024 * 1024
_STATUS_OK = 200
_SHOWN_BYTES = 300
_BUSY = re.compile(
    rb"^(?:llamacpp:requests_processing|vllm:num_requests_running)(?:\{[^}]*\})? ([0-9.e+]+)", re.MULTILINE
)
_WORK = re.compile(
    rb"^(?:llamacpp:n_decode_total|vllm:generation_tokens_total)(?:\{[^}]*\})? ([0-9.e+]+)", re.MULTILINE
)


_SAID_IN_PROPS = {
    "tools": ("chat_template_caps", "supports_tools"),
    "vision": ("modalities", "vision"),
    "audio": ("modalities", "audio"),
}


async def ask(
    door: Door,
    base_url: str,
    target: str,
    *,
    name: str,
    payload: dict[str, Any] | None = None,
    api_key: str | None = None,
    timeout_s: float,
) -> tuple[int, bytes]:
    """Return status and body of one call; a GET without `payload`, else a POST of it as JSON.

    Raises: UpstreamError.
    """
    body = b"" if payload is None else json.dumps(payload).encode()
    is_local = _is_here(base_url)
    permit = issue_permit(
        label=LOCAL_ONLY if is_local else ANY,  # our own fixed words, no request's data
        place=Place(is_local=is_local),
        upstream=name,
        origin=base_url,
        body=body,
    )
    headers = [(b"content-type", b"application/json")] if body else []
    if api_key is not None:
        headers.append((b"authorization", f"Bearer {api_key}".encode()))
    prefix = urlsplit(base_url).path.rstrip("/")
    timeouts = Timeouts(connect_s=min(10.0, timeout_s), first_byte_s=timeout_s, stall_s=timeout_s)
    response = await door.send(
        permit, method="POST" if body else "GET", target=prefix + target, headers=headers, body=body, timeouts=timeouts
    )
    async with response:
        return response.status, await response.read(_MAX_ANSWER_BYTES)


def _is_here(base_url: str) -> bool:
    host = urlsplit(base_url).hostname or ""
    return host == "localhost" or is_loopback_address(host)


async def generate_one_token(
    door: Door, base_url: str, *, name: str, model: str, is_embedding: bool, api_key: str | None, timeout_s: float
) -> None:
    """Have the engine make one real token (or vector): the only proof that it works.

    Raises: EngineNotReady, with what it answered; UpstreamError, where it did not answer.
    """
    tried = (
        [("/v1/embeddings", {"input": "ready?"})]
        if is_embedding
        else [
            ("/v1/completions", {"prompt": "ready?", "max_tokens": 1}),
            ("/v1/chat/completions", {"messages": [{"role": "user", "content": "ready?"}], "max_tokens": 1}),
        ]
    )
    status, body = 0, b""
    for target, payload in tried:
        status, body = await ask(
            door, base_url, target, name=name, payload={"model": model, **payload}, api_key=api_key, timeout_s=timeout_s
        )
        if status == _STATUS_OK and _has_answer(body):
            return
    raise EngineNotReady(f'engine "{name}" answers {status} to a request for one token: {_shown(body)}', where=base_url)


def _shown(body: bytes) -> str:
    return body[:_SHOWN_BYTES].decode("utf-8", "replace")


def _has_answer(body: bytes) -> bool:
    try:
        answer = json.loads(body)
    except ValueError:
        return False
    return isinstance(answer, dict) and bool(answer.get("choices") or answer.get("data"))


async def find_lacks(door: Door, base_url: str, *, name: str, timeout_s: float) -> frozenset[str]:
    """Return the capabilities that an engine says it does not have; none where it says nothing of them.

    llama.cpp leaves tools out without a word where the model's chat template knows none, and makes an answer without.
    Source: `chat_template_caps` and `modalities` of its `/props` (tools/server/README.md).
    """
    try:
        status, body = await ask(door, base_url, "/props", name=name, timeout_s=timeout_s)
        said = json.loads(body) if status == _STATUS_OK else None
    except (UpstreamError, ValueError):
        return frozenset()
    return frozenset(
        capability
        for capability, (group, member) in _SAID_IN_PROPS.items()
        if isinstance(said, dict) and isinstance(said.get(group), dict) and said[group].get(member) is False
    )


async def is_healthy(door: Door, base_url: str, *, name: str, timeout_s: float) -> bool:
    """Tell whether `/health` answers 200; a server that loads says 503."""
    try:
        status, _ = await ask(door, base_url, "/health", name=name, timeout_s=timeout_s)
    except UpstreamError:
        return False
    return status == _STATUS_OK


async def read_gauges(door: Door, base_url: str, *, name: str, timeout_s: float) -> tuple[int | None, float | None]:
    """Return requests in the making and a counter that grows with work, from `/metrics`; None where it does not say."""
    try:
        status, body = await ask(door, base_url, "/metrics", name=name, timeout_s=timeout_s)
    except UpstreamError:
        return None, None
    if status != _STATUS_OK:
        return None, None
    busy, work = _BUSY.search(body), _WORK.search(body)
    return (None if busy is None else int(float(busy[1])), None if work is None else float(work[1]))


async def list_models(
    door: Door, base_url: str, *, name: str, api_key: str | None, timeout_s: float
) -> tuple[str, ...]:
    """Return the names of the models a server offers.

    Raises: EngineNotReady, if its list cannot be read; UpstreamError.
    """
    status, body = await ask(door, base_url, "/v1/models", name=name, api_key=api_key, timeout_s=timeout_s)
    try:
        listed = json.loads(body)["data"]
        return tuple(str(model["id"]) for model in listed)
    except (ValueError, KeyError, TypeError) as error:
        raise EngineNotReady(
            f'engine "{name}" answers {status} to a request for its models: {_shown(body)}',
            where=base_url,
            next_step="Give the address of an OpenAI-compatible server, without /v1",
        ) from error
