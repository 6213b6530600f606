"""Which endpoint of an upstream is asked in the place of the client's, where that one is not served there."""

from __future__ import annotations

from collections.abc import Mapping

from ownward.gateway.endpoints import CHAT, MESSAGES, RESPONSES, Endpoint
from ownward.plan import Tier

_LLAMA_CPP = frozenset({"embedded", "llama-server"})
"""Their stream of `/v1/responses` lacks `content_index`, `output_index` and sequence numbers (build b11549), without
which openai's own client cannot put an answer together. Their `/v1/messages` passes over a JSON schema, to which their
chat completions hold an answer: measured 2026-11-21."""


THREADS = "threads"
"""What a message with `thread` needs: an upstream that holds what was said, of which the next request says nothing."""


def may_keep_threads(tier: Tier, *, is_crossed: bool) -> bool:
    """Return whether an upstream may hold a conversation as Anthropic's own service does.

    Engines pass over the member, and would answer the next request without all that was said before.
    """
    return tier.kind == "rented" and not is_crossed


def find_form_crossings(tier: Tier) -> Mapping[str, Endpoint]:
    """Return, by the client's path, the endpoint that is asked in its place where a request demands a JSON schema."""
    return {MESSAGES.path: CHAT} if tier.engine in _LLAMA_CPP else {}


def find_crossings(tier: Tier, dialects: frozenset[str]) -> Mapping[str, Endpoint]:
    """Return, by the client's path, the endpoint that is asked in its place where it is not served itself.

    A tier that states its capabilities and not `responses` is asked for chat completions instead, and so is llama.cpp.
    """
    speaks_openai = "openai" in dialects
    instead = CHAT if speaks_openai else MESSAGES
    found: dict[str, Endpoint] = {}
    for endpoint in (CHAT, RESPONSES, MESSAGES):
        is_served = endpoint.dialect in dialects
        if endpoint is RESPONSES:
            is_served &= tier.engine not in _LLAMA_CPP and ("responses" in tier.capabilities or not tier.capabilities)
        if not is_served:
            found[endpoint.path] = instead
    return found
