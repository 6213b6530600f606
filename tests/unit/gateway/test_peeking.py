"""What is read of a body before anything is chosen, and why one is refused."""

import gzip
import json
import zlib

import pytest

from ownward.gateway.error_answers import body_of, headers_of_error, status_of
from ownward.gateway.errors import MalformedRequest, PackedBody
from ownward.gateway.peeking import peek


@pytest.mark.parametrize(
    ("body", "needs"),
    [
        (b'{"model":"m"}', set()),
        (b'{"model":"m","tools":[],"logprobs":false,"n":1}', set()),
        (b'{"model":"m","tools":[{"type":"function"}]}', {"tools"}),
        (b'{"model":"m","n":2,"logprobs":true}', {"multiple_choices", "logprobs"}),
        (b'{"model":"m","response_format":{"type":"json_object"}}', {"json_mode"}),
        (b'{"model":"m","response_format":{"type":"json_schema","json_schema":{}}}', {"json_schema"}),
        (b'{"messages":[{"content":[{"type": "image_url","image_url":{}}]}]}', {"vision"}),
        (b'{"messages":[{"content":[{"type":"image","source":{}}]}]}', {"vision"}),
        (b'{"messages":[{"content":"what is \\"type\\":\\"image\\" ?"}]}', set()),
        (b'{"messages":[{"content":[{"type":"input_audio"}]}]}', {"audio"}),
        (b'{"functions": [{"name": "f"}], "tools": []}', {"tools", "functions"}),
        (b'{"tools": [{}], "tool_choice": "required"}', {"tools"}),
        (b'{"tools": [{}], "tool_choice": {"type": "function"}}', {"tools", "tool_choice"}),
        (b'{"tools": [{}], "tool_choice": {"type": "allowed_tools"}}', {"tools", "tool_choice"}),
        (b'{"tools": [{}], "tool_choice": {"type": "tool"}}', {"tools", "tool_choice"}),
        (b'{"tools": [{}], "tool_choice": {"type": "any", "disable_parallel_tool_use": true}}', {"tools"}),
        (b'{"tools": [{}], "tool_choice": {"type": "none"}}', {"tools"}),
        (b'{"tools": [{}], "tool_choice": {"type": ["any"]}}', {"tools", "tool_choice"}),
        (b'{"tools": [], "tool_choice": {"type": "none"}}', set()),
        (b'{"output_config": {"effort": "high"}, "output_format": {"type": "json_schema"}}', {"json_schema"}),
        (b'{"prompt": "x", "logprobs": 0}', {"logprobs"}),
        (b'{"logprobs": false, "top_logprobs": 0}', set()),
        (b'{"input": "x", "top_logprobs": 2}', {"logprobs"}),
        (b'{"input": "x", "include": ["message.output_text.logprobs"]}', {"logprobs"}),
        (b'{"input": "x", "include": ["reasoning.encrypted_content"]}', set()),
        (b'{"modalities": ["text", "audio"]}', {"audio"}),
        (b'{"modalities": ["text"]}', set()),
        (b'{"prompt": "x", "best_of": 3}', {"multiple_choices"}),
        (b'{"prompt": "x", "best_of": 1, "n": 1}', set()),
    ],
)
def test_what_a_body_needs(body, needs):
    assert peek(body).needs(body) == needs


@pytest.mark.parametrize(
    ("choice", "need"),
    [
        (b"null", "tools beside a form of JSON"),
        (b'"auto"', "tools beside a form of JSON"),
        (b'{"type":"auto"}', "tools beside a form of JSON"),
        (b'{"type":"allowed_tools","allowed_tools":{"mode":"auto"}}', "tools beside a form of JSON"),
        (b'{"type":"allowed_tools","mode":"auto"}', "tools beside a form of JSON"),
        (b'"required"', "a call in place of a form of JSON"),
        (b'{"type":"any"}', "a call in place of a form of JSON"),
        (b'{"type":"function","function":{"name":"f"}}', "a call in place of a form of JSON"),
        (b'{"type":"allowed_tools","allowed_tools":{"mode":"required"}}', "a call in place of a form of JSON"),
        (b'{"type":"allowed_tools","mode":"required"}', "a call in place of a form of JSON"),
        (b'"none"', None),
        (b'{"type":"none"}', None),
    ],
)
@pytest.mark.parametrize(
    "form",
    [
        b'"response_format":{"type":"json_object"}',
        b'"text":{"format":{"type":"json_schema"}}',
        b'"output_config":{"format":{"type":"json_schema"}}',
    ],
)
def test_tools_beside_a_form_are_told_apart_by_whether_a_call_is_demanded(choice, need, form):
    found = peek(b'{"tools":[{}],"tool_choice":%b,%b}' % (choice, form)).needs(b"")
    assert found - {"tools", "tool_choice", "json_mode", "json_schema"} == ({need} - {None})
    assert peek(b'{"tool_choice":%b,%b}' % (choice, form)).needs(b"") <= {"tool_choice", "json_mode", "json_schema"}
    assert "beside" not in str(peek(b'{"tools":[{}],"response_format":{"type":"text"}}').needs(b""))


@pytest.mark.parametrize(("thread", "needs"), [(b'{"type":"create"}', {"threads"}), (b"null", set()), (None, set())])
def test_a_thread_is_read_from_the_request(thread, needs):
    body = b"{}" if thread is None else b'{"thread":%b}' % thread
    assert peek(body).needs(body) == needs


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"model": 3}', b'{"stream": "yes"}', b"\xff"])
def test_a_body_that_is_none_is_refused_without_its_values(body):
    with pytest.raises(MalformedRequest, match="One JSON object"):
        peek(body)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "it is empty"),
        (b" \r\n", "it is empty"),
        (gzip.compress(b"{}"), "it is compressed"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        ('{"model": "a"}'.encode("utf-16"), "byte order mark"),
        (b"{'model': 'a'}", "keys must be strings"),
    ],
)
def test_a_body_that_is_no_json_is_told_what_is_the_matter_with_it(body, why):
    with pytest.raises(MalformedRequest, match=why):
        peek(body)


@pytest.mark.parametrize("coding", [b"br", b"deflate", b"gzip", b"zstd", b"GZIP, br"], ids=str)
def test_a_packed_body_is_told_that_its_encoding_is_not_taken_and_what_is(coding):
    packed = {b"gzip": gzip.compress(b"{}"), b"deflate": zlib.compress(b"{}")}.get(coding, b"\x1b\x01\x00\xf8")
    with pytest.raises(PackedBody, match=f"content-encoding '{coding.decode()}'.*identity") as caught:
        peek(packed, {b"content-encoding": coding})
    assert status_of(caught.value) == 415
    assert headers_of_error(caught.value) == [(b"accept-encoding", b"identity")]
    assert json.loads(body_of(caught.value, "openai"))["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("coding", [b"identity", b"gzip"])
def test_a_body_that_can_be_read_is_read_whatever_encoding_was_left_in_its_headers(coding):
    assert peek(b'{"model": "a"}', {b"content-encoding": coding}).model == "a"


def test_a_body_with_half_a_surrogate_pair_is_read_all_the_same():
    peeked = peek(rb'{"model":"a","messages":[{"content":"\ud83d"}],"stream":true}')
    assert (peeked.model, peeked.stream) == ("a", True)
