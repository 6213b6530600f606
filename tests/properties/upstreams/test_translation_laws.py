"""Laws of translation: there and back means the same, bytes may be cut anywhere, and nothing else is ever raised."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from hypothesis import assume, example, given
from hypothesis import strategies as st

from ownward.upstreams.translation import Limits, Untranslatable, UntranslatableAnswer, translate
from ownward.upstreams.translation._answers import (
    events_of,
    read_chat_answer,
    read_messages_answer,
    write_chat_answer,
    write_messages_answer,
)
from ownward.upstreams.translation._core import (
    Answer,
    Asked,
    Call,
    Counts,
    File,
    Image,
    Reasoning,
    Result,
    Schema,
    Text,
    Tool,
    ToolChoice,
    Turn,
)
from ownward.upstreams.translation._members import Report
from ownward.upstreams.translation._read_chat import read_chat
from ownward.upstreams.translation._read_messages import read_messages
from ownward.upstreams.translation._read_responses import read_responses
from ownward.upstreams.translation._responses import write_response
from ownward.upstreams.translation._steps import done
from ownward.upstreams.translation._streams_read_chat import ChatReader
from ownward.upstreams.translation._streams_read_messages import MessagesReader
from ownward.upstreams.translation._streams_read_responses import ResponsesReader
from ownward.upstreams.translation._streams_responses import ResponsesWriter
from ownward.upstreams.translation._streams_write import ChatWriter, MessagesWriter
from ownward.upstreams.translation._translate import StreamTranslator
from ownward.upstreams.translation._write_chat import write_chat
from ownward.upstreams.translation._write_messages import write_messages
from ownward.upstreams.translation._write_responses import write_responses

PAIRS = [
    ("chat", "messages"),
    ("responses", "messages"),
    ("responses", "chat"),
    ("messages", "chat"),
    ("messages", "responses"),
]
READERS = {"chat": ChatReader, "messages": MessagesReader, "responses": ResponsesReader}

words = st.text(min_size=1, max_size=12)
names = st.from_regex(r"[A-Za-z0-9_-]{1,12}", fullmatch=True)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(words, json_values, max_size=3)
base64s = st.binary(max_size=6).map(lambda data: data.hex())

texts = st.builds(Text, text=words.filter(str.strip))  # blank ones are left out for Anthropic, which refuses them
images = st.builds(Image, media_type=st.sampled_from(["image/png", "image/jpeg"]), data=base64s) | st.builds(
    Image, url=names.map(lambda name: f"https://example.com/{name}")
)
files = st.builds(File, data=base64s, name=names)
calls = st.builds(Call, call_id=names, name=names, arguments=objects.map(json.dumps))
results = st.builds(Result, call_id=names, parts=st.lists(texts, min_size=1, max_size=2).map(tuple))


def many(*parts, least=1):
    return st.lists(st.one_of(*parts), min_size=least, max_size=3).map(tuple)


def turn(role, parts):
    return st.builds(Turn, role=st.just(role), parts=parts)


said = st.tuples(many(texts, least=0), many(calls, least=0)).map(lambda both: both[0] + both[1]).filter(bool)
rounds = st.tuples(
    turn("user", many(texts, images, files)),
    st.none() | turn("system", many(texts)),
    turn("assistant", said),
    st.none() | turn("tool", many(results)),
)
turns = st.lists(rounds, max_size=3).map(lambda found: [one for each in found for one in each if one is not None])


def naming_a_tool(asked: Asked) -> Asked:
    """Return a request whose choice of a tool names one that is there: others are refused."""
    choice = asked.tool_choice
    if choice is None or choice.kind != "named":
        return asked
    return dataclasses.replace(asked, tool_choice=dataclasses.replace(choice, name=asked.tools[-1].name))


requests = st.builds(
    Asked,
    model=names,
    is_stream=st.booleans(),
    system=many(texts, least=0),
    turns=turns.map(lambda found: (*found, Turn(role="user", parts=(Text(text="and?"),)))),
    tools=st.lists(
        st.builds(
            Tool,
            name=names,
            description=st.none() | words,
            schema=objects,
            is_strict=st.none() | st.booleans(),
        ),
        min_size=1,
        max_size=3,
        unique_by=lambda tool: tool.name,
    ).map(tuple),
    tool_choice=st.none() | st.builds(ToolChoice, kind=st.sampled_from(["auto", "none", "required", "named"])),
    max_tokens=st.integers(1, 10**6),
    temperature=st.none() | st.floats(0, 1),
    top_p=st.none() | st.floats(0, 1),
    top_k=st.none() | st.integers(0, 100),
    stop=st.lists(words, max_size=3).map(tuple),
    schema=st.none() | st.builds(Schema, schema=objects, is_strict=st.just(True)),
    effort=st.none() | st.sampled_from(["low", "medium", "high", "xhigh", "max"]),
    user=st.none() | words.map("user {}".format).filter(lambda user: "@" not in user),  # mail goes by its hash
    service_tier=st.none() | st.just("default"),
).map(naming_a_tool)


def meaning(value: Any) -> Any:
    """Return what a core value means: without places, with arguments as JSON, with neighbouring results as one turn."""
    if isinstance(value, Asked):
        found = {field.name: meaning(getattr(value, field.name)) for field in dataclasses.fields(value)}
        found.pop("places")
        found.pop("wants_stream_usage")
        found["schema"] = None if value.schema is None else value.schema.schema
        found["turns"] = joined(value.turns)
        return found
    if isinstance(value, Call):
        return ("call", value.call_id, value.name, json.loads(value.arguments))
    if isinstance(value, Tool) and value.schema is not None:  # a tool's arguments are an object, said or not
        value = dataclasses.replace(value, schema={"type": "object", **value.schema})
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [field.name for field in dataclasses.fields(value) if field.name != "path"]
        return (type(value).__name__, *((name, meaning(getattr(value, name))) for name in fields))
    if isinstance(value, tuple | list):
        return [meaning(item) for item in value]
    return value


def joined(found: tuple[Turn, ...]) -> list[Any]:
    sides: list[Any] = []
    for each in found:
        parts = [meaning(part) for part in each.parts]
        if sides and sides[-1][0] == each.role and each.role == "tool":
            sides[-1][1].extend(parts)
        else:
            sides.append((each.role, parts))
    return sides


def is_told(write) -> Any:
    report = Report()
    body = write(report)
    assume(not report.refused)
    return json.loads(json.dumps(body))


def without_a_neutral_one(asked: Asked) -> Asked:
    """Return a request without the one of temperature and top_p that is 1, where both are stated."""
    if asked.temperature is None or asked.top_p is None:
        return asked
    neutral = "top_p" if asked.top_p == 1 else "temperature" if asked.temperature == 1 else None
    return asked if neutral is None else dataclasses.replace(asked, **{neutral: None})


@given(requests)
def test_a_request_means_the_same_after_chat(asked):
    body = is_told(lambda report: done(write_chat(asked, report, limit_name="max_completion_tokens", goes_on=True)))
    report = Report()
    assert meaning(done(read_chat(body, report))) == meaning(asked)
    assert not report.refused
    assert not report.dropped


@given(requests)
def test_a_request_means_the_same_after_messages(asked):
    body = is_told(lambda report: done(write_messages(asked, report, max_output_tokens=None)))
    report = Report()
    assert meaning(done(read_messages(body, report))) == meaning(without_a_neutral_one(asked))
    assert not report.refused


@given(requests)
def test_a_request_means_the_same_after_responses(asked):
    """But for what they know nothing like; functions are strict there unless they say that they are not."""
    tools = tuple(dataclasses.replace(tool, is_strict=tool.is_strict is True) for tool in asked.tools)
    asked = dataclasses.replace(asked, top_k=None, stop=(), tools=tools)
    body = is_told(lambda report: done(write_responses(asked, report, is_openai=True)))
    report = Report()
    found = dataclasses.replace(done(read_responses(body, report)), repeated={})
    assert meaning(found) == meaning(asked)
    assert not report.refused
    assert not report.dropped


@given(requests)
def test_a_request_means_the_same_after_going_there_and_back(asked):
    body = is_told(lambda report: done(write_chat(asked, report, limit_name="max_tokens", goes_on=True)))
    there = translate(json.dumps(body).encode(), client="chat", upstream="messages")
    back = translate(there.body, client="messages", upstream="chat")
    assert meaning(done(read_chat(json.loads(back.body), Report()))) == meaning(without_a_neutral_one(asked))


reasonings = (
    st.builds(Reasoning, text=words, signer=st.just("anthropic"), signature=names)
    | st.builds(Reasoning, text=st.just(""), signer=st.just("anthropic"), signature=names)
    | st.builds(Reasoning, text=st.just(""), signer=st.just("anthropic"), redacted=names)
)


ANSWER = {"id": "m", "type": "message", "role": "assistant", "model": "m", "stop_reason": "tool_use"}


def content_of(parts):
    """Return blocks in which thinking, one text and calls follow one another in any order, with a call at the end."""
    blocks: list[Any] = []
    for part in [*parts, "call"]:
        if part == "call":
            blocks.append({"type": "tool_use", "id": f"c{len(blocks)}", "name": "f", "input": {}})
        elif part != "text":
            blocks.append(block_of(part))
        elif all(block["type"] not in {"text", "tool_use"} for block in blocks):
            blocks.append({"type": "text", "text": "words"})
    return blocks


mixed = st.lists(reasonings | st.sampled_from(["call", "text"]), max_size=6).map(content_of)


@given(mixed, st.booleans(), st.booleans())
def test_signatures_come_back_through_a_chat_client_in_their_places(content, is_streamed, keeps_pieces):
    first = translate(
        b'{"model": "m", "max_tokens": 5, "messages": [], "stream": true}', client="chat", upstream="messages"
    )
    data = json.dumps({**ANSWER, "content": content}).encode()
    if is_streamed:
        message = gather_chat(first.answer_as_stream(data, now_s=0), keeps_pieces=keeps_pieces)
    else:
        message = json.loads(first.answer(data, now_s=0))["choices"][0]["message"]
    results = [
        {"role": "tool", "tool_call_id": block["id"], "content": "r"}
        for block in content
        if block["type"] == "tool_use"
    ]
    history = [{"role": "user", "content": "x"}, message, *results]
    again = translate(
        json.dumps({"model": "m", "max_tokens": 5, "messages": history}).encode(), client="chat", upstream="messages"
    )
    assert json.loads(again.body)["messages"][1]["content"] == content


@given(mixed, st.booleans())
def test_signatures_come_back_through_a_responses_client_in_their_places(content, is_streamed):
    asked = {"model": "m", "max_output_tokens": 5, "input": [{"role": "user", "content": "x"}]}
    first = translate(json.dumps(asked).encode(), client="responses", upstream="messages")
    data = json.dumps({**ANSWER, "content": content}).encode()
    if is_streamed:
        last = first.answer_as_stream(data, now_s=0).decode().split("\n\n")[-2]
        output = json.loads(last.partition("data: ")[2])["response"]["output"]
    else:
        output = json.loads(first.answer(data, now_s=0))["output"]
    results = [
        {"type": "function_call_output", "call_id": block["id"], "output": "r"}
        for block in content
        if block["type"] == "tool_use"
    ]
    again = translate(
        json.dumps({**asked, "input": [*asked["input"], *output, *results]}).encode(),
        client="responses",
        upstream="messages",
    )
    assert json.loads(again.body)["messages"][1]["content"] == content


def block_of(item):
    if item.redacted is not None:
        return {"type": "redacted_thinking", "data": item.redacted}
    return {"type": "thinking", "thinking": item.text, "signature": item.signature}


def gather_chat(stream, *, keeps_pieces):
    """Return the message that a client makes of the chunks: reasoning joined by index, or as it came."""
    message: dict[str, Any] = {"role": "assistant", "content": None, "tool_calls": [], "reasoning_details": []}
    for event in stream.decode().split("\n\n"):
        if not event.startswith("data: {"):
            continue
        for choice in json.loads(event[6:])["choices"]:
            delta = choice["delta"]
            message["content"] = (message["content"] or "") + (delta.get("content") or "") or None
            for piece in delta.get("reasoning_details", []):
                known = [one for one in message["reasoning_details"] if one["index"] == piece["index"]]
                if keeps_pieces or not known:
                    message["reasoning_details"].append(dict(piece))
                else:
                    known[0]["text"] = known[0].get("text", "") + piece.get("text", "")
                    known[0].update({name: piece[name] for name in ("signature", "data") if name in piece})
            for call in delta.get("tool_calls", []):
                if call["index"] == len(message["tool_calls"]):
                    message["tool_calls"].append(
                        {"id": call["id"], "type": "function", "function": {"name": "", "arguments": ""}}
                    )
                known_call = message["tool_calls"][call["index"]]["function"]
                known_call["name"] += call["function"].get("name", "")
                known_call["arguments"] += call["function"]["arguments"]
    return message


# Answers and streams.

answers = st.builds(
    Answer,
    answer_id=names,
    model=names,
    parts=st.tuples(
        st.lists(st.builds(Reasoning, text=words, signer=st.just("openai")), max_size=1),
        st.lists(texts, max_size=1),
        st.lists(calls, max_size=3, unique_by=lambda call: call.call_id),
    ).map(lambda three: (*three[0], *three[1], *three[2])),
    stop=st.sampled_from(["end", "limit"]),
    counts=st.builds(
        Counts, input_tokens=st.integers(0, 99), output_tokens=st.integers(0, 99), cached_tokens=st.just(0)
    ),
)
cuts = st.lists(st.integers(1, 40), min_size=1, max_size=30)


def cut(data, sizes):
    pieces, at, index = [], 0, 0
    while at < len(data):
        size = sizes[index % len(sizes)]
        pieces.append(data[at : at + size])
        at, index = at + size, index + 1
    return pieces


def writer_for(client):
    asked = Asked(model="m", is_stream=True, turns=())
    return {
        "chat": ChatWriter(wants_usage=True, now_s=7),
        "messages": MessagesWriter(),
        "responses": ResponsesWriter(asked, now_s=7),
    }[client]


@given(answers, st.sampled_from(PAIRS), cuts)
def test_a_stream_is_the_same_wherever_it_is_cut_and_says_what_the_whole_answer_says(answer, pair, sizes):
    client, upstream = pair
    wire = writer_for(upstream)
    data = b"".join(wire.write(event) for event in events_of(answer))
    reader = READERS[upstream]
    at_once = StreamTranslator(reader(), writer_for(client))
    in_pieces = StreamTranslator(reader(), writer_for(client))
    whole = at_once.feed(data) + at_once.finish()
    assert b"".join(in_pieces.feed(piece) for piece in cut(data, sizes)) + in_pieces.finish() == whole
    last_words = {"chat": b"data: [DONE]\n\n", "messages": b'{"type":"message_stop"}\n\n', "responses": b"}}\n\n"}
    assert whole.endswith(last_words[client])
    for size in range(1, len(data), max(1, len(data) // 7)):
        begun = StreamTranslator(reader(), writer_for(client))
        told = begun.feed(data[: len(data) - size])
        assert whole.startswith(told)  # what was told before a cut is what would have been told
        assert not told.endswith(last_words["messages"])


# Nothing else is ever raised.


def fault_of(kind, run):
    """Return what of `kind` is raised, or None; whatever else is raised is a fault of ours."""
    try:
        run()
    except kind as error:
        return error
    return None


def changed(draw, value):
    """Return a JSON value with one place of it replaced by any other."""
    if isinstance(value, dict) and value and draw(st.booleans()):
        name = draw(st.sampled_from(sorted(value)))
        return {**value, name: changed(draw, value[name])}
    if isinstance(value, list) and value and draw(st.booleans()):
        index = draw(st.integers(0, len(value) - 1))
        return [*value[:index], changed(draw, value[index]), *value[index + 1 :]]
    return draw(json_values)


@given(st.data(), requests, st.sampled_from(["chat", "messages"]))
def test_whatever_a_request_says_it_is_told_or_refused_by_name(data, asked, client):
    body = (
        done(write_chat(asked, Report(), limit_name="max_tokens", goes_on=False))
        if client == "chat"
        else done(write_messages(asked, Report(), max_output_tokens=None))
    )
    for _ in range(data.draw(st.integers(1, 3))):
        body = changed(data.draw, body)
    upstream = "messages" if client == "chat" else "chat"
    data_sent, limits = json.dumps(body).encode(), Limits(max_output_tokens=5)
    error = fault_of(Untranslatable, lambda: translate(data_sent, client=client, upstream=upstream, limits=limits))
    assert error is None or (error.fields and len(error.message) < 4000)


@given(json_values | st.dictionaries(st.sampled_from(["model", "input", "tools", "text", "reasoning"]), json_values))
def test_whatever_a_responses_request_says_it_is_told_or_refused_by_name(body):
    data_sent = json.dumps(body).encode()
    to_chat = fault_of(Untranslatable, lambda: translate(data_sent, client="responses", upstream="chat"))
    to_messages = fault_of(Untranslatable, lambda: translate(data_sent, client="responses", upstream="messages"))
    assert all(error is None or error.fields for error in (to_chat, to_messages))


@given(st.binary(max_size=60), st.sampled_from(PAIRS))
@example(b"[" * 100_000, PAIRS[0])
@example(b'{"a":' * 100_000, PAIRS[3])
def test_bytes_that_are_no_request_are_refused(body, pair):
    client, upstream = pair
    error = fault_of(Untranslatable, lambda: translate(body, client=client, upstream=upstream))
    assert error is None or error.fields


@given(st.data(), answers, st.sampled_from(PAIRS))
def test_whatever_an_upstream_streams_it_is_told_or_called_broken(data, answer, pair):
    client, upstream = pair
    wire = writer_for(upstream)
    events = [wire.write(event) for event in events_of(answer)]
    index = data.draw(st.integers(0, len(events) - 1))
    body = events[index].partition(b"data: ")[2].strip()
    if body and body != b"[DONE]" and b"\n" not in body:
        events[index] = b"data: " + json.dumps(changed(data.draw, json.loads(body))).encode() + b"\n\n"
    else:
        events[index] = data.draw(st.binary(max_size=20)) + b"\n\n"
    made = StreamTranslator(READERS[upstream](), writer_for(client))
    error = fault_of(UntranslatableAnswer, lambda: made.feed(b"".join(events)) + made.finish())
    assert error is None or error.message


@given(st.data(), answers, st.sampled_from(PAIRS))
def test_whatever_an_upstream_answers_it_is_told_or_called_untold(data, answer, pair):
    client, upstream = pair
    made = translate(
        json.dumps({"model": "m", "max_tokens": 5, "messages": []} if client != "responses" else
                   {"model": "m", "max_output_tokens": 5, "input": "x"}).encode(), client=client, upstream=upstream
    )  # fmt: skip
    body = {
        "chat": lambda: write_chat_answer(answer, now_s=0),
        "responses": lambda: write_response(answer, made.asked, now_s=0),
        "messages": lambda: write_messages_answer(answer),
    }[upstream]()
    answered = json.dumps(changed(data.draw, body)).encode()
    error = fault_of(UntranslatableAnswer, lambda: made.answer(answered, now_s=0))
    assert error is None or error.message


@given(answers)
def test_a_whole_answer_means_the_same_in_both_dialects(answer):
    chat = read_chat_answer(json.loads(json.dumps(write_chat_answer(answer, now_s=0))))
    messages = read_messages_answer(json.loads(json.dumps(write_messages_answer(answer))))
    has_calls = any(isinstance(part, Call) for part in answer.parts)
    expected = "tool_calls" if has_calls and answer.stop == "end" else answer.stop
    assert (chat.stop, messages.stop) == (expected, answer.stop)
    for read in (chat, messages):
        assert [meaning(part) for part in read.parts if not isinstance(part, Reasoning)] == [
            meaning(part) for part in answer.parts if not isinstance(part, Reasoning)
        ]
        assert [part.text for part in read.parts if isinstance(part, Reasoning)] == [
            part.text for part in answer.parts if isinstance(part, Reasoning)
        ]
        assert read.counts.input_tokens == answer.counts.input_tokens
        assert read.counts.output_tokens == answer.counts.output_tokens
