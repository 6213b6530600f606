"""Bodies of JSON written anew."""

from ownward.gateway import json_body


def test_json_that_utf_8_cannot_spell_is_escaped_and_other_text_is_not():
    assert json_body.write({"a": "é"}) == '{"a": "é"}'.encode()
    assert json_body.write({"a": "\ud83d"}) == rb'{"a": "\ud83d"}'


def test_a_member_of_a_member_is_left_out_by_itself():
    body = b'{"model":"m","reasoning":{"effort":"none","summary":"auto"}}'
    without = json_body.without_member(body, "reasoning.summary")
    assert without == b'{"model":"m","reasoning":{"effort":"none"}}'
    assert json_body.without_member(without, "reasoning.effort") == b'{"model":"m"}'
    assert json_body.without_member(body, "include.a") == body
