"""What an upstream says and what a client is told, byte by byte, as files in this folder.

- `recorded/`: real answers of llama.cpp b11549 (xllamacpp 2026.10.11549) with SmolLM2-135M, 2026-11-21, which speaks
  both dialects: the same question asked in each. `tool` and `think` ran with a template that has tools and thinking.
- `written/`: answers written after the documentation and the types of openai 3.52 and anthropic 2.11, not recorded:
  what only the providers' own services send (signatures, redacted thinking, refusals), and what bad servers send.
  Only clients of messages are answered from responses.
- `requests/`: requests that use most of their dialect.
- `translated/`: the other halves; `pytest tests/golden tests/contract/translation --rewrite-golden` writes them.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ownward.upstreams.translation import Limits, translate

HERE = Path(__file__).parent
ANSWERS = sorted([*HERE.glob("recorded/*.txt"), *HERE.glob("written/*.txt")])
REQUESTS = sorted(HERE.glob("requests/*.json"))
NOW_S = 1_795_246_000
ASKED = {
    "chat": {"model": "m", "max_tokens": 9, "messages": [], "stream": True, "stream_options": {"include_usage": True}},
    "responses": {"model": "m", "max_output_tokens": 9, "input": "hi", "stream": True},
    "messages": {"model": "m", "max_tokens": 9, "messages": [], "stream": True},
}


def pairs():
    found = []
    for path in ANSWERS:
        _, upstream, kind = path.stem.rsplit("-", 2)
        found += [
            pytest.param(path, client, upstream, kind, id=f"{path.stem}-to-{client}")
            for client in ("chat", "responses", "messages")
            if client != upstream and (upstream != "responses" or client == "messages")
        ]
    return found


def translation_of(client, upstream):
    return translate(json.dumps(ASKED[client]).encode(), client=client, upstream=upstream)


def told(data, client, upstream, kind, piece_bytes=1_000_000):
    made = translation_of(client, upstream)
    if kind == "whole":
        return made.answer(data, now_s=NOW_S)
    stream = made.stream(now_s=NOW_S)
    pieces = [data[at : at + piece_bytes] for at in range(0, len(data), piece_bytes)]
    found = b"".join([stream.feed(piece) for piece in pieces])
    return found if b'"type":"error"' in data else found + stream.finish()


def check(name, found, request):
    path = HERE / "translated" / name
    if request.config.getoption("--rewrite-golden", default=False):
        path.write_bytes(found)
    assert path.is_file(), f"{name} is missing: pytest tests/golden tests/contract/translation --rewrite-golden"
    assert found == path.read_bytes()


@pytest.mark.parametrize(("path", "client", "upstream", "kind"), pairs())
def test_an_answer_is_told_to_the_byte(path, client, upstream, kind, request):
    check(f"{path.stem}-to-{client}.txt", told(path.read_bytes(), client, upstream, kind), request)


@pytest.mark.parametrize(("path", "client", "upstream", "kind"), [pair for pair in pairs() if "stream" in pair.id])
@pytest.mark.parametrize("piece_bytes", [1, 7, 100])
def test_a_stream_is_told_the_same_wherever_its_bytes_are_cut(path, client, upstream, kind, piece_bytes):
    data = path.read_bytes()
    assert told(data, client, upstream, kind, piece_bytes) == told(data, client, upstream, kind)
    carried = data.replace(b"\n", b"\r\n")
    assert told(carried, client, upstream, kind, piece_bytes) == told(data, client, upstream, kind)


@pytest.mark.parametrize("path", REQUESTS, ids=lambda path: path.stem)
@pytest.mark.parametrize("upstream", ["chat", "responses", "messages"])
def test_a_request_is_told_to_the_byte(path, upstream, request):
    client = path.suffixes[0][1:]
    if client == upstream or (client, upstream) == ("chat", "responses"):
        return
    data = path.read_bytes()
    if upstream == "responses":
        data = json.dumps({**json.loads(data), "top_k": None, "stop_sequences": None}).encode()
    if client == "responses" and upstream == "messages":  # its reasoning is not Anthropic's
        data = json.dumps({**json.loads(data), "input": json.loads(data)["input"][:4]}).encode()
    made = translate(data, client=client, upstream=upstream, limits=Limits(max_output_tokens=64))
    shown = {"left out": list(made.dropped), "body": json.loads(made.body)}
    check(f"{path.stem}-to-{upstream}.json", json.dumps(shown, indent=1, ensure_ascii=False).encode() + b"\n", request)


# What the engine itself says in both dialects is the same as what we make of one of them.


@pytest.mark.parametrize("name", ["text", "tool", "think"])
def test_the_engines_own_two_dialects_agree_with_the_translation(name):
    chat = (HERE / f"recorded/{name}-chat-whole.txt").read_bytes()
    own = json.loads((HERE / f"recorded/{name}-messages-whole.txt").read_bytes())
    made = json.loads(translation_of("messages", "chat").answer(chat, now_s=NOW_S))
    assert [bare(block) for block in made["content"]] == [bare(block) for block in own["content"]]
    assert made["stop_reason"] == own["stop_reason"]
    assert input_of(made) == input_of(own)
    assert made["usage"]["output_tokens"] == own["usage"]["output_tokens"]


@pytest.mark.parametrize("name", ["text", "tool", "think"])
def test_the_engines_own_two_streams_agree_with_the_translation(name):
    chat = (HERE / f"recorded/{name}-chat-stream.txt").read_bytes()
    own = (HERE / f"recorded/{name}-messages-stream.txt").read_bytes()
    assert gather(told(chat, "messages", "chat", "stream")) == gather(own)


def bare(block):
    return {name: value for name, value in block.items() if name not in {"id", "signature"}}


def input_of(message):
    return message["usage"]["input_tokens"] + message["usage"].get("cache_read_input_tokens", 0)


def gather(stream):
    """Return what a stream of a message says: its blocks by kind and text, its end."""
    blocks, stop = [], None
    for event in stream.decode().split("\n\n"):
        if not event.strip():
            continue
        found = json.loads(event.partition("data: ")[2])
        match found["type"]:
            case "content_block_start":
                blocks.append([found["content_block"]["type"], found["content_block"].get("name"), ""])
            case "content_block_delta" if found["delta"]["type"] != "signature_delta":
                delta = found["delta"]
                blocks[-1][2] += delta.get("text") or delta.get("thinking") or delta.get("partial_json") or ""
            case "message_delta":
                stop = found["delta"]["stop_reason"]
            case _:
                pass
    return blocks, stop
