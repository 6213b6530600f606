"""Which endpoint of an upstream is asked instead of the client's, where the upstream does not serve that one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias
from urllib.parse import urlsplit

from ownward.gateway.endpoints import CHAT, COUNT_CHATS, COUNT_TOKENS, MESSAGES, RESPONSES, Endpoint
from ownward.gateway.needs import SHORT_ANSWERS, STOP_SEQUENCES
from ownward.plan import Tier, Upstream

_OPENAI = "api.openai.com"

CHATS_ALONE: Mapping[str, Endpoint] = {RESPONSES.path: CHAT, MESSAGES.path: CHAT, COUNT_TOKENS.path: COUNT_CHATS}
"""The substitutes of an engine that is asked for chats alone, also where the plan states `messages_as`."""

SubstitutesByNeed: TypeAlias = Mapping[str, Mapping[str, Endpoint]]


def may_keep_threads(tier: Tier, *, is_translated: bool) -> bool:
    """Return whether an upstream may hold a conversation as Anthropic's own service does.

    Engines pass over the member, and would answer the next request without all that was said before.
    """
    return tier.kind == "rented" and not is_translated


def find_substitutes_by_need(substitutes: Mapping[str, Endpoint], upstream: Upstream) -> SubstitutesByNeed:
    """Return, by what a request needs and the client's path, which endpoint holds that where the usual one does not.

    Responses know no stop sequences, and no limit below 16 tokens, with which coding agents try a key or a model:
    where the plan leaves the choice to us, chat completions are asked for them.
    """
    if substitutes.get(MESSAGES.path) is RESPONSES and upstream.messages_as is None:
        return {need: {MESSAGES.path: CHAT} for need in (STOP_SEQUENCES, SHORT_ANSWERS)}
    return {}


def find_substitutes(tier: Tier, upstream: Upstream, dialects: frozenset[str]) -> Mapping[str, Endpoint]:
    """Return, by the client's path, the endpoint that is asked in its place where it is not served itself.

    A tier that states its capabilities and not `responses` is asked for chat completions instead. Messages go to
    OpenAI's own service as responses, since its newer models take tools with reasoning nowhere else.
    """
    gives_responses = "responses" in tier.capabilities or not tier.capabilities
    speaks_openai = "openai" in dialects
    instead = CHAT if speaks_openai else MESSAGES
    found: dict[str, Endpoint] = {}
    for endpoint in (CHAT, RESPONSES, MESSAGES):
        is_served = endpoint.dialect in dialects
        if endpoint is RESPONSES:
            is_served &= gives_responses
        if not is_served:
            found[endpoint.path] = instead
    if speaks_openai and MESSAGES.path in found:
        usual = "responses" if gives_responses and is_openais_own(upstream.origin or "") else "chat"
        found[MESSAGES.path] = RESPONSES if (upstream.messages_as or usual) == "responses" else CHAT
    return found


def is_openais_own(origin: str) -> bool:
    """Return whether an address is that of OpenAI's own service, in whatever region."""
    host = urlsplit(origin).hostname or ""
    return host == _OPENAI or host.endswith(f".{_OPENAI}")
