"""The terms of a call, as far as its charge hangs on them: what request and answer say beside counts of tokens.

A list price holds for one mode of service and for text. What was served in another mode, heard, searched or made by
another model is charged otherwise, and an answer that says so must not be priced as if it did not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec

from ownward.upstreams._json import UNREADABLE
from ownward.upstreams.splicing import Spliced

STANDARD = "standard"
SOUND = "sound"
SEARCHES = "searches"
TOOLS = "tools that the provider runs"
OTHER_MODELS = "other models"
OWN_CHOICE = "models that the request lists itself"
REGION = "a region of processing"
PICTURES = "pictures"
SUMMARIES = "summaries of the context"
CREDIT = "a credit for a refusal"
OTHER_MODE = "other"
"""What a mode is called whose own name is none: its words may quote a request, and modes are written down."""

ADDED = frozenset({SEARCHES, TOOLS, OTHER_MODELS})
"""What comes on top of the tokens, so that these are the least that is charged."""

TAKEN_OFF = frozenset({CREDIT})
"""What is taken off the tokens' charge, so that it is the most that is charged."""

READ_ONCE = frozenset({PICTURES, REGION, SOUND})
"""With no other extras than these, a request's input is read once."""

_STANDARD = frozenset({"standard", "standard_only", "default", "on_demand"})
_CLIENT_TOOLS = ("bash_", "text_editor_", "computer_", "memory_")
_PLAIN_TOOLS = frozenset({"function", "custom"})
_CHARGED_ITEMS = frozenset(
    {"web_search_call", "file_search_call", "code_interpreter_call", "image_generation_call", "shell_call"}
)
_MEMBERS = frozenset(
    {
        "audio", "container", "context_management", "enable_search", "fallbacks", "inference_geo", "mcp_servers",
        "modalities", "models", "plugins", "preset", "search_parameters", "service_tier", "speed", "tools",
        "web_search_options",
    }
)  # fmt: skip
_MODE = re.compile(r"[A-Za-z0-9_.-]{1,32}")
_UNPLACED = frozenset({"", "global", "not_available"})


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """How a call is served, where it says so.

    `mode` is pricing's word (`standard`, `batch`, `flex`, `fast`) or the provider's own; None where nothing is said.
    `extras` name what the rates of tokens do not charge for.
    """

    mode: str | None = None
    extras: frozenset[str] = frozenset()


class AskedTerms(Terms, frozen=True, kw_only=True):
    """What a request asks for; `untold` are those of its extras of which no answer says whether they came about."""

    untold: frozenset[str] = frozenset()


class _Kind(msgspec.Struct):
    type: str | None = None


_Kinds = list[_Kind] | None

NO_TERMS = Terms()
NOTHING_ASKED = AskedTerms()


def terms_asked(request: Spliced) -> AskedTerms:
    """Return the terms that a request, as it is sent, asks for."""
    top = request.top
    hears = request.body.find(b'"input_audio"') >= 0  # `in` tries first whether this is a number
    if not hears and _MEMBERS.isdisjoint(top):
        return NOTHING_ASKED
    stated = {key: _read(top[key], _Kinds if key == "tools" else Any) for key in _MEMBERS & top.keys()}
    extras = set()
    untold = {SOUND} if hears else set()  # Gemini's answers, for one, count it among all tokens
    modalities = stated.get("modalities")
    made = modalities if isinstance(modalities, list) else ()
    if stated.get("audio") or "audio" in made:
        untold.add(SOUND)
    if "image" in made:
        untold.add(PICTURES)
    if stated.get("web_search_options") is not None or _asks_for_searches(stated):
        untold.add(SEARCHES)
    if stated.get("inference_geo") is not None and stated["inference_geo"] not in _UNPLACED:
        untold.add(REGION)
    if stated.get("container") or stated.get("mcp_servers") or _names_others_tools(stated.get("tools")):
        extras.add(TOOLS)
    if stated.get("fallbacks"):
        extras.add(OTHER_MODELS)
    if stated.get("models") or stated.get("preset"):
        untold.add(OWN_CHOICE)  # OpenRouter's: the one that answers is charged by its own price
    if _asks_for_summaries(stated.get("context_management")):
        extras.add(SUMMARIES)
    mode = find_mode(stated.get("service_tier"), stated.get("speed"), "openai")
    return AskedTerms(mode=mode, extras=frozenset(extras | untold), untold=frozenset(untold))


def terms_told(*, service_tier: object, usage: object, items: object, dialect: Literal["openai", "anthropic"]) -> Terms:
    """Return the terms that an answer states: its `service_tier`, its `usage`, and the items of a response."""
    counts = usage if isinstance(usage, dict) else {}
    if service_tier is None and not items and _TELLING.isdisjoint(counts):
        heard, made = counts.get("prompt_tokens_details"), counts.get("completion_tokens_details")
        is_plain = not (heard or made)
        if is_plain or not (_tells_sound(heard) or _tells_sound(made) or _tells_pictures(made)):  # as nearly all are
            return NO_TERMS
    extras = _beyond_text(counts)
    if isinstance(counts.get("inference_geo"), str) and counts["inference_geo"] not in _UNPLACED:
        extras.add(REGION)
    for key in _SOURCES & counts.keys():
        if _count(counts, key) or _count(_inner(counts, key), "web_search_requests"):
            extras.add(SEARCHES)
    if _inner(_inner(counts, "fallback_credit"), "status").get("type") == "redeemed":
        extras.add(CREDIT)  # what was written to a cache is charged as if it had been read
    for kind in _kinds(counts.get("iterations")):
        if kind != "message":
            extras.add(SUMMARIES if kind == "compaction" else OTHER_MODELS)
    if any(kind in _CHARGED_ITEMS for kind in _kinds(items)):
        extras.add(TOOLS)
    stated = service_tier if service_tier is not None else counts.get("service_tier")
    mode = find_mode(stated, counts.get("speed"), dialect)
    return NO_TERMS if mode is None and not extras else Terms(mode=mode, extras=frozenset(extras))


def _beyond_text(counts: Mapping[str, Any]) -> set[str]:
    """Return which of an answer's tokens are none of text; pictures that were sent are charged as text is."""
    extras = set()
    details = [_inner(counts, key) for key in _DETAILS & counts.keys()]
    if any(_count(one, "audio_tokens") for one in details) or _count(counts, "prompt_audio_seconds"):  # Mistral's
        extras.add(SOUND)
    if any(_count(_inner(counts, key), "image_tokens") for key in _MADE & counts.keys()):
        extras.add(PICTURES)
    return extras


_DETAILS = frozenset(
    {"prompt_tokens_details", "completion_tokens_details", "input_tokens_details", "output_tokens_details"}
)
_MADE = frozenset({"completion_tokens_details", "output_tokens_details"})
_SOURCES = frozenset({"num_sources_used", "num_search_queries", "server_tool_use"})
_TELLING = _SOURCES | {
    "fallback_credit", "inference_geo", "input_tokens_details", "iterations", "output_tokens_details",
    "prompt_audio_seconds", "service_tier", "speed",
}  # fmt: skip


def find_mode(service_tier: object, speed: object, dialect: Literal["openai", "anthropic"]) -> str | None:
    """Return the mode that words of a request or an answer stand for; `auto` says nothing.

    >>> find_mode("default", None, "openai"), find_mode("priority", None, "openai")
    ('standard', 'fast')
    """
    if speed == "fast":
        return "fast"
    if not isinstance(service_tier, str) or not service_tier or service_tier == "auto":
        return None
    if service_tier in _STANDARD:
        return STANDARD
    if service_tier == "priority" and dialect == "openai":  # its answers call `fast` so as well
        return "fast"
    return service_tier if _MODE.fullmatch(service_tier) is not None else OTHER_MODE


def _tells_sound(details: object) -> bool:
    return isinstance(details, dict) and bool(details.get("audio_tokens"))


def _tells_pictures(details: object) -> bool:
    return isinstance(details, dict) and bool(details.get("image_tokens"))


def _names_others_tools(tools: list[_Kind] | None) -> bool:
    kinds = [tool.type for tool in tools or ()]
    return any(kind not in _PLAIN_TOOLS and not kind.startswith(_CLIENT_TOOLS) for kind in kinds if kind is not None)


def _asks_for_searches(stated: Mapping[str, Any]) -> bool:
    """Return whether a member of OpenRouter's, xAI's or Alibaba's asks for searches."""
    plugins, parameters = stated.get("plugins"), stated.get("search_parameters")
    is_off = isinstance(parameters, dict) and parameters.get("mode") == "off"
    return bool(plugins) or (bool(parameters) and not is_off) or stated.get("enable_search") is True


def _asks_for_summaries(management: object) -> bool:
    edits = management.get("edits") if isinstance(management, dict) else management
    return any(kind.startswith("compact") for kind in _kinds(edits))


def _kinds(items: object) -> Iterable[str]:
    if not isinstance(items, list):
        return ()
    return [item["type"] for item in items if isinstance(item, dict) and isinstance(item.get("type"), str)]


def _inner(source: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = source.get(key)
    return found if isinstance(found, dict) else {}


def _count(source: Mapping[str, Any], key: str) -> int:
    found = source.get(key)
    return int(found) if isinstance(found, int | float) and found > 0 else 0


def _read(raw: msgspec.Raw, kind: Any) -> Any:
    try:
        return msgspec.json.decode(raw, type=kind)
    except UNREADABLE:
        return None
