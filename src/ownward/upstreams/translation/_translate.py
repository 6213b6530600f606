"""The translations a gateway makes: a request there, its answer, its stream and its errors back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ownward.upstreams._events import EventCutter
from ownward.upstreams._stencil import Stencil
from ownward.upstreams.translation._answers import (
    events_of,
    read_chat_answer,
    read_messages_answer,
    write_chat_answer,
    write_messages_answer,
)
from ownward.upstreams.translation._answers_of_responses import read_responses_answer
from ownward.upstreams.translation._core import (
    Alive,
    Answer,
    Asked,
    Begun,
    CallBegun,
    CallPiece,
    Counted,
    Dialect,
    Event,
    Failed,
    Over,
    Piece,
    ReasoningPiece,
    TextPiece,
)
from ownward.upstreams.translation._custom import Inputs, customs_of, with_inputs
from ownward.upstreams.translation._errors import messages_error, openai_error, read_error, status_for_client
from ownward.upstreams.translation._json import read_json, write_json
from ownward.upstreams.translation._members import Report, Untranslatable, UntranslatableAnswer
from ownward.upstreams.translation._mistral import as_mistral_takes
from ownward.upstreams.translation._names import (
    LONGEST,
    Name,
    called,
    check_choice,
    renamed,
    told_back,
    told_names_of,
)
from ownward.upstreams.translation._read_chat import read_chat
from ownward.upstreams.translation._read_messages import read_messages
from ownward.upstreams.translation._read_responses import read_responses
from ownward.upstreams.translation._reminders import has_later_system, with_reminders
from ownward.upstreams.translation._responses import write_response
from ownward.upstreams.translation._steps import Steps, done
from ownward.upstreams.translation._streams_read import Reader
from ownward.upstreams.translation._streams_read_chat import ChatReader
from ownward.upstreams.translation._streams_read_messages import MessagesReader
from ownward.upstreams.translation._streams_read_responses import ResponsesReader
from ownward.upstreams.translation._streams_responses import ResponsesWriter
from ownward.upstreams.translation._streams_write import ChatWriter, MessagesWriter, Writer
from ownward.upstreams.translation._write_chat import LimitName, write_chat
from ownward.upstreams.translation._write_messages import write_messages
from ownward.upstreams.translation._write_responses import write_responses

UpstreamDialect = Dialect
"""What requests are translated into."""

_ANSWER_READERS: dict[UpstreamDialect, Callable[[dict[str, Any], str], Answer]] = {
    "chat": read_chat_answer,
    "responses": read_responses_answer,
    "messages": read_messages_answer,
}
_STREAM_READERS: dict[UpstreamDialect, Callable[[str], Reader]] = {
    "chat": ChatReader,
    "responses": ResponsesReader,
    "messages": MessagesReader,
}
_LONGEST_EVENT_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What is known of an upstream: its tier's own limit in tokens, what it calls one, and whether it is Mistral's.

    `goes_on`: where a chat ends with words of the assistant, its answer is what follows them. `reads_seals` is false
    where it could not read the reasoning of this very request, which another service sealed, and
    `takes_later_system` where it refused system messages behind others. It `forgets` what another provider sealed in
    the running turn, which is refused else.
    """

    max_output_tokens: int | None = None
    limit_name: LimitName = "max_tokens"
    is_mistral: bool = False
    goes_on: bool = False
    reads_seals: bool = True
    takes_later_system: bool = True
    forgets: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Translation:
    """One request in an upstream's dialect, and how its answer comes back in the client's.

    `dropped` names, as the client does, the hints that were left out: what changes nothing of the answer but its
    price or speed, or what nobody but another provider could read.
    """

    client: Dialect
    upstream: UpstreamDialect
    body: bytes
    dropped: tuple[str, ...]
    asked: Asked
    answer_id: str = ""  # of an answer that its upstream gives none
    names: Mapping[str, Name] = field(default_factory=dict)  # of tools that are told by another one, by that

    @property
    def has_later_system(self) -> bool:
        """Whether the upstream is told system messages behind others."""
        return has_later_system(self.asked)

    def answer(self, body: bytes, *, now_s: int) -> bytes:
        """Return a whole answer; `now_s` dates it, in seconds since 1970.

        Raises: UntranslatableAnswer.
        """
        return write_json(_write_answer(self.client, self._read(body), self.asked, now_s))

    def answer_as_stream(self, body: bytes, *, now_s: int) -> bytes:
        """Return a whole answer as the whole stream that the client waits for; not all upstreams stream.

        Raises: UntranslatableAnswer.
        """
        writer = self._writer(now_s)
        return b"".join([writer.write(event) for event in events_of(self._read(body))])

    def _read(self, body: bytes) -> Answer:
        try:
            found = read_json(body)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise UntranslatableAnswer("the upstream's answer is not a JSON object")
        answer = _ANSWER_READERS[self.upstream](found, self.answer_id)
        if self.names:
            answer = replace(answer, parts=told_back(answer.parts, self.names))
        customs = customs_of(self.asked)
        return replace(answer, parts=with_inputs(answer.parts, customs)) if customs else answer

    def stream(self, *, now_s: int) -> StreamTranslator:
        """Return what translates the stream of one call."""
        reader: Reader = _STREAM_READERS[self.upstream](self.answer_id)
        return StreamTranslator(reader, self._writer(now_s), names=self.names, customs=customs_of(self.asked))

    def _writer(self, now_s: int) -> Writer:
        match self.client:
            case "chat":
                return ChatWriter(wants_usage=self.asked.wants_stream_usage, now_s=now_s)
            case "responses":
                return ResponsesWriter(self.asked, now_s=now_s)
            case "messages":
                return MessagesWriter()

    def error(self, status: int, body: bytes) -> tuple[int, bytes]:
        """Return an upstream's refusal: status and body."""
        if self.client == "messages":
            status, told = messages_error(status, body)
            return status, write_json(told)
        kind, message, code, param = read_error(status, body)
        told = openai_error(kind, message, code=code, param=param)
        return status_for_client(status), write_json(told)


def translate(
    body: bytes, *, client: Dialect, upstream: UpstreamDialect, limits: Limits | None = None, answer_id: str = ""
) -> Translation:
    """Return a request in the upstream's dialect; its model stays what the client named.

    `answer_id` is what an answer is called that has no id: clients tell answers, and the calls in them, apart by it.
    Raises: Untranslatable, which names everything that the upstream's dialect has no words for.
    """
    return done(translate_in_steps(body, client=client, upstream=upstream, limits=limits, answer_id=answer_id))


def translate_in_steps(
    body: bytes, *, client: Dialect, upstream: UpstreamDialect, limits: Limits | None = None, answer_id: str = ""
) -> Steps[Translation]:
    """Translate as `translate` does, with a pause after each so many messages: a long request takes many milliseconds.

    Raises: Untranslatable.
    """
    limits = limits or Limits()
    try:
        found = read_json(body)
    except ValueError:
        found = None
    yield
    report = Report(forgets=limits.forgets)
    if not isinstance(found, dict):
        raise Untranslatable({"the body": "it is not a JSON object"})
    asked = yield from _read(client, found, report)
    if not limits.takes_later_system:
        asked = with_reminders(asked, report)
    names = told_names_of(asked, LONGEST[upstream], report)
    told = renamed(asked, names) if names else asked
    check_choice(told, report)
    yield
    written = yield from _write(upstream, told, report, limits)
    yield
    if limits.is_mistral and upstream == "chat":
        as_mistral_takes(written, asked, report)
    report.check()
    try:
        told_body = write_json(written)
    except RecursionError:  # it is told a little deeper than it was said
        raise Untranslatable({"the body": "it is nested too deeply"}) from None
    return Translation(
        client=client,
        upstream=upstream,
        body=told_body,
        dropped=tuple(report.dropped),
        asked=asked,
        answer_id=answer_id,
        names={told: name for name, told in names.items()},
    )


def _read(client: Dialect, found: dict[str, Any], report: Report) -> Steps[Asked]:
    match client:
        case "chat":
            return read_chat(found, report)
        case "responses":
            return read_responses(found, report)
        case "messages":
            return read_messages(found, report)


def _write(upstream: UpstreamDialect, asked: Asked, report: Report, limits: Limits) -> Steps[dict[str, Any]]:
    match upstream:
        case "chat":
            return write_chat(asked, report, limit_name=limits.limit_name, goes_on=limits.goes_on)
        case "responses":
            is_openai = limits.limit_name == "max_completion_tokens"
            return write_responses(asked, report, is_openai=is_openai, reads_seals=limits.reads_seals)
        case "messages":
            return write_messages(asked, report, max_output_tokens=limits.max_output_tokens)


def _write_answer(client: Dialect, answer: Answer, asked: Asked, now_s: int) -> dict[str, Any]:
    match client:
        case "chat":
            return write_chat_answer(answer, now_s=now_s)
        case "responses":
            return write_response(answer, asked, now_s=now_s)
        case "messages":
            return write_messages_answer(answer)


class StreamTranslator:
    """Bytes of an upstream's stream in, bytes of the client's out, wherever they are cut.

    The client's last word is written when the upstream's was read, or by `finish`, and never otherwise: a stream that
    is cut stays cut. It waits for the counts, which some servers tell behind their last word, until `finish`.
    """

    __slots__ = (
        "_cutter",
        "_has_begun",
        "_has_failed",
        "_inputs",
        "_is_counted",
        "_is_over",
        "_names",
        "_piece",
        "_reader",
        "_stencil",
        "_writer",
    )

    def __init__(
        self,
        reader: Reader,
        writer: Writer,
        *,
        names: Mapping[str, Name] | None = None,
        customs: frozenset[Name] = frozenset(),
    ) -> None:
        """Start before the first byte; `names` are those of tools that are told by another one, by that.

        `customs` are the custom tools.
        """
        self._names = names or {}
        self._inputs = Inputs(customs) if customs else None
        self._cutter = EventCutter(_LONGEST_EVENT_BYTES)
        self._reader = reader
        self._writer = writer
        self._stencil = Stencil()  # of the event that was read last, where it says one piece and nothing else
        self._piece: type[Piece] = TextPiece
        self._has_begun = False
        self._has_failed = False
        self._is_counted = False
        self._is_over = False

    @property
    def sequence_number(self) -> int | None:
        """The number of the next event, where the client's dialect numbers them."""
        return self._writer.sequence_number if isinstance(self._writer, ResponsesWriter) else None

    @property
    def begun_response(self) -> dict[str, Any] | None:
        """The response as it is told where it fails, where the client's dialect has one."""
        return self._writer.begun_response if isinstance(self._writer, ResponsesWriter) else None

    def feed(self, data: bytes) -> bytes:
        """Return what the client is told of the next bytes; may be nothing.

        Raises: UntranslatableAnswer.
        """
        if self._has_failed:
            return b""
        if self._cutter.is_empty:
            told = self._repeat(data)
            if told is not None:
                return told
        events = self._cutter.cut(data)
        if self._cutter.is_overrun:
            raise UntranslatableAnswer(f"the upstream sent an event of more than {_LONGEST_EVENT_BYTES} bytes")
        if len(events) == 1:
            return self._translate(events[0])
        return b"".join([told for event in events if (told := self._repeat(event) or self._translate(event))])

    def finish(self) -> bytes:
        """Return what is left to tell, the last word included: to be called where the upstream's stream is whole.

        Nothing is told behind an error that the upstream told: its client would take the answer for a whole one.
        Some servers leave the empty line behind their last event out, and some the last word.
        Raises: UntranslatableAnswer.
        """
        rest = self._cutter.take_rest()
        told = self._translate(rest + b"\n\n") if rest.strip() else b""
        self._is_counted = True  # there is nothing more to wait for
        if self._has_failed:
            return told
        return told if self._is_over else told + self._tell(Over())

    def _repeat(self, event: bytes) -> bytes | None:
        """Return what the client is told of an event that is like the last one but for its words."""
        words = self._stencil.words_in(event)
        if words is None or (self._inputs is not None and self._inputs.is_open):
            return None
        told = self._writer.say(self._piece, words)
        if told is not None:
            self._reader.note_repeated(self._piece, words)
        return told

    def _translate(self, event: bytes) -> bytes:
        found = self._reader.read(event)
        piece = _piece_in(found)
        if piece is None or self._has_failed or not self._reader.may_repeat(type(piece)):
            self._stencil.forget()  # what was read since may have given another meaning to what comes
        else:
            self._piece = type(piece)
            self._stencil.cut(event, _words_of(piece), self._read_words)
        return b"".join([self._tell(each) for each in found])

    def _read_words(self, event: bytes) -> str | None:
        try:
            piece = _piece_in(self._reader.read(event))
        except UntranslatableAnswer:
            return None
        finally:
            self._reader.unread()
        return None if piece is None else _words_of(piece)

    def _tell(self, found: Event) -> bytes:
        if self._has_failed:
            return b""
        if isinstance(found, Begun):
            self._has_begun = True
        elif isinstance(found, Failed):
            self._has_failed = True
        elif isinstance(found, Counted):
            self._is_counted = True
        elif isinstance(found, Over):
            if self._is_over or not self._is_counted:
                return b""
            if not self._has_begun:
                raise UntranslatableAnswer("the upstream's stream was over before it had begun")
            self._is_over = True
        elif isinstance(found, CallBegun) and self._names:
            found = called(found, self._names)
        if self._inputs is None or isinstance(found, Alive | Counted | Failed):
            return self._writer.write(found)
        return b"".join([self._writer.write(each) for each in self._inputs.take(found)])


def _piece_in(found: list[Event]) -> Piece | None:
    """Return what an event says if it is words of one kind and nothing else."""
    match found:
        case [TextPiece() as piece] if piece.text:
            return piece
        case [CallPiece() as piece] if piece.arguments:
            return piece
        case [ReasoningPiece(signature=None, redacted=None) as piece] if piece.text:
            return piece
        case _:
            return None


def _words_of(piece: Piece) -> str:
    return piece.arguments if isinstance(piece, CallPiece) else piece.text
