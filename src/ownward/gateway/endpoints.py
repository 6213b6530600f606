"""The inference endpoints as data: path, dialect, the capabilities that a tier must have, what is charged."""

from __future__ import annotations

from dataclasses import dataclass

from ownward import upstreams
from ownward.gateway.errors import Dialect


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One path of the wire.

    `needs` is satisfied by a tier that states any of its capabilities. `has_output` is false where no output
    token can be charged; `is_free` where the call itself is not charged at all.
    """

    path: str
    dialect: Dialect
    splices_as: upstreams.Endpoint
    needs: frozenset[str]
    has_output: bool = True
    is_free: bool = False


CHAT = Endpoint(path="/v1/chat/completions", dialect="openai", splices_as="chat", needs=frozenset({"chat"}))
COMPLETIONS = Endpoint(
    path="/v1/completions", dialect="openai", splices_as="completions", needs=frozenset({"completions"})
)
RESPONSES = Endpoint(path="/v1/responses", dialect="openai", splices_as="responses", needs=frozenset({"responses"}))
EMBEDDINGS = Endpoint(
    path="/v1/embeddings", dialect="openai", splices_as="embeddings", needs=frozenset({"embeddings"}), has_output=False
)
MESSAGES = Endpoint(
    path="/v1/messages", dialect="anthropic", splices_as="messages", needs=frozenset({"messages", "chat"})
)
COUNT_TOKENS = Endpoint(
    path="/v1/messages/count_tokens",
    dialect="anthropic",
    splices_as="messages",
    needs=frozenset({"messages", "chat"}),
    has_output=False,
    is_free=True,
)
COUNT_CHATS = Endpoint(
    path="/v1/chat/completions/input_tokens",
    dialect="openai",
    splices_as="chat",
    needs=frozenset({"chat"}),
    has_output=False,
    is_free=True,
)
"""llama.cpp's own: it counts the tokens of a message that is translated into a chat."""

ENDPOINTS = {endpoint.path: endpoint for endpoint in (CHAT, COMPLETIONS, RESPONSES, EMBEDDINGS, MESSAGES, COUNT_TOKENS)}
ROUTES = ENDPOINTS | {path.removeprefix("/v1"): endpoint for path, endpoint in ENDPOINTS.items()}
"""What is served at which path: also without `/v1`, which clients leave out whose base URL is `base_url` as it is."""
