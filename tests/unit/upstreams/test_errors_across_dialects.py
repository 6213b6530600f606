"""Errors of upstreams, told in the client's dialect: their kinds, and the words by which clients go on."""

from __future__ import annotations

import json

import pytest

from ownward.upstreams.translation import as_messages_error, translate

ASKED = {
    "chat": {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hello"}]},
    "messages": {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hello"}]},
    "responses": {"model": "m", "max_output_tokens": 9, "input": "hello"},
}


def made(client, upstream, **more):
    return translate(json.dumps({**ASKED[client], **more}).encode(), client=client, upstream=upstream)


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (529, ("overloaded_error", "m"), (503, "overloaded_error", "overloaded_error")),
        (404, ("not_found_error", "m"), (404, "invalid_request_error", "not_found_error")),
        (404, ("not_found_error", "model: claude-x"), (404, "invalid_request_error", "model_not_found")),
        (429, ("rate_limit_error", "m"), (429, "rate_limit_error", "rate_limit_exceeded")),
        (500, ("api_error", "m"), (500, "server_error", "api_error")),
    ],
)
def test_errors_of_anthropic_for_a_chat_client(status, body, expected):
    kind, words = body
    said = {"type": "error", "error": {"type": kind, "message": words}}
    told, error = made("chat", "messages").error(status, json.dumps(said).encode())
    found = json.loads(error)["error"]
    assert (told, found["type"], found["code"], found["message"]) == (*expected, words)


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (429, b'{"error": {"message": "m", "type": "requests", "code": "rate_limit_exceeded"}}', "rate_limit_error"),
        (404, b'{"error": "m"}', "not_found_error"),
        (404, b'{"error": {"message": "m", "type": "invalid_request_error"}}', "not_found_error"),
        (413, b'{"error": {"message": "m", "type": "invalid_request_error"}}', "request_too_large"),
        (422, b'{"error": {"message": "m", "type": "invalid_request_error"}}', "invalid_request_error"),
        (400, b'{"object": "error", "message": "m", "type": "BadRequestError"}', "invalid_request_error"),
        (403, b'{"detail": "m"}', "permission_error"),
        (502, b"m", "api_error"),
        (500, b'{"error": {"message": "m", "type": "server_error"}}', "api_error"),
    ],
)
def test_errors_of_openai_servers_for_a_client_of_messages(status, body, expected):
    told, error = made("messages", "chat").error(status, body)
    found = json.loads(error)
    assert found["type"] == "error"
    assert (told, found["error"]["type"], found["error"]["message"]) == (status, expected, "m")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            {"code": 400, "message": "request (9 tokens) exceeds it", "type": "exceed_context_size_error"},
            "prompt is too long: request (9 tokens) exceeds it",
        ),
        (
            {"message": "Your input exceeds the context window of this model.", "code": "context_length_exceeded"},
            "prompt is too long: Your input exceeds the context window of this model.",
        ),
        (
            {"message": "maximum context length is 9, you requested 12 (2 in the messages, 10 in the completion)"},
            "maximum context length is 9, you requested 12 (2 in the messages, 10 in the completion)",
        ),
        ({"message": "prompt is too long: 9 tokens > 8"}, "prompt is too long: 9 tokens > 8"),
        ({"message": "the context_management of this model", "code": ["odd"]}, "the context_management of this model"),
    ],
)
def test_a_client_of_messages_is_told_that_its_prompt_is_too_long_as_its_dialect_says_it(error, told):
    """Coding agents shorten the conversation where they read these words, and know it by nothing else."""
    status, body = made("messages", "chat").error(400, json.dumps({"error": error}).encode())
    assert (status, json.loads(body)["error"]) == (400, {"type": "invalid_request_error", "message": told})


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (
            400,  # llama.cpp (b11549) at /v1/messages
            {"error": {"code": 400, "message": "request (9 tokens) exceeds it", "type": "exceed_context_size_error"}},
            {"type": "invalid_request_error", "message": "prompt is too long: request (9 tokens) exceeds it"},
        ),
        (500, {"error": {"code": 500, "message": "m", "type": "server_error"}}, {"type": "api_error", "message": "m"}),
        (
            400,  # vLLM at /v1/messages
            {"type": "error", "error": {"type": "BadRequestError", "message": "the maximum context length is 9"}},
            {"type": "invalid_request_error", "message": "prompt is too long: the maximum context length is 9"},
        ),
    ],
)
def test_what_an_engine_refuses_of_a_message_is_told_as_the_dialect_says_it(status, body, told):
    found, answer = as_messages_error(status, json.dumps(body).encode())
    assert (found, json.loads(answer)) == (status, {"type": "error", "error": told})


@pytest.mark.parametrize(
    "body",
    [
        b'{"type": "error", "error": {"type": "invalid_request_error", "message": "prompt is too long: 9 > 8"}}',
        b'{"type": "error", "error": {"type": "of_its_own", "message": "m", "details": 1}, "request_id": "r"}',
        b"<html>",
        b"[]",
        b"",
    ],
)
def test_what_is_said_as_the_dialect_does_or_cannot_be_read_stays_as_it_is(body):
    assert as_messages_error(400, body) is None


def test_a_stream_that_fails_for_its_length_says_so_as_anthropics_dialect_does():
    stream = made("messages", "responses", stream=True).stream(now_s=1)
    error = {"code": "context_length_exceeded", "message": "Your input exceeds the context window of this model."}
    failed = {"type": "response.failed", "response": {"id": "r", "status": "failed", "error": error, "output": []}}
    told = stream.feed(b"event: response.failed\ndata: %b\n\n" % json.dumps(failed).encode())
    event = json.loads(told.rsplit(b"data: ", 1)[1])
    assert event["error"]["type"] == "invalid_request_error"
    assert event["error"]["message"].startswith("prompt is too long: Your input")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ({"type": "overloaded_error", "message": "Overloaded"}, "server_error"),
        ({"type": "rate_limit_error", "message": "m"}, "rate_limit_exceeded"),
        ({"type": "billing_error", "message": "m"}, "insufficient_quota"),
        ({"type": "invalid_request_error", "message": "m"}, "invalid_prompt"),
        ({"type": "invalid_request_error", "message": "prompt is too long: 9 > 8"}, "context_length_exceeded"),
    ],
)
def test_a_response_that_fails_in_its_stream_says_so_by_the_codes_that_agents_go_by(error, code):
    """Codex passes over the event `error`, and shortens, waits or gives up by the code in `response.failed`."""
    stream = made("responses", "messages", stream=True).stream(now_s=1)
    begun = {"type": "message_start", "message": {"id": "m", "model": "m", "usage": {"input_tokens": 1}}}
    told = stream.feed(b"data: %b\n\n" % json.dumps(begun).encode())
    told += stream.feed(b"data: %b\n\n" % json.dumps({"type": "error", "error": error}).encode())
    *_, failed, last = [json.loads(event.split(b"data: ")[1]) for event in told.split(b"\n\n") if event]
    assert (failed["type"], failed["response"]["id"], failed["response"]["status"]) == (
        "response.failed", "resp_m", "failed",
    )  # fmt: skip
    assert failed["response"]["error"] == {"code": code, "message": error["message"]}
    assert (last["type"], last["message"]) == ("error", error["message"])
    assert last["sequence_number"] == failed["sequence_number"] + 1


def test_a_response_that_had_not_begun_is_not_told_to_have_failed():
    """OpenAI's client takes no event of a response before the first one."""
    stream = made("responses", "messages", stream=True).stream(now_s=1)
    assert stream.begun_response is None
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}
    told = stream.feed(b'data: {"type": "ping"}\n\ndata: %b\n\n' % json.dumps(error).encode())
    (event,) = [json.loads(line[6:]) for line in told.split(b"\n") if line.startswith(b"data: ")]
    assert (event["type"], event["message"], event["error"]["message"]) == ("error", "busy", "busy")


@pytest.mark.parametrize("client", ["chat", "responses"])
def test_a_client_of_openais_is_told_by_its_code_that_its_prompt_is_too_long(client):
    error = {"type": "error", "error": {"type": "invalid_request_error", "message": "prompt is too long: 9 tokens > 8"}}
    found = json.loads(made(client, "messages").error(400, json.dumps(error).encode())[1])["error"]
    assert (found["code"], found["type"]) == ("context_length_exceeded", "invalid_request_error")
    other = {"type": "error", "error": {"type": "invalid_request_error", "message": "max_tokens: too large"}}
    assert (
        json.loads(made(client, "messages").error(400, json.dumps(other).encode())[1])["error"]["code"]
        == "invalid_request_error"
    )


TEMPLATE = "Unable to generate parser for this template. \n------------\nWhile executing CallExpression at line 1:\n"
FIRST = "System message must be at the beginning"
NO_ROLE = "Input should be 'user' or 'assistant'"
ROLE = f"'loc': ('body', 'messages', 1, 'role'), 'msg': \"{NO_ROLE}\", 'input': 'system'"


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (
            400,
            {"error": {"message": f"{TEMPLATE}Error: Jinja Exception: {FIRST}."}},
            f"Error: Jinja Exception: {FIRST}.",
        ),
        (400, {"type": "error", "error": {"type": "BadRequestError", "message": f"{FIRST}. None"}}, f"{FIRST}. None"),
        (500, {"error": "system message must be at the beginning"}, "system message must be at the beginning"),
        (400, {"detail": "System messages are not allowed"}, "System messages are not allowed"),
        (400, {"error": {"message": f"1 validation error:\n  {{{ROLE}}}", "type": "Bad Request"}}, f"{{{ROLE}}}"),
        (422, {"detail": [{"loc": ["body", "messages", 1, "role"], "msg": NO_ROLE}]}, "]}"),
    ],
    ids=["llama.cpp b11549", "vLLM", "Ollama", "a proxy", "vLLM 0.20", "FastAPI"],
)
def test_a_template_that_takes_system_messages_at_the_beginning_alone_is_told_as_anthropic_says_it(status, body, words):
    """`role 'system'` and `not supported` are what Anthropic's coding agent looks for before it goes on without."""
    crossed = made("messages", "chat").error(status, json.dumps(body).encode())
    for told, answer in (crossed, as_messages_error(status, json.dumps(body).encode())):
        error = json.loads(answer)["error"]
        assert (told, error["type"]) == (400, "invalid_request_error")
        assert error["message"].startswith("role 'system' is not supported on this model: ")
        assert error["message"].endswith(words)
        assert "\n" not in error["message"]


@pytest.mark.parametrize("client", ["chat", "responses"])
def test_clients_of_openai_are_told_of_such_a_template_in_the_upstreams_words(client):
    status, body = made(client, "messages").error(400, json.dumps({"error": {"message": f"{FIRST}."}}).encode())
    assert (status, json.loads(body)["error"]["message"]) == (400, f"{FIRST}.")
