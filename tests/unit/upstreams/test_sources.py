"""The pages that an answer cites: models that search tell them without being asked."""

from __future__ import annotations

import json

import pytest

from ownward.upstreams.translation import UntranslatableAnswer, translate

ASKED = {
    "messages": {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}]},
    "responses": {"model": "m", "input": "x"},
}
CITED = {"url": "https://example.com/a", "title": "A", "start_index": 3, "end_index": 8}
ANNOTATIONS = [
    {"type": "url_citation", "url_citation": CITED},
    {"type": "url_citation", "url_citation": {"url": "https://example.com/b"}},
    {"type": "file_citation", "file_citation": {"file_id": "f"}},
    "no annotation",
]
OF_RESPONSE = [
    {"type": "url_citation", **CITED},
    {"type": "url_citation", "url": "https://example.com/b", "title": "", "start_index": 0, "end_index": 0},
]
IT_IS = "It is sunny."


def made(client, **more):
    return translate(json.dumps(ASKED[client] | more).encode(), client=client, upstream="chat")


def answer(message):
    return json.dumps({"id": "i", "model": "m", "choices": [{"message": message, "finish_reason": "stop"}]}).encode()


def events(client, deltas):
    stream = made(client, stream=True).stream(now_s=1)
    chunks = b"".join(
        b"data: %b\n\n" % json.dumps({"id": "i", "model": "m", "choices": [{"index": 0, "delta": delta}]}).encode()
        for delta in deltas
    )
    told = stream.feed(chunks + b"data: [DONE]\n\n") + stream.finish()
    return [json.loads(event.partition("data: ")[2]) for event in told.decode().split("\n\n") if "data: " in event]


def test_a_response_has_them_at_its_text_whole_and_streamed():
    message = {"content": IT_IS, "annotations": ANNOTATIONS}
    whole = json.loads(made("responses").answer(answer(message), now_s=1))
    (item,) = whole["output"]
    assert item["content"][0]["annotations"] == OF_RESPONSE
    told = events("responses", [{"content": "It is "}, {"content": "sunny.", "annotations": ANNOTATIONS}])
    added = [event for event in told if event["type"] == "response.output_text.annotation.added"]
    assert [event["annotation"] for event in added] == OF_RESPONSE
    assert [event["annotation_index"] for event in added] == [0, 1]
    assert told[-1]["response"]["output"][0]["content"] == item["content"]


def test_a_message_has_them_at_its_block_whole_and_streamed_and_may_send_them_back():
    message = {"content": IT_IS, "annotations": ANNOTATIONS}
    (block,) = json.loads(made("messages").answer(answer(message), now_s=1))["content"]
    assert [(found["url"], found["title"], found["cited_text"]) for found in block["citations"]] == [
        ("https://example.com/a", "A", "is su"),
        ("https://example.com/b", "", ""),
    ]
    told = events("messages", [{"content": IT_IS}, {"annotations": ANNOTATIONS}])
    deltas = [event["delta"] for event in told if event["type"] == "content_block_delta"]
    assert [delta["citation"]["url"] for delta in deltas if delta["type"] == "citations_delta"] == [
        "https://example.com/a",
        "https://example.com/b",
    ]
    back = ASKED["messages"]["messages"]
    back = [*back, {"role": "assistant", "content": [block]}, {"role": "user", "content": "and?"}]
    again = made("messages", messages=back)
    assert again.dropped == ("messages[1].content[0].citations",)
    assert json.loads(again.body)["messages"][1] == {"role": "assistant", "content": IT_IS}


@pytest.mark.parametrize("client", ["messages", "responses"])
def test_an_answer_without_any_is_as_before(client):
    plain = made(client).answer(answer({"content": IT_IS}), now_s=1)
    assert made(client).answer(answer({"content": IT_IS, "annotations": []}), now_s=1) == plain


@pytest.mark.parametrize("client", ["messages", "responses"])
def test_pictures_that_a_model_made_are_not_left_out_without_a_word(client):
    pictures = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]
    with pytest.raises(UntranslatableAnswer, match="images"):
        made(client).answer(answer({"content": "here", "images": pictures}), now_s=1)
    with pytest.raises(UntranslatableAnswer, match="images"):
        events(client, [{"content": "here", "images": pictures}])


@pytest.mark.parametrize("upstream", ["chat", "messages"])
def test_how_closely_a_picture_is_looked_at_is_carried_where_there_is_a_word_for_it(upstream):
    part = {"type": "input_image", "detail": "high", "image_url": "data:image/png;base64,AA=="}
    body = {"model": "m", "max_output_tokens": 5, "input": [{"role": "user", "content": [part]}]}
    crossed = translate(json.dumps(body).encode(), client="responses", upstream=upstream)
    assert (b'"detail":"high"' in crossed.body) is (upstream == "chat")
    assert crossed.dropped == (() if upstream == "chat" else ("input[0].content[0].detail",))


PAGE = {"type": "web_search_result_location", "url": "https://example.com/a", "title": "A", "cited_text": "x"}
PLACE = {"type": "char_location", "document_index": 0, "cited_text": "x"}
BLOCKS = [{"type": "text", "text": "So: "}, {"type": "text", "text": "sunny.", "citations": [PAGE, PLACE]}]


@pytest.mark.parametrize("client", ["chat", "responses"])
def test_pages_that_a_message_cites_are_told_in_openais_dialects(client):
    asked = {"chat": {"messages": [], "max_tokens": 5}, "responses": {"input": "x", "max_output_tokens": 5}}[client]

    def crossed(**more):
        return translate(json.dumps({"model": "m", **asked, **more}).encode(), client=client, upstream="messages")

    whole = {"type": "message", "id": "m", "content": BLOCKS, "stop_reason": "end_turn", "usage": {"input_tokens": 1}}
    told = json.loads(crossed().answer(json.dumps(whole).encode(), now_s=1))
    if client == "chat":
        (found,) = told["choices"][0]["message"]["annotations"]
        cited = found["url_citation"]
        content = told["choices"][0]["message"]["content"]
    else:
        first, second = told["output"][0]["content"]
        assert first["annotations"] == []
        (cited,) = second["annotations"]
        content = second["text"]
    assert (cited["url"], cited["title"]) == ("https://example.com/a", "A")
    assert content[cited["start_index"] : cited["end_index"]] == "sunny."
    events = [{"type": "message_start", "message": {"id": "m", "usage": {"input_tokens": 1}}}]
    events += [{"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "sunny."}}]
    events += [
        {"type": "content_block_delta", "index": 0, "delta": {"type": "citations_delta", "citation": citation}}
        for citation in (PAGE, PLACE)
    ]
    stream = crossed(stream=True).stream(now_s=1)
    body = b"".join(b"data: %b\n\n" % json.dumps(event).encode() for event in [*events, {"type": "message_stop"}])
    told = stream.feed(body) + stream.finish()
    assert told.count(b"https://example.com/a") == (1 if client == "chat" else 4)  # told, done, in its item, in all
