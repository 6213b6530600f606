"""Anthropic's coding agent begins each system prompt with a line for Anthropic's accounts, another in each request.

Behind it no engine's cache of a prompt's beginning serves anything.
"""

import asyncio
import json

import pytest

from ownward.engines import FakeServer
from ownward.plan import Upstream
from ownward.traffic import Sketcher
from ownward.upstreams.translation import translate

MESSAGES = "/v1/messages"
PROMPT = "You are an agent that writes code. " * 100


def line(mark):
    return f"x-anthropic-billing-header: cc_version=2.1.117.48f; cc_entrypoint=cli; cch={mark};"


def blocks(mark, *, rest=PROMPT):
    return [
        {"type": "text", "text": line(mark)},
        {"type": "text", "text": rest, "cache_control": {"type": "ephemeral"}},
    ]


def asked(mark, *turns, system=None):
    messages = [{"role": "user", "content": "fix the tests"}, *turns]
    return {"model": "chat", "max_tokens": 64, "system": system or blocks(mark), "messages": messages}


@pytest.mark.parametrize("upstream", ["chat", "responses"])
@pytest.mark.parametrize("form", [blocks, lambda mark: f"{line(mark)}\n{PROMPT}"])
def test_no_other_provider_is_told_it_and_it_is_named(upstream, form):
    made = [
        translate(json.dumps(asked(mark, system=form(mark))).encode(), client="messages", upstream=upstream)
        for mark in ("fa690", "0aaa9")
    ]
    assert made[0].body == made[1].body
    assert PROMPT.encode() in made[0].body
    assert b"billing" not in made[0].body
    assert made[0].dropped[0].startswith("system")


def test_a_prompt_of_nothing_else_is_none_and_words_about_it_stay():
    body = asked("fa690", system=line("fa690"))
    made = translate(json.dumps(body).encode(), client="messages", upstream="chat")
    assert [message["role"] for message in json.loads(made.body)["messages"]] == ["user"]
    said = f"What is {line('fa690')}"
    body = asked("fa690", {"role": "user", "content": line("a")}, system=said)
    made = translate(json.dumps(body).encode(), client="messages", upstream="chat")
    system, *_, last = json.loads(made.body)["messages"]
    assert (system["content"], last["content"], made.dropped) == (said, line("a"), ())


def test_anthropics_own_dialect_passes_as_it_is_and_a_conversation_stays_where_it_is_cached(lab, start):
    """vLLM, which answers messages itself, leaves the line out of what it reads."""

    async def main():
        async with FakeServer() as one, FakeServer() as two:
            fakes = {"u0": one, "u1": two}
            upstreams = tuple(Upstream(name=name, url=fake.base_url) for name, fake in fakes.items())
            tier = lab.tier("own", "", kind="owned", engine="vllm", upstreams=upstreams)
            async with start(lab.plan_of(tier)) as running:
                for who in ("ada", "ben"):
                    went, turns = [], []
                    for mark in ("fa690", "0aaa9", "36ee5"):
                        body = asked(mark, *turns, system=blocks(mark, rest=f"you help {who}. {PROMPT}"))
                        answer = await running.ask(MESSAGES, body)
                        assert answer.status == 200
                        assert "x-ownward-translated" not in answer.headers
                        went.append(answer.headers["x-ownward-upstream"])
                        turns += [{"role": "assistant", "content": "done"}, {"role": "user", "content": "go on"}]
                    assert went == [{"ada": "u0", "ben": "u1"}[who]] * 3

    asyncio.run(main())


def test_an_agents_requests_have_one_fingerprint():
    sketcher = Sketcher()
    prints = {sketcher.fingerprint(asked(mark)) for mark in ("fa690", "0aaa9", "eb6c6")}
    assert len(prints) == 1
    assert sketcher.fingerprint(asked("fa690", system=blocks("fa690", rest="You translate."))) not in prints
