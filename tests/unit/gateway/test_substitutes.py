"""As what a request is asked where an upstream does not serve the client's own endpoint."""

import pytest

from ownward.gateway import peeking
from ownward.gateway.endpoints import CHAT, MESSAGES, RESPONSES
from ownward.gateway.placing.routing import compile_plan
from ownward.gateway.placing.substitutes import find_substitutes
from ownward.plan import Plan, Tier, Upstream

OPENAI = frozenset({"openai"})


@pytest.mark.parametrize("said", [b'"stop_sequences": ["x"]', b'"max_tokens": 1', b'"max_tokens":15'])
def test_what_responses_do_not_have_is_asked_for_in_chats_where_the_plan_leaves_it_to_us(said):
    """Responses take no limit below 16 tokens; coding agents try a key or a model with 1."""
    needs = peeking.peek(b'{"model": "m", %b}' % said).needs(b"")
    for stated, expected in ((None, CHAT), ("responses", RESPONSES), ("chat", CHAT)):
        upstream = Upstream(name="u", url="https://api.openai.com/v1", messages_as=stated)
        tier = Tier(name="t", kind="rented", model="m", provider="openai", region="us", upstreams=(upstream,))
        ((target,),) = compile_plan(Plan(name="p", tiers={"t": tier}, workloads={})).targets.values()
        assert target.substitute(MESSAGES, needs) is expected
        assert target.substitute(MESSAGES, frozenset()) is (CHAT if stated == "chat" else RESPONSES)
        assert target.substitute(RESPONSES, needs) is None


@pytest.mark.parametrize("said", [b'"stop_sequences": []', b'"max_tokens": 16', b'"max_tokens": null'])
def test_what_responses_have_is_no_need_of_its_own(said):
    assert not peeking.peek(b'{"model": "m", %b}' % said).needs(b"")


def substitute(url, *, messages_as=None, capabilities=(), dialect="openai", dialects=OPENAI):
    upstream = Upstream(name="u", url=url, dialect=dialect, messages_as=messages_as)
    tier = Tier(name="t", kind="rented", model="m", capabilities=frozenset(capabilities), upstreams=(upstream,))
    found = find_substitutes(tier, upstream, dialects).get("/v1/messages")
    return None if found is None else found.path


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://api.openai.com/v1", "/v1/responses"),
        ("https://API.OpenAI.com:443/v1", "/v1/responses"),
        ("https://eu.api.openai.com/v1", "/v1/responses"),
        ("https://api.openai.com.example.org/v1", "/v1/chat/completions"),
        ("https://notapi.openai.com/v1", "/v1/chat/completions"),
        ("https://name.openai.azure.com/openai/v1", "/v1/chat/completions"),
        ("https://api.example.com/v1", "/v1/chat/completions"),
    ],
)
def test_messages_are_asked_as_responses_at_openais_own_service_alone(url, expected):
    assert substitute(url) == expected


def test_the_plan_says_otherwise_where_it_states_it():
    assert substitute("https://api.example.com/v1", messages_as="responses") == "/v1/responses"
    assert substitute("https://api.openai.com/v1", messages_as="chat") == "/v1/chat/completions"


def test_a_tier_that_states_no_responses_is_asked_for_none():
    assert substitute("https://api.openai.com/v1", capabilities=("chat", "tools")) == "/v1/chat/completions"
    assert substitute("https://api.openai.com/v1", capabilities=("responses", "tools")) == "/v1/responses"


def test_an_upstream_that_speaks_the_dialect_is_asked_as_it_is():
    assert substitute("https://api.example.com", dialect="anthropic", dialects=frozenset({"anthropic"})) is None
    both = frozenset({"openai", "anthropic"})
    assert substitute("https://api.example.com/v1", messages_as="responses", dialects=both) is None


@pytest.mark.parametrize("messages_as", [None, "chat", "responses"])
@pytest.mark.parametrize("engine", ["embedded", "llama-server"])
def test_llama_cpp_is_asked_for_chats_whatever_is_wanted_and_stated(engine, messages_as):
    upstream = Upstream(name="u", url="http://127.0.0.1:1", messages_as=messages_as)
    tier = Tier(name="t", kind="owned", model="m", engine=engine, upstreams=(upstream,))
    ((target,),) = compile_plan(Plan(name="p", tiers={"t": tier}, workloads={})).targets.values()
    assert {path: endpoint.path for path, endpoint in target.substitutes.items()} == {
        "/v1/messages": "/v1/chat/completions",
        "/v1/messages/count_tokens": "/v1/chat/completions/input_tokens",
        "/v1/responses": "/v1/chat/completions",
    }
