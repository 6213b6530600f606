"""What every dialect says, in words of none of them: the middle that requests, answers and streams pass through.

`path` is where a thing stands in the client's body, so that what cannot be told on the other side is refused
by its name there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Dialect = Literal["chat", "responses", "messages"]
"""OpenAI chat completions, OpenAI responses, Anthropic messages."""

Signer = Literal["anthropic", "openai", "other"]
"""In whose dialect reasoning was written first: only there its signature means something (`other`: nowhere here)."""

StopReason = Literal["end", "limit", "stop_sequence", "tool_calls", "refusal"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A page that an answer cites, for its characters from `start` to `end` where it says so."""

    url: str
    title: str
    start: int = 0
    end: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """Words."""

    text: str
    path: str = ""
    cache: Mapping[str, Any] | None = None  # Anthropic's cache_control, where this part ends a cached prefix
    sources: tuple[Source, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A picture: base64 with its media type, or an address."""

    media_type: str | None = None
    data: str | None = None
    url: str | None = None
    detail: str | None = None  # how closely an OpenAI upstream looks at it
    path: str = ""
    cache: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A PDF in base64."""

    data: str
    name: str | None = None
    path: str = ""
    cache: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A tool called by the model; `arguments` is the text that it wrote, which should be one JSON object.

    In an answer they are the input of one that `is_custom`.
    """

    call_id: str
    name: str
    arguments: str
    namespace: str | None = None  # the group of tools that a client of responses has it in
    is_custom: bool = False
    path: str = ""
    arguments_path: str = ""
    cache: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a called tool gave."""

    call_id: str
    parts: tuple[Text | Image | File, ...]
    is_error: bool = False
    path: str = ""
    cache: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reasoning:
    """What the model thought: text that may be signed, or (`redacted`) only the upstream can read."""

    text: str
    signer: Signer
    signature: str | None = None
    redacted: str | None = None
    form: str | None = None  # what an OpenAI upstream calls the form of the signature
    given_id: str | None = None  # what an OpenAI upstream calls this reasoning, or the call that it belongs to
    is_summary: bool = False  # its words are a summary that an OpenAI upstream made
    after: int = 0  # how many parts of a chat message (its text, each call) were said before it
    path: str = ""


Part = Text | Image | File | Call | Result | Reasoning
Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What one side says before the other does."""

    role: Role
    parts: tuple[Part, ...]
    path: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A function that the model may call; `schema` is None where it takes nothing."""

    name: str
    description: str | None
    schema: Mapping[str, Any] | None
    is_strict: bool | None
    namespace: str | None = None  # the group of tools that a client of responses has it in
    is_custom: bool = False  # of a client of responses, which gives it a text in the place of arguments
    path: str = ""
    cache: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolChoice:
    """Whether and which tool is called; `allowed` narrows the tools without changing their list."""

    kind: Literal["auto", "none", "required", "named"]
    name: str | None = None
    allowed: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """The form that the answer's text must have."""

    schema: Mapping[str, Any]
    name: str | None = None
    description: str | None = None
    is_strict: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Thinking:
    """Anthropic's `thinking`: whether the model thinks before it answers."""

    kind: Literal["adaptive", "enabled", "disabled", "between_tools"]
    stated: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request for one answer."""

    model: str
    is_stream: bool
    turns: tuple[Turn, ...]
    wants_stream_usage: bool = True
    system: tuple[Text, ...] = ()
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    is_parallel: bool | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop: tuple[str, ...] = ()
    schema: Schema | None = None
    is_json: bool = False  # any JSON object, without a schema
    effort: str | None = None
    thinking: Thinking | None = None
    user: str | None = None
    verbosity: str | None = None
    service_tier: str | None = None  # in OpenAI's words
    cache: Mapping[str, Any] | None = None
    repeated: Mapping[str, Any] = field(default_factory=dict)  # members that the client's dialect repeats in its answer
    places: Mapping[str, str] = field(default_factory=dict)  # what the client calls a member, where it matters

    def place(self, member: str) -> str:
        """Return the client's name of a member."""
        return self.places.get(member, member)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Tokens: `input_tokens` holds the cached and the written ones, `output_tokens` the reasoning."""

    input_tokens: int
    output_tokens: int
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_write_1h_tokens: int | None = None
    reasoning_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole answer."""

    answer_id: str
    model: str
    parts: tuple[Part, ...]
    stop: StopReason | None
    stop_sequence: str | None = None
    refusal: str | None = None
    counts: Counts | None = None
    service_tier: str | None = None  # in OpenAI's words


# A stream: Begun, then parts one after the other, then Ended, then Over.


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """The answer begins; `counts` is what the upstream knows of its input by then."""

    answer_id: str
    model: str
    counts: Counts | None = None
    service_tier: str | None = None  # in OpenAI's words


@dataclass(frozen=True, slots=True, kw_only=True)
class TextPiece:
    """More words of the text."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cited:
    """A page that the text so far cites."""

    source: Source


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusalPiece:
    """More words of why the model does not answer."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasoningPiece:
    """More of the reasoning: words, the signature under all of it, or a redacted whole."""

    signer: Signer
    text: str = ""
    signature: str | None = None
    redacted: str | None = None
    form: str | None = None
    given_id: str | None = None
    is_summary: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CallBegun:
    """A tool is called."""

    call_id: str
    name: str
    namespace: str | None = None
    is_custom: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CallPiece:
    """More of the text of its arguments; of one that is custom, all of its input."""

    arguments: str


Piece = TextPiece | ReasoningPiece | CallPiece
"""What most of a stream consists of: words of one kind that follow those before them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartOver:
    """The part in the making is whole; the next piece, even of the same kind, begins another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The model has stopped."""

    stop: StopReason | None
    stop_sequence: str | None = None
    refusal: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What the whole answer counts."""

    counts: Counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The upstream says that it failed in the middle."""

    kind: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Alive:
    """The upstream is still at work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Over:
    """The upstream's last word."""


Event = (
    Begun
    | TextPiece
    | Cited
    | RefusalPiece
    | ReasoningPiece
    | CallBegun
    | CallPiece
    | PartOver
    | Ended
    | Counted
    | Failed
    | Alive
    | Over
)
