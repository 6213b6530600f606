"""The tables of translation: they miss no member of the published types, and the words above them hold."""

from __future__ import annotations

import typing

import pytest
from openai.types.chat import completion_create_params
from openai.types.responses import response_create_params
from scripts.translation_table import MEMBERS, PAIRS, PARTS, outcome_of

OPENAI = {
    "chat": completion_create_params.CompletionCreateParamsStreaming,
    "responses": response_create_params.ResponseCreateParamsStreaming,
}


@pytest.mark.parametrize("client", OPENAI)
def test_the_tables_know_every_member_of_openais_types(client):
    assert set(typing.get_type_hints(OPENAI[client])) <= set(MEMBERS[client])


def test_the_tables_know_every_member_of_anthropics_types():
    types = pytest.importorskip("anthropic.types.message_create_params")
    assert set(typing.get_type_hints(types.MessageCreateParamsStreaming)) <= set(MEMBERS["messages"])
    betas = pytest.importorskip("anthropic.types.beta.message_create_params")
    in_a_header = {"betas", "user_profile_id", "workspace_id"}
    of_body = set(typing.get_type_hints(betas.MessageCreateParamsStreaming)) - in_a_header
    assert of_body <= set(MEMBERS["messages"])


@pytest.mark.parametrize(("client", "upstream"), PAIRS)
def test_no_member_is_silently_lost(client, upstream):
    """Whatever changes the meaning of a request is carried, named as left out, or refused."""
    means_nothing = {
        ("chat", "frequency_penalty", 0),
        ("chat", "presence_penalty", 0),
        ("chat", "n", 1),
        ("messages", "speed", "standard"),
        ("responses", "truncation", "disabled"),
    }
    silent = [
        (client, member, sample)
        for member, samples in MEMBERS[client].items()
        for sample in samples
        if outcome_of(client, upstream, member, sample) == "the same as without it"
    ]
    harmless = (
        False,
        True,
        "auto",
        ["text"],
        {"type": "text"},
        {"include_usage": True},
        {"type": "adaptive"},
        {"type": "adaptive", "display": "summarized"},  # chat upstreams tell what they think, or do not
        {"type": "billing_policy", "bill_to": "self"},
        ["reasoning.encrypted_content"],
        "hello",
        "medium",
    )
    assert [found for found in silent if found[2] not in harmless and found not in means_nothing] == []


def test_every_part_of_the_page_is_carried_or_refused():
    for client, upstream in PAIRS:
        holder = "input" if client == "responses" else "messages"
        for name, content in PARTS[client].items():
            assert outcome_of(client, upstream, holder, content).startswith(("carried", "refused: ")), name
