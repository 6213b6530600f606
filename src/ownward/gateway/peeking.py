"""The members of a client's body that routing reads, and what the request needs of a tier by them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from ownward.gateway.errors import MalformedRequest, PackedBody
from ownward.gateway.needs import (
    AUDIO,
    CALL_NOT_FORM,
    CALL_OR_FORM,
    FUNCTIONS,
    JSON_MODE,
    JSON_SCHEMA,
    LOGPROBS,
    MULTIPLE_CHOICES,
    SHORT_ANSWERS,
    STOP_SEQUENCES,
    THREADS,
    TOOL_CHOICE,
    TOOLS,
    VISION,
)
from ownward.upstreams import UNREADABLE, with_whole_characters

LONGEST_MODEL = 256
"""It is looked for, quoted and written down; names of the plan have 128 characters at most."""

_JSON_SCHEMA = frozenset({JSON_SCHEMA})
_JSON_MODE = frozenset({JSON_MODE})
_AS_IT_IS = b"identity"
_NO_HEADERS: Mapping[bytes, bytes] = MappingProxyType({})
_NOTHING = frozenset({b"null", b"[]", b"false", b"0"})
_NO_LOGPROBS = frozenset({b"null", b"false"})
_ONE = frozenset({b"null", b"1"})
_SHORT_LIMITS = frozenset(b"%d" % limit for limit in range(1, 16))
"""The limits that OpenAI's chat completions take, and its responses do not."""
_NO_NEEDS: frozenset[str] = frozenset()
_IMAGE_PART = re.compile(rb'(?<!\\)"type"\s*:\s*"(?:image|image_url|input_image)"')
_AUDIO_PART = re.compile(rb'(?<!\\)"type"\s*:\s*"input_audio"')
_BILLING = re.compile(rb'(?:\[\s*\{[^{}]{0,64}?)?"x-anthropic-billing-header:[^"\\]{0,512}')
"""How a system prompt of Anthropic's coding agent begins, otherwise in each request; vLLM passes over it."""

_VISION = frozenset({VISION})
_AUDIO = frozenset({AUDIO})
_LOGPROBS = frozenset({LOGPROBS})
_CALL_OR_FORM = frozenset({CALL_OR_FORM})
_CALL_NOT_FORM = frozenset({CALL_NOT_FORM})


class Peeked(msgspec.Struct, gc=False):
    """The members of a body that routing reads; all others are skipped undecoded.

    As in most parsers the last of several equal members counts.
    """

    model: str | None = None
    stream: bool | None = None
    tools: msgspec.Raw = msgspec.Raw(b"")
    tool_choice: msgspec.Raw = msgspec.Raw(b"")
    response_format: msgspec.Raw = msgspec.Raw(b"")
    text: msgspec.Raw = msgspec.Raw(b"")
    output_config: msgspec.Raw = msgspec.Raw(b"")
    output_format: msgspec.Raw = msgspec.Raw(b"")
    functions: msgspec.Raw = msgspec.Raw(b"")
    logprobs: msgspec.Raw = msgspec.Raw(b"")
    top_logprobs: msgspec.Raw = msgspec.Raw(b"")
    include: msgspec.Raw = msgspec.Raw(b"")
    modalities: msgspec.Raw = msgspec.Raw(b"")
    n: msgspec.Raw = msgspec.Raw(b"")
    best_of: msgspec.Raw = msgspec.Raw(b"")
    metadata: msgspec.Raw = msgspec.Raw(b"")
    system: msgspec.Raw = msgspec.Raw(b"")
    instructions: msgspec.Raw = msgspec.Raw(b"")
    messages: msgspec.Raw = msgspec.Raw(b"")
    prompt: msgspec.Raw = msgspec.Raw(b"")
    input: msgspec.Raw = msgspec.Raw(b"")
    store: msgspec.Raw = msgspec.Raw(b"")
    thread: msgspec.Raw = msgspec.Raw(b"")
    stop_sequences: msgspec.Raw = msgspec.Raw(b"")
    max_tokens: msgspec.Raw = msgspec.Raw(b"")

    def needs(self, body: bytes) -> frozenset[str]:
        """Return the capabilities, in the plan's words, that a tier must have for this request."""
        found = _media_needs(body)
        if self.tools and _is_said(self.tools):
            found |= {TOOLS}
        if self.tool_choice and _says_which(self.tool_choice):
            found |= {TOOL_CHOICE}
        if self.functions and _is_said(self.functions):
            found |= {TOOLS, FUNCTIONS}
        for form in filter(None, (self.response_format, self.text, self.output_config, self.output_format)):
            of_form = _form_needs(form)
            found |= of_form
            if of_form and TOOLS in found:
                found |= _beside_a_form(self.tool_choice)
        if self.logprobs and bytes(self.logprobs) not in _NO_LOGPROBS:  # 0 is one logprob a token, of completions
            found |= _LOGPROBS
        if (self.top_logprobs and _is_said(self.top_logprobs)) or (
            self.include and b"output_text.logprobs" in bytes(self.include)
        ):
            found |= _LOGPROBS
        if self.modalities and b'"audio"' in bytes(self.modalities):
            found |= _AUDIO
        if (self.n and bytes(self.n) not in _ONE) or (self.best_of and bytes(self.best_of) not in _ONE):
            found |= {MULTIPLE_CHOICES}
        if self.thread and _is_said(self.thread):
            found |= {THREADS}
        if self.stop_sequences and _is_said(self.stop_sequences):
            found |= {STOP_SEQUENCES}
        if self.max_tokens and bytes(self.max_tokens) in _SHORT_LIMITS:
            found |= {SHORT_ANSWERS}
        return found

    def parts_of_prompt(self) -> tuple[memoryview, ...]:
        """Return what the answer is computed from, about in the order in which engines read it."""
        system = memoryview(self.system)
        billing = _BILLING.match(system)
        if billing is not None:
            system = system[billing.end() :]
        parts = (self.tools, system, self.instructions, self.messages, self.prompt, self.input)
        return tuple(memoryview(part) for part in parts if part)

    def texts_of_metadata(self) -> dict[str, str]:
        """Return the members of `metadata` that are text."""
        try:
            stated = msgspec.json.decode(self.metadata, type=dict[str, Any]) if self.metadata else {}
        except UNREADABLE:
            return {}
        return {name: value for name, value in stated.items() if isinstance(value, str)}


_decode_peeked = msgspec.json.Decoder(Peeked).decode


def peek(body: bytes, headers: Mapping[bytes, bytes] = _NO_HEADERS) -> Peeked:
    """Return what choosing needs of a body.

    Raises: MalformedRequest, if it is not a JSON object or its model is no text; PackedBody, if that is since it is
    compressed, as the headers say. Values are not shown.
    """
    try:
        try:
            peeked = _decode_peeked(body)
        except UNREADABLE:
            peeked = _decode_peeked(with_whole_characters(body))
    except UNREADABLE as error:
        refuse_packed(headers)
        raise MalformedRequest(
            f"the request body is not the JSON object it should be: {_fault_in(body) or error}",
            allowed='One JSON object in UTF-8 with "model" as text and "stream" as true or false',
            next_step="See docs/reference/gateway.md",
        ) from None
    if peeked.model is not None and len(peeked.model) > LONGEST_MODEL:
        raise MalformedRequest(
            f"the request's model is a text of {len(peeked.model)} characters", allowed=f"At most {LONGEST_MODEL}"
        )
    return peeked


def refuse_packed(headers: Mapping[bytes, bytes]) -> None:
    """Say of a body that cannot be read that it is compressed, where its headers say so.

    Raises: PackedBody.
    """
    coding = headers.get(b"content-encoding", _AS_IT_IS)
    if coding.lower() != _AS_IT_IS:
        raise PackedBody(coding)


def _fault_in(body: bytes) -> str | None:
    """Return what is the matter with a body that is not JSON, where its first bytes tell it better than a parser."""
    if not body.strip():
        return "it is empty"
    if body.startswith((b"\x1f\x8b", b"\x28\xb5\x2f\xfd")):
        return "it is compressed; send it as it is, without content-encoding"
    if body.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        return "it begins with a byte order mark, or is not UTF-8"
    return None


def _is_said(raw: msgspec.Raw) -> bool:
    return bytes(raw) not in _NOTHING


def _says_which(tool_choice: msgspec.Raw) -> bool:
    """Return whether a choice among tools says more than whether any may, must or must not be called."""
    try:
        stated = msgspec.json.decode(tool_choice)
    except UNREADABLE:
        return False  # the upstream will say what is the matter with it
    return isinstance(stated, dict) and stated.get("type") not in ("any", "auto", "none")


def _form_needs(form: msgspec.Raw) -> frozenset[str]:
    stated = bytes(form)
    if b"json_schema" in stated:
        return _JSON_SCHEMA
    return _JSON_MODE if b"json_object" in stated else _NO_NEEDS


def _beside_a_form(tool_choice: msgspec.Raw) -> frozenset[str]:
    """Return what a request with tools needs that states a form of JSON for its answer as well."""
    try:
        stated = msgspec.json.decode(tool_choice) if tool_choice else None
    except UNREADABLE:
        return _NO_NEEDS
    if isinstance(stated, dict):
        inner = stated.get("allowed_tools")  # where chats state the mode of a choice, and responses beside it
        stated = (inner if isinstance(inner, dict) else stated).get("mode") or stated.get("type")
    if stated == "none":
        return _NO_NEEDS
    return _CALL_OR_FORM if stated is None or stated == "auto" else _CALL_NOT_FORM


def _media_needs(body: bytes) -> frozenset[str]:
    """Return whether a body carries images or sound as parts of its messages."""
    # `find`: for `in`, bytes try first whether what is looked for is a number, and raise and catch that it is none.
    found = _NO_NEEDS
    if body.find(b"image") >= 0 and _IMAGE_PART.search(body) is not None:
        found = _VISION
    if body.find(b"input_audio") >= 0 and _AUDIO_PART.search(body) is not None:
        found |= _AUDIO
    return found
