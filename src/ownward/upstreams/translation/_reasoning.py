"""Reasoning carried through a dialect that has no place of its own for it, so that it comes back as it was.

- Chat: `reasoning_content` for the words (`reasoning`, where the upstream calls them so) and `reasoning_details` for
  what is signed or encrypted, in the form that OpenRouter published; `thinking_blocks` (LiteLLM's form) and Gemini's
  `extra_content` are read as well.
- Responses: a reasoning item, whose `encrypted_content` holds words and signature under a mark of ours.
- Messages: a thinking block. Words that an OpenAI upstream wrote have no signature; ours says so.

A signature means something to who signed it, and to nobody else: `Reasoning.signer` remembers.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote, unquote

from ownward.upstreams.translation._core import Call, Part, Reasoning, ReasoningPiece, Signer
from ownward.upstreams.translation._extra_content import THOUGHT
from ownward.upstreams.translation._json import read_json, write_json
from ownward.upstreams.translation._members import Members, Report, shown

ANTHROPIC_FORMAT = "anthropic-claude-v1"
RESPONSES_FORMAT = "openai-responses-v1"
"""The form of reasoning that a service of responses sealed, as OpenRouter calls it."""
BETWEEN_SUMMARIES = "\n\n"
"""What stands between the parts of a summary where they are told as one text."""
UNSIGNED = "ownward:unsigned"
SHORT = "reasoning"
"""The form of words that a server calls `reasoning` (vLLM, Groq, Ollama): most read them under that name alone."""
_MARK = "ownward:openai:"
_SEAL = "ownward:reasoning:"
_AFTER = "ownward_after"
_WORDS = ("reasoning_content", "reasoning")
_WRAP = "provider_specific_fields"
"""Where LiteLLM's client keeps what it does not know of an answer's message, and sends it back."""


# Chat.


def detail_of(index: int, item: Reasoning | ReasoningPiece, *, after: int = 0, is_first: bool = True) -> dict[str, Any]:
    """Return an entry of `reasoning_details`, whole or a piece of a stream.

    `after` counts the text and the calls that were said before it, of which a chat message does not keep the order.
    Only the first piece names format and place: clients that join pieces would join the names as well.
    """
    form = ANTHROPIC_FORMAT if item.signer == "anthropic" else item.form or "unknown"
    place: dict[str, Any] = {_AFTER: after} if after and is_first else {}
    if item.given_id is not None and is_first:
        place = {"id": item.given_id, **place}
    if item.redacted is not None:
        return {"type": "reasoning.encrypted", "data": item.redacted, "format": form, "index": index, **place}
    if item.is_summary:
        return {"type": "reasoning.summary", "summary": item.text, "format": form, "index": index, **place}
    detail: dict[str, Any] = {"type": "reasoning.text", "text": item.text, "index": index, **place}
    if is_first:
        detail["format"] = form
    if item.signature is not None:
        detail["signature"] = item.signature
        if not item.text:
            del detail["text"]
    return detail


def read_chat_reasoning(message: Members, *, signer: Signer | None = None) -> list[Reasoning]:
    """Take an assistant message's reasoning, wherever it stands.

    `signer` is who signed what comes without a format: the upstream itself, when its answer is read.
    """
    message.unwrap(_WRAP, *_WORDS, "reasoning_details", "thinking_blocks", "extra_content", "refusal")
    details, blocks = message.take_any("reasoning_details"), message.take_any("thinking_blocks")
    words = [message.take(name, str) for name in _WORDS]
    if details:
        return list(_read_details(details, message.at("reasoning_details"), message.report, signer))
    if blocks:
        place = message.at("thinking_blocks")
        listed = blocks if isinstance(blocks, list) else [blocks]
        return [
            found
            for index, block in enumerate(listed)
            if (found := read_block(Members(block, f"{place}[{index}]", message.report))) is not None
        ]
    longer, shorter = words
    if not (longer or shorter):
        return []
    name = "reasoning_content" if longer else "reasoning"
    form = SHORT if shorter else None
    return [Reasoning(text=longer or shorter or "", signer="openai", form=form, path=message.at(name))]


def _read_details(details: Any, place: str, report: Report, signer: Signer | None) -> Iterable[Reasoning]:
    if not isinstance(details, list):
        report.refuse(place, "it is not a list")
        return
    pieces: list[list[dict[str, Any]]] = []
    for index, entry in enumerate(details):
        if not isinstance(entry, dict):
            report.refuse(f"{place}[{index}]", "it is not an object")
            return
        if pieces and _continues(pieces[-1], entry):
            pieces[-1].append(entry)
        else:
            pieces.append([entry])
    for index, entry in enumerate(map(_put_together, pieces)):
        path = f"{place}[{index}]"
        form = entry.get("format") if isinstance(entry.get("format"), str) else None
        given_id = entry.get("id") if isinstance(entry.get("id"), str) else None
        who: Signer = signer or ("anthropic" if form == ANTHROPIC_FORMAT else "openai")
        after = entry[_AFTER] if type(entry.get(_AFTER)) is int else 0
        found = Reasoning(text="", signer=who, form=form, given_id=given_id, after=after, path=path)
        match entry.get("type"):
            case "reasoning.text":
                yield replace(found, text=str(entry.get("text") or ""), signature=entry.get("signature"))
            case "reasoning.encrypted":
                yield replace(found, redacted=str(entry.get("data")))
            case "reasoning.summary":
                yield replace(found, text=str(entry.get("summary") or ""), is_summary=True)
            case kind:
                report.refuse(path, f"reasoning of the type {shown(kind)} is not known")


def _continues(pieces: Sequence[Mapping[str, Any]], entry: Mapping[str, Any]) -> bool:
    """Return whether an entry is the next piece of those before: clients keep the pieces of a stream as they came."""
    before, last = pieces[0], pieces[-1]  # a signature stands in the last one
    return (
        before.get("type") == entry.get("type")
        and entry.get("type") in ("reasoning.text", "reasoning.summary")  # a client's value, of whatever type
        and before.get("index") is not None
        and before.get("index") == entry.get("index")
        and not last.get("signature")
        and all(isinstance(piece.get(words), str | None) for piece in (last, entry) for words in ("text", "summary"))
    )


def _put_together(pieces: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return one entry of all its pieces."""
    whole = dict(pieces[0])
    if len(pieces) > 1:
        for words in ("text", "summary"):
            whole[words] = "".join([piece.get(words) or "" for piece in pieces])
        whole["signature"] = pieces[-1].get("signature")
    return whole


def in_order(thought: Iterable[Reasoning], texts: Sequence[Part], calls: Sequence[Part]) -> list[Part]:
    """Return the parts of a chat message in the order in which they were said."""
    waiting = sorted(thought, key=lambda item: item.after)
    said: list[Part] = []
    for count, group in enumerate([*([texts] if texts else []), *([call] for call in calls)]):
        while waiting and waiting[0].after <= count:
            said.append(waiting.pop(0))
        said += group
    return [*said, *waiting]


def placed(parts: Iterable[Part]) -> list[Reasoning]:
    """Return the reasoning among parts, each with what was said before it."""
    found, has_text, calls = [], False, 0
    for part in parts:
        if isinstance(part, Reasoning):
            found.append(replace(part, after=has_text + calls))
        elif isinstance(part, Call):
            calls += 1
        else:
            has_text = True
    return found


def write_chat_reasoning(reasoning: Iterable[Reasoning]) -> dict[str, Any]:
    """Return the members of a chat message that carry reasoning, which is `placed`."""
    listed = [item for item in reasoning if item.form != THOUGHT]
    found: dict[str, Any] = {}
    text = "".join(item.text for item in listed)
    if text:
        is_short = any(item.form == SHORT for item in listed)
        found["reasoning" if is_short else "reasoning_content"] = text
    if any(item.signer == "anthropic" or item.signature or item.redacted or item.given_id for item in listed):
        found["reasoning_details"] = [detail_of(index, item, after=item.after) for index, item in enumerate(listed)]
    return found


# Messages.


def read_block(block: Members) -> Reasoning | None:
    """Return the reasoning of a thinking block, or None where it is none."""
    kind = block.take("type", str)
    path = block.path
    found: Reasoning | None = None
    if kind == "thinking":
        text, signature = block.take("thinking", str) or "", block.take("signature", str)
        if signature is not None and signature.partition(":|")[0] == UNSIGNED:
            found = replace(_named_by(signature.partition(":|")[2]), text=text, path=path)
        elif signature is not None and signature.startswith(_MARK):
            name, _, inner = signature.removeprefix(_MARK).partition(":")
            found = replace(_named_by(name), text=text, signature=inner, path=path)
        else:
            signer: Signer = "anthropic" if signature else "openai"
            found = Reasoning(text=text, signer=signer, signature=signature or None, path=path)
    elif kind == "redacted_thinking":
        data = block.take("data", str) or ""
        if data.startswith(_MARK):
            name, _, inner = data.removeprefix(_MARK).partition(":")
            found = replace(_named_by(name), redacted=inner, path=path)
        else:
            found = Reasoning(text="", signer="anthropic", redacted=data, path=path)
    else:
        block.report.refuse(path, f"a block of the type {shown(kind)} is not thinking")
    block.close()
    return found


def signature_for_messages(item: Reasoning | ReasoningPiece) -> str:
    """Return the signature of a thinking block, which in Anthropic's dialect always has one."""
    if item.signer == "anthropic":
        return item.signature or ""  # engines that speak the dialect do not sign
    if item.signature is not None:
        return f"{_MARK}{_name_of(item)}:{item.signature}"
    return f"{UNSIGNED}:|{_name_of(item)}" if is_named(item) else UNSIGNED


def is_named(item: Reasoning | ReasoningPiece) -> bool:
    """Return whether unsigned reasoning has more to bring back than its words."""
    return item.given_id is not None or item.is_summary or item.form in {THOUGHT, SHORT}


def named_together(before: ReasoningPiece | None, now: ReasoningPiece) -> ReasoningPiece:
    """Return the newest piece of a stream's reasoning with what the first one called it; later ones may not say it."""
    if before is None:
        return now
    return replace(
        now,
        form=now.form or before.form,
        given_id=now.given_id or before.given_id,
        is_summary=now.is_summary or before.is_summary,
    )


def _name_of(item: Reasoning | ReasoningPiece) -> str:
    """Return form, id and kind of an OpenAI upstream's reasoning as one text without a colon."""
    form = (item.form or "").replace(":", "%3A")
    if item.given_id is None and not item.is_summary:
        return form
    return f"{form}|{quote(item.given_id or '', safe='')}" + ("|summary" if item.is_summary else "")


def _named_by(name: str) -> Reasoning:
    """Return reasoning without words that `_name_of` gave this name."""
    form, _, rest = name.partition("|")
    given_id, _, kind = rest.partition("|")
    return Reasoning(
        text="",
        signer="openai",
        form=form.replace("%3A", ":") or None,
        given_id=unquote(given_id) or None,
        is_summary=kind == "summary",
    )


def write_block(item: Reasoning | ReasoningPiece) -> dict[str, Any]:
    """Return a thinking block."""
    if item.redacted is not None:
        data = item.redacted if item.signer == "anthropic" else f"{_MARK}{_name_of(item)}:{item.redacted}"
        return {"type": "redacted_thinking", "data": data}
    return {"type": "thinking", "thinking": item.text, "signature": signature_for_messages(item)}


# Responses.


def seal(item: Reasoning) -> str | None:
    """Return the `encrypted_content` of a reasoning item; None where its words are all there is."""
    if item.signer == "openai" and item.signature is None and item.redacted is None and not is_named(item):
        return None
    inner = {name: getattr(item, name) for name in ("signer", "text", "signature", "redacted", "form")}
    if item.given_id is not None or item.is_summary:
        inner |= {"given_id": item.given_id, "is_summary": item.is_summary}
    return _SEAL + base64.b64encode(write_json(inner)).decode("ascii")


def unseal(sealed: str, path: str) -> Reasoning | None:
    """Return what `seal` kept, or None where another wrote it."""
    if not sealed.startswith(_SEAL):
        return None
    try:
        inner = read_json(base64.b64decode(sealed.removeprefix(_SEAL), validate=True))
        return Reasoning(
            text=inner["text"],
            signer=inner["signer"],
            signature=inner["signature"],
            redacted=inner["redacted"],
            form=inner["form"],
            given_id=inner.get("given_id"),
            is_summary=inner.get("is_summary") is True,
            path=path,
        )
    except (binascii.Error, ValueError, KeyError, TypeError):
        return None
