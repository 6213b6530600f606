from __future__ import annotations

import json

import pytest

from ownward.core import BadInput
from ownward.upstreams import splice, splicing

ODD = (
    b'{ "model" : "a",\n "messages":[{"role":"user","content":"caf\\u00e9 \xc3\xa9 \\/"}] , "x_new":'
    b' 12345678901234567890123.10e5, "stream":true }\n'
)


def test_a_body_that_needs_no_change_is_the_very_same_object():
    assert splice(ODD).body is ODD
    assert splice(ODD, model="a").body is ODD
    assert splice(b"{}").body == b"{}"


def test_only_the_model_name_changes_and_every_other_byte_stays():
    assert splice(ODD, model="other").body == ODD.replace(b'"a"', b'"other"', 1)


@pytest.mark.parametrize(("colon", "comma"), [(b":", b","), (b": ", b", "), (b": ", b","), (b" : ", b" ,\n")])
def test_however_a_client_spaces_its_members_they_stay_as_they_are(colon, comma):
    members = [b'"model"', b'"a"', b'"un\xc3\xbcsual \\" key"', b'{"model": "a","x":1}', b'"stream"', b"true"]
    body = b"{" + comma.join(colon.join(members[at : at + 2]) for at in (0, 2, 4)) + b"}"
    assert splice(body).body is body
    assert splice(body, model="bb").body == body.replace(b'"a"', b'"bb"', 1)
    asked = splice(body, model="bb", want_stream_usage=True).body
    assert asked == b'{"stream_options":{"include_usage":true},' + body.replace(b'"a"', b'"bb"', 1)[1:]


def test_a_long_body_is_spliced_as_a_short_one_is(monkeypatch):
    told = b'{"model":"a","messages":[{"role":"user","content":"' + b"word " * 40 + b'"}],"stream":true}'
    bodies = [
        told,
        told.replace(b'":', b'": ').replace(b',"', b', "'),
        told.replace(b'"stream":', b'"stream" :'),
        told.replace(b'"stream":true', b'"model":"a","stream":false,"stream":true'),
        told[:-1] + b',"messages":[]}',
        told + b" ",
        ODD,
        b'{"model":"a"}',
    ]
    short = [splice(body, model="b", want_stream_usage=True) for body in bodies]
    monkeypatch.setattr(splicing, "_LONG_BYTES", 0)
    monkeypatch.setattr(splicing, "_COMPARED_BYTES", 7)
    assert [splice(body, model="b", want_stream_usage=True) for body in bodies] == short
    assert splicing._are_all([b"ab", b"cd"], b"abcd")
    assert not any(splicing._are_all(pieces, b"abcd") for pieces in ([b"ab"], [b"abcd", b"e"], [b"abxd"], [b"abcdabc"]))


def test_usage_is_asked_for_in_streams_that_do_not_ask_themselves():
    spliced = splice(b'{"stream":true,"model":"a"}', model="b", want_stream_usage=True)
    assert spliced.body == b'{"stream_options":{"include_usage":true},"stream":true,"model":"b"}'
    assert spliced.adds_usage
    assert not spliced.asked_usage


@pytest.mark.parametrize("options", [b"null", b"{}", b'{"include_usage":false}', b'{"include_usage":null}'])
def test_usage_is_asked_for_where_the_client_declined_it(options):
    spliced = splice(b'{"stream":true,"stream_options":%b}' % options, want_stream_usage=True)
    assert json.loads(spliced.body) == {"stream": True, "stream_options": {"include_usage": True}}
    assert spliced.adds_usage


def test_other_stream_options_stay_verbatim():
    body = b'{"stream":true,"stream_options":{"later":1.50,"include_usage":false,"o":{ "p" :1}},"z":1}'
    spliced = splice(body, want_stream_usage=True)
    assert spliced.body == b'{"stream":true,"stream_options":{"later":1.50,"include_usage":true,"o":{ "p" :1}},"z":1}'


@pytest.mark.parametrize(
    ("body", "endpoint"),
    [
        (b'{"stream":true,"stream_options":{"include_usage":true}}', "chat"),
        (b'{"stream":false}', "chat"),
        (b"{}", "completions"),
        (b'{"stream":true}', "messages"),
        (b'{"stream":true}', "responses"),
        (b'{"stream":null}', "chat"),
    ],
)
def test_nothing_is_added_where_usage_comes_anyway_or_nothing_streams(body, endpoint):
    spliced = splice(body, want_stream_usage=True, endpoint=endpoint)
    assert spliced.body is body
    assert not spliced.adds_usage


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"a","max_tokens":9,"model":"b"}',
        b'{"model":"b","max_tokens":9,"model":"b"}',
        b'{"mod\\u0065l":"a","max_tokens":9,"model":"b"}',
        b'{"model":"a","max_tokens":9,"m\\u006fdel":"b"}',
        b'{"model":"bb","max_tokens":9,"model":"b"}',
        b'{"model": "bb", "max_tokens": 9, "model": "b"}',
    ],
)
def test_a_repeated_key_counts_once_and_its_last_value_is_what_the_upstream_sees(body):
    spliced = splice(body)
    assert spliced.model == "b"
    assert json.loads(spliced.body, object_pairs_hook=list) == [["model", "b"], ["max_tokens", 9]] or json.loads(
        spliced.body, object_pairs_hook=list
    ) == [("model", "b"), ("max_tokens", 9)]
    assert splice(body, model="c").body == b'{"model":"c","max_tokens":9}'


def test_a_repeated_key_is_seen_where_lengths_alone_would_fit():
    """Walked by the lengths of the last values, this body ends exactly at its brace."""
    body = b'{"a":1,"b":{"z":0,"b":      9},"a":123456789012}'
    assert splice(body).body == b'{"a":123456789012,"b":{"z":0,"b":      9}}'


def test_an_escaped_key_is_found_and_kept_as_spelled():
    assert splice(b'{"mod\\u0065l":"a"}', model="b").body == b'{"mod\\u0065l":"b"}'


def test_a_member_named_like_ours_further_down_is_left_alone():
    body = b'{"metadata":{"model":"x"},"messages":[{"model":"y"}],"model":"a"}'
    assert splice(body, model="b").body == b'{"metadata":{"model":"x"},"messages":[{"model":"y"}],"model":"b"}'


def test_a_body_without_model_gets_one_in_front():
    assert splice(b' { "n" : 2 }', model="b").body == b' {"model":"b", "n" : 2 }'
    assert splice(b"{}", model="b").body == b'{"model":"b"}'


def test_what_routing_and_charging_rest_on_is_read():
    body = b'{"model":"m","stream":true,"n":3,"max_tokens":5,"max_completion_tokens":7}'
    spliced = splice(body)
    assert (spliced.model, spliced.is_stream, spliced.choices) == ("m", True, 3)
    assert spliced.max_output_tokens == 7


@pytest.mark.parametrize(
    ("body", "choices"),
    [
        (b'{"prompt":["a","b"],"n":2}', 4),
        (b'{"prompt":["a","b"],"best_of":3,"n":2}', 6),
        (b'{"prompt":[1,2,3]}', 1),
        (b'{"prompt":[[1,2],[3]]}', 2),
        (b'{"prompt":"a"}', 1),
    ],
)
def test_every_answer_that_is_generated_is_counted(body, choices):
    assert splice(body, endpoint="completions").choices == choices


@pytest.mark.parametrize("limit", [b"null", b"-1", b"-2", b"0"])
def test_an_unlimited_limit_is_none(limit):
    assert splice(b'{"max_tokens":%b}' % limit).max_output_tokens is None


@pytest.mark.parametrize("other", [b"-1", b"0"])
def test_a_limit_beside_one_that_may_mean_no_end_bounds_nothing(other):
    assert splice(b'{"max_tokens":%b,"max_completion_tokens":9}' % other).max_output_tokens is None


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"[]", b"null", b'"a"', b"{", b'{"a":1}x', b'{"a":1', b"\xff"),
        *(b'{"model":1}', b'{"model":["canary"]}', b'{"stream":"canary"}', b'{"stream_options":[]}'),
        *(
            b'{"n":0}',
            b'{"n":1.5}',
            b'{"n":true}',
            b'{"n":"2"}',
            b'{"n":100001}',
            b'{"max_tokens":1e300}',
            b'{"max_tokens":-3}',
        ),
        *(b'{"max_tokens":99999999999999999999}', b'{"stream_options":{"include_usage":"canary"}}'),
    ],
)
def test_a_body_we_cannot_charge_for_is_refused_without_showing_it(body):
    with pytest.raises(BadInput) as refused:
        splice(body)
    assert "canary" not in str(refused.value)


def test_a_null_model_is_none():
    assert splice(b'{"model":null}').model is None
    assert splice(b'{"model":null}', model="a").body == b'{"model":"a"}'


DEEP = b"[" * 100_000 + b"]" * 100_000


@pytest.mark.parametrize("body", [b'{"messages":%b}' % DEEP, b'{"\xff":1}', b'{"model":"\xff"}'])
def test_endless_nesting_and_text_that_is_no_utf_8_are_refused(body):
    with pytest.raises(BadInput):
        splice(body)


@pytest.mark.parametrize("half", [rb"\ud83d", rb"\uDE00", rb"\ude00\ud83d", rb"\ud83d\ud83d\ude00", rb"a\\\ud800 b"])
def test_half_a_surrogate_pair_reaches_the_upstream_as_it_came(half):
    """Clients that cut texts between the halves of an emoji send one; the upstream says whether it takes it."""
    body = b'{"messages":[{"role":"user","content":"%b"}],"model":"a","stream":true}' % half
    spliced = splice(body, model="b", want_stream_usage=True)
    start = b'{"stream_options":{"include_usage":true},'
    assert spliced.body == start + body[1:].replace(b'"a"', b'"b"', 1)
    assert splice(body).body is body


def test_half_a_surrogate_pair_in_a_body_that_must_be_put_together_anew_is_refused():
    with pytest.raises(BadInput, match="twice"):
        splice(rb'{"x":"\ud800","x":1,"model":"a"}', model="b")


@pytest.mark.parametrize(("digits", "limit"), [(b"5.0", 5), (b"1e3", 1000), (b"0.0", None)])
def test_a_whole_number_may_be_spelled_with_a_point_or_an_exponent(digits, limit):
    body = b'{"model":"a","max_tokens":%b}' % digits
    assert splice(body).max_output_tokens == limit
    assert splice(body).body is body


@pytest.mark.parametrize("digits", [b"5.5", b"1e400", b"true", b'"5"', b"[5]"])
def test_what_is_no_whole_number_is_no_limit(digits):
    with pytest.raises(BadInput, match="max_tokens"):
        splice(b'{"max_tokens":%b}' % digits)


def test_a_body_has_a_thousand_members_at_most() -> None:
    members = {f"m{number}": 1 for number in range(999)} | {"model": "a"}
    assert splice(json.dumps(members).encode()).model == "a"
    with pytest.raises(BadInput, match="1001 members") as refused:
        splice(json.dumps(members | {"one": "more"}).encode())
    assert refused.value.allowed == "At most 1000"


@pytest.mark.parametrize("key", ["Model", "MAX_TOKENS", "max_to\u212aens", "\u017ftream", "N", "maX_completion_tokens"])
def test_a_member_that_a_server_in_go_reads_as_another_is_refused(key):
    """Ollama and other servers in Go take the last of `model` and `Model`: another than was asked for and charged."""
    with pytest.raises(BadInput, match="which some servers read as"):
        splice(json.dumps({"model": "a", "max_tokens": 1, "n": 1, "stream": False, key: "b"}).encode(), model="c")


def test_members_of_any_other_name_keep_their_case():
    body = b'{"model":"a","topK":5,"X-Trace":"1","\xc3\xa9t\xc3\xa9":true}'
    assert splice(body).body is body
