from __future__ import annotations

import json

import pytest

from ownward.upstreams import bounds, input_tokens_upper_bound, output_tokens_upper_bound, splice


def bound(body: dict, endpoint: str = "chat", **options: int) -> int | None:
    return input_tokens_upper_bound(splice(json.dumps(body).encode(), endpoint=endpoint), endpoint=endpoint, **options)


def said(*parts: object) -> dict:
    return {"messages": [{"role": "user", "content": list(parts)}]}


TEXT = {"type": "text", "text": "hello"}


@pytest.mark.parametrize("kind", ["image_url", "image", "input_image"])
def test_an_image_costs_its_allowance(kind):
    assert bound(said(TEXT, {"type": kind})) > bound(said(TEXT)) + 60_000


def test_an_image_inside_a_tool_result_is_seen():
    result = {"type": "tool_result", "content": [{"type": "image", "source": {}}]}
    assert bound(said(result), "messages") > 60_000


def test_an_image_whose_type_is_spelled_with_escapes_is_seen():
    body = b'{"messages":[{"content":[{"t\\u0079pe":"\\u0069mage_url"}]}]}'
    assert input_tokens_upper_bound(splice(body)) > 60_000


@pytest.mark.parametrize(
    ("body", "endpoint"),
    [
        (said({"type": "file"}), "chat"),
        (said({"type": "document"}), "messages"),
        (said({"type": "video_url"}), "chat"),
        (said({"type": "never_heard_of"}), "chat"),
        (said({"type": "tool_result", "content": [{"type": "document"}]}), "messages"),
        ({"previous_response_id": "r"}, "responses"),
        ({"conversation": "c"}, "responses"),
        ({"prompt": {"id": "p"}}, "responses"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "responses"),
        ({"input": [{"role": "user", "content": [{"type": "input_file"}]}]}, "responses"),
        ({"tools": [{"type": "web_search"}]}, "responses"),
        ({"tools": [{"type": "web_search_20250305", "name": "w"}]}, "messages"),
        ({"mcp_servers": []}, "messages"),
        ({"messages": [7]}, "chat"),
    ],
)
def test_what_the_body_does_not_bound_has_no_bound_but_the_context(body, endpoint):
    assert bound(body, endpoint) is None
    assert bound(body, endpoint, max_context_tokens=4096) == 4096


def test_the_context_bounds_long_bodies_too():
    assert bound(said(TEXT), max_context_tokens=100) == 100
    assert bound(said(TEXT), max_context_tokens=10**9) == bound(said(TEXT))


def test_a_body_that_is_longer_than_the_context_is_not_read_through(monkeypatch):
    monkeypatch.setattr(bounds, "_bound_body", None)
    assert bound(said({"type": "text", "text": "a" * 1000}), max_context_tokens=1000) == 1000


def test_role_markers_count_for_each_message():
    """Llama 3's markers, at one token for each byte."""
    markers = len("<|start_header_id|>user<|end_header_id|>\n\n<|eot_id|>")
    assert bound({"messages": [{"role": "user", "content": ""}] * 500}) > 500 * markers
    assert bound({"messages": [{"content": ""}] * 500}) > 500 * 40


def test_tools_count_more_than_their_length():
    tools = [{"type": "function", "function": {"name": "f", "description": "x" * 1000}}]
    assert bound({**said(TEXT), "tools": tools}) > bound(said(TEXT)) + 4 * 1000


def test_client_tools_of_the_provider_are_bounded():
    assert bound(
        {"tools": [{"type": "bash_20250124", "name": "bash"}, {"name": "own", "input_schema": {}}]}, "messages"
    )


def test_embedded_text_that_normalising_may_lengthen_counts_elevenfold():
    plain, lengthened = bound({"input": "a" * 100}, "embeddings"), bound({"input": "\ufdfa" * 100}, "embeddings")
    assert plain < 1300
    assert lengthened > 100 * 18


@pytest.mark.parametrize(
    ("body", "endpoint", "limit", "high"),
    [
        ({"max_tokens": 10, "n": 3}, "chat", None, 30),
        ({"max_tokens": 10, "max_completion_tokens": 20}, "chat", None, 20),
        ({"max_tokens": 100}, "chat", 50, 50),
        ({"max_tokens": 10}, "chat", 50, 10),
        ({"n": 2}, "chat", 50, 100),
        ({"prompt": ["a", "b"], "max_tokens": 5}, "completions", None, 10),
        ({}, "chat", None, None),
        ({"max_tokens": -1}, "chat", None, None),
        ({"input": "a"}, "embeddings", None, 0),
        ({"max_output_tokens": 9}, "responses", None, 9),
        ({"max_tokens": 10, "prediction": "abcd"}, "chat", None, 16),
        ({"max_tokens": 10, "prediction": "abcd"}, "chat", 5, 11),
    ],
)
def test_output_is_bounded_by_what_is_stated(body, endpoint, limit, high):
    request = splice(json.dumps(body).encode(), endpoint=endpoint)
    assert output_tokens_upper_bound(request, endpoint=endpoint, max_output_tokens=limit) == high


def test_what_a_template_of_the_clients_repeats_is_bounded_by_the_context_alone():
    body = said(TEXT) | {"chat_template": "{% for _ in range(100000) %}x{% endfor %}"}
    assert bound(body) is None
    assert input_tokens_upper_bound(splice(json.dumps(body).encode()), max_context_tokens=8192) == 8192
