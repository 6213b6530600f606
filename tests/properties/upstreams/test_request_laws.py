"""Splicing keeps every value's bytes; the bound on input tokens holds for the worst tokenizer there is."""

from __future__ import annotations

import json
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from ownward.core import BadInput
from ownward.upstreams import input_tokens_upper_bound, splice

keys = st.one_of(
    st.sampled_from(["model", "stream", "messages", "stream_options", "é", "a\nb", "\U0001f600"]), st.text(max_size=4)
)
raw_values = st.one_of(
    st.sampled_from(
        [
            b"1",
            b"1.50",
            b"-0.0",
            b"1e400",
            b"123456789012345678901234567890",
            b'"\\u00e9\\/"',
            b"[ 1 , 2]",
            b"{ }",
            b"null",
        ]
    ),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=6),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=6,
    ).map(lambda value: json.dumps(value).encode()),
)
spaces = st.sampled_from([b"", b" ", b"\n  ", b"\t\r\n"])


@st.composite
def bodies(draw: st.DrawFn) -> tuple[bytes, list[tuple[str, bytes]]]:
    """A JSON object as clients write it or in any spacing and spelling of keys, and its members; keys may repeat."""
    fixed = {"model": b'"m"', "stream": b"true", "stream_options": b'{"x": 1.0}', "n": b"2"}
    drawn = draw(st.lists(st.tuples(keys, raw_values), max_size=6))
    members = [(key, fixed.get(key, value)) for key, value in drawn]
    usual = draw(st.sampled_from([None, (b":", b","), (b": ", b", ")]))
    if usual is not None:
        colon, comma = usual
        spelled_keys = [json.dumps(key, ensure_ascii=False).encode("utf-8", "surrogatepass") for key, _ in members]
        pairs = zip(spelled_keys, members, strict=True)
        return b"{%b}" % comma.join([spelled + colon + value for spelled, (_, value) in pairs]), members
    parts = []
    for key, value in members:
        spelled = json.dumps(key, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
        parts.append(draw(spaces) + spelled + draw(spaces) + b":" + draw(spaces) + value + draw(spaces))
    return draw(spaces) + b"{" + (b",".join(parts) or draw(spaces)) + b"}" + draw(spaces), members


@given(bodies(), st.none() | st.sampled_from(["m", "other", 'q"\\']), st.booleans())
def test_every_value_not_replaced_keeps_its_bytes(made, model, want):
    body, members = made
    try:
        spliced = splice(body, model=model, want_stream_usage=want)
    except BadInput:
        return  # a surrogate without its other half
    expected = dict(members)
    if model is not None and expected.get("model") != json.dumps(model).encode():
        expected["model"] = json.dumps(model).encode()
    if spliced.adds_usage:
        had = expected.get("stream_options")
        expected["stream_options"] = b'{"x":1.0,"include_usage":true}' if had else b'{"include_usage":true}'
    after = splice(spliced.body)
    assert {key: bytes(value) for key, value in after.top.items()} == expected
    assert len(json.loads(spliced.body, object_pairs_hook=list)) == len(expected)
    if len(dict(members)) == len(members) and expected == dict(members):
        assert spliced.body is body


characters = st.text(max_size=30)
roles = st.sampled_from(["system", "user", "assistant", "tool"])
messages = st.lists(st.fixed_dictionaries({"role": roles, "content": characters}), max_size=6)
tools = st.lists(
    st.fixed_dictionaries({"name": characters, "description": characters, "parameters": st.just({"type": "object"})}),
    max_size=3,
)


def render(body: dict) -> bytes:
    """A chatty template: a default system text, indented tools, role markers as plain text."""
    text = "You are a helpful assistant. Knowledge cutoff: never. Today: 21 November 2026.\n\n"
    if body.get("tools"):
        text += "Call these functions by answering with JSON inside <tool_call></tool_call> tags.\n" * 4
        text += json.dumps(body["tools"], indent=4, ensure_ascii=False)
    for message in body["messages"]:
        text += f"<|start_header_id|>{message['role']}<|end_header_id|>\n\n{message['content']}<|eot_id|>"
    return (text + "<|assistant|>\n").encode("utf-8", "replace")


@given(messages, tools, st.booleans())
def test_the_bound_holds_where_every_byte_is_a_token(said, offered, ascii_only):
    listed = [{"type": "function", "function": tool} for tool in offered]
    body = {"model": "m", "messages": said, **({"tools": listed} if listed else {})}
    wire = json.dumps(body, ensure_ascii=ascii_only, separators=(",", ":")).encode("utf-8", "replace")
    bound = input_tokens_upper_bound(splice(wire))
    assert bound is not None
    assert bound >= len(render(json.loads(wire)))


@given(st.lists(st.text(max_size=20), min_size=1, max_size=5), st.booleans())
def test_the_bound_holds_for_embeddings_that_normalise_first(texts, ascii_only):
    wire = json.dumps({"input": texts}, ensure_ascii=ascii_only).encode("utf-8", "replace")
    spoken = [unicodedata.normalize("NFKC", text) for text in json.loads(wire)["input"]]
    tokens = sum(len(text.encode("utf-8", "replace")) + 2 for text in spoken)
    assert input_tokens_upper_bound(splice(wire, endpoint="embeddings"), endpoint="embeddings") >= tokens
