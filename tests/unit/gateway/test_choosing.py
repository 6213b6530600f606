"""Where a request goes and why, without a socket."""

import asyncio
import dataclasses
import json
from datetime import date
from decimal import Decimal

import pytest

from ownward.core import PolicyRefusal, RateLimited
from ownward.gateway.calling.translating import RequestTranslations
from ownward.gateway.endpoints import CHAT, COUNT_TOKENS, EMBEDDINGS, MESSAGES, RESPONSES
from ownward.gateway.errors import Incapable, NoUpstream, OutOfScope, Threadless, UnknownRoute
from ownward.gateway.placing.breaker import CLOSED, BreakerRules
from ownward.gateway.placing.choice import Asked, Found, KeyScope
from ownward.gateway.placing.choosing import choose
from ownward.gateway.placing.engine_address import EngineAddress
from ownward.gateway.placing.routing import compile_plan
from ownward.plan import Budget, Match, Plan, Strategy, Tier, Upstream, Workload
from ownward.policy import ANY, LOCAL_ONLY, Label
from ownward.pricing import Price

EU = Label.parse("eu")
AT_P = Label.parse("provider:p")
OPEN = CLOSED.after_failure(0.0, BreakerRules(failures=1, wait_s=60.0))


def owned(name, **more):
    return Tier(
        name=name,
        kind="owned",
        model=f"{name}-model",
        engine=more.pop("engine", "adopted"),
        upstreams=(Upstream(name="here", url="http://127.0.0.1:8001"),),
        **more,
    )


def rented(name, *, upstreams=1, dialect="openai", **more):
    return Tier(
        name=name,
        kind="rented",
        model=more.pop("model", f"{name}-model"),
        provider="p",
        region=more.pop("region", "eu"),
        upstreams=tuple(
            Upstream(name=f"u{index}", url=f"https://{name}{index}.example.com/v1", dialect=dialect)
            for index in range(upstreams)
        ),
        **more,
    )


def workload(name, *tiers, label=ANY, **match):
    return Workload(
        name=name,
        match=Match(**match),
        strategy=Strategy(kind="direct", tiers=tiers[:1]),
        fallback=tiers[1:],
        label=label,
    )


def table_of(*tiers, workloads=(), default_label=None, **more):
    plan = Plan(
        name="p",
        default_label=default_label,
        tiers={tier.name: tier for tier in tiers},
        workloads={each.name: each for each in workloads},
    )
    return compile_plan(plan, **more)


def pick(
    table, model="w", *, breakers=None, in_flight=None, peer_load=None, full=(), now_s=1.0, endpoint=CHAT, **asked
):
    return choose(
        Asked(endpoint=endpoint, model=model, **asked),
        table,
        breakers=breakers or {},
        in_flight=in_flight or {},
        peer_load=peer_load or {},
        full_tiers=full,
        now_s=now_s,
    )


def keys(choice):
    return [target.key for target in choice.targets]


def test_the_strategys_tier_comes_first_then_the_fallback_in_order():
    table = table_of(owned("a"), rented("b"), rented("c"), workloads=[workload("w", "b", "a", "c")])
    choice = pick(table)
    assert keys(choice) == ["b/u0", "a/here", "c/u0"]
    assert choice.reason == "workload w (by model name); label any (the workload's); first b/u0 of 3"


def test_what_is_chosen_while_all_is_well_is_not_worked_out_again():
    table = table_of(owned("a"), rented("b"), workloads=[workload("w", "b", "a")])
    assert pick(table) is pick(table)


def test_what_is_chosen_while_all_is_well_does_not_hold_once_something_is_down_or_full():
    table = table_of(owned("a"), rented("b", max_concurrency=1), workloads=[workload("w", "b", "a")])
    assert keys(pick(table)) == ["b/u0", "a/here"]
    assert keys(pick(table, breakers={"b/u0": OPEN})) == ["a/here"]
    assert keys(pick(table, full={"b"})) == ["a/here"]
    assert keys(pick(table)) == ["b/u0", "a/here"]


def test_what_is_chosen_while_something_is_down_does_not_hold_once_all_is_well():
    table = table_of(owned("a"), rented("b"), workloads=[workload("w", "b", "a")])
    assert keys(pick(table, breakers={"b/u0": OPEN})) == ["a/here"]
    assert keys(pick(table)) == ["b/u0", "a/here"]


@pytest.mark.parametrize(
    "other",
    [
        {"label": LOCAL_ONLY},
        {"inherited": LOCAL_ONLY},
        {"key": KeyScope(key_id="k", label=LOCAL_ONLY)},
        {"key": KeyScope(key_id="k", tiers=frozenset({"a"}))},
        {"found": (Found(name="email", label=LOCAL_ONLY),)},
        {"tier": "a"},
    ],
)
def test_what_was_chosen_for_one_request_is_not_given_to_another_that_may_go_elsewhere(other):
    table = table_of(owned("a"), rented("b"), workloads=[workload("w", "b", "a")])
    assert keys(pick(table)) == ["b/u0", "a/here"]
    assert keys(pick(table, **other)) == ["a/here"]
    assert keys(pick(table)) == ["b/u0", "a/here"]


def test_upstreams_of_one_tier_are_ordered_anew_for_each_request():
    table = table_of(rented("b", upstreams=2), workloads=[workload("w", "b")])
    assert keys(pick(table)) == ["b/u0", "b/u1"]
    assert keys(pick(table, in_flight={"b/u0": 1})) == ["b/u1", "b/u0"]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"workload": "by_header", "model": "by_name"}, "by_header"),
        ({"model": "by_name"}, "by_name"),
        ({"model": "gpt-5"}, "by_model"),
        ({"model": "gpt-6"}, "by_pattern"),
        ({"model": "x", "headers": {"x-team": "search"}}, "by_team"),
        ({"model": "x", "metadata": {"app": "bot-7"}}, "by_app"),
        ({"model": "x", "key": KeyScope(key_id="key_1")}, "by_key"),
        ({"model": "x", "fingerprint": "f1"}, "by_fingerprint"),
    ],
)
def test_a_workload_is_found_by_what_it_declares(asked, expected):
    table = table_of(
        owned("a"),
        workloads=[
            workload("by_header", "a", models=("never",)),
            workload("by_name", "a", models=("nothing",)),
            workload("by_model", "a", models=("gpt-5",)),
            workload("by_pattern", "a", models=("gpt-*",)),
            workload("by_team", "a", headers={"X-Team": "search"}),
            workload("by_app", "a", metadata={"app": "bot-*"}),
            workload("by_key", "a", keys=("key_1",)),
            workload("by_fingerprint", "a", fingerprints=("f1",)),
        ],
    )
    assert pick(table, **asked).workload == expected


def test_a_model_may_name_a_tier_or_a_tiers_model():
    table = table_of(owned("a"), rented("b", model="shared"), rented("c", model="shared"), default_label=ANY)
    assert keys(pick(table, "a")) == ["a/here"]
    assert keys(pick(table, "shared")) == ["b/u0", "c/u0"]
    assert pick(table, "a", workload="mine").workload == "mine"
    assert pick(table, "a").workload == "unassigned"


def test_a_name_nobody_has_is_refused_with_the_closest():
    table = table_of(owned("chatty"), workloads=[workload("chat", "chatty", models=("chat",))])
    with pytest.raises(UnknownRoute, match="Closest: 'chatty', 'chat'"):
        pick(table, "chatt")
    with pytest.raises(UnknownRoute, match="names no model"):
        pick(table, "")


@pytest.mark.parametrize("catches", [True, False])
@pytest.mark.parametrize("model", ["gpt-5", "a", "patients", "anything"])
@pytest.mark.parametrize("tier", [None, "b"])
def test_a_header_that_names_no_workload_is_refused_whatever_else_would_serve_the_request(model, tier, catches):
    """One letter too few must not lead past the workload that was meant, to a wider label."""
    stated = [
        workload("patients", "a", label=LOCAL_ONLY, models=("patients",)),
        workload("chat", "b", models=("gpt-*",)),
        *([workload("rest", "b")] if catches else []),
    ]
    table = table_of(owned("a"), rented("b"), workloads=stated, default_label=ANY)
    with pytest.raises(UnknownRoute, match=r"x-ownward-workload names 'patient', .* Closest: 'patients'"):
        pick(table, model, tier=tier, workload="patient")
    assert pick(table, model, workload="patients").label == LOCAL_ONLY


def test_a_key_that_is_scoped_to_a_workloads_name_may_state_it_without_the_plan():
    chat, rest = workload("chat", "a", models=("chat",)), workload("rest", "a")
    table = table_of(owned("a"), workloads=[chat, rest])
    key = KeyScope(key_id="k", workloads=frozenset({"nightly"}))
    assert pick(table, "whatever", workload="nightly", key=key).workload == "nightly"
    with pytest.raises(OutOfScope, match=r"'nightlyy'.* It may use nightly"):
        pick(table, "whatever", workload="nightlyy", key=key)


@pytest.mark.parametrize(
    ("stated", "key"),
    [
        ((), None),
        ([workload("chat", "b", models=("chat",))], KeyScope(key_id="k", workloads=frozenset({"nightly"}))),
    ],
    ids=["of a plan without workloads", "that the key is scoped to"],
)
def test_a_workload_of_a_clients_own_has_the_plans_label(stated, key):
    table = table_of(owned("a"), rented("b", model="a-model"), workloads=stated, default_label=LOCAL_ONLY)
    choice = pick(table, "a-model", workload="nightly", key=key)
    assert (choice.workload, choice.label) == ("nightly", LOCAL_ONLY)
    assert {target.tier.name for target in choice.targets} == {"a"}


@pytest.mark.parametrize("scope", [{"tiers": frozenset({"a"})}, {"label": LOCAL_ONLY}])
def test_a_workload_that_nobody_has_is_refused_with_those_that_the_key_may_use(scope):
    table = table_of(
        owned("a"),
        rented("b"),
        workloads=[workload("near", "a", models=("near",)), workload("far", "b", models=("far",))],
    )
    with pytest.raises(UnknownRoute) as refused:
        pick(table, "near", workload="zzz", key=KeyScope(key_id="k", **scope))
    assert "'near'" in refused.value.message + str(refused.value.allowed)
    assert "far" not in str(refused.value)


def test_a_header_narrows_to_one_tier_and_policy_still_holds():
    table = table_of(owned("a"), rented("b"), workloads=[workload("w", "a", label=LOCAL_ONLY)])
    assert keys(pick(table, tier="a")) == ["a/here"]
    with pytest.raises(PolicyRefusal):
        pick(table, tier="b")
    with pytest.raises(UnknownRoute):
        pick(table, tier="c")


def test_a_catch_all_keeps_the_name_that_a_request_states():
    table = table_of(owned("a"), workloads=[workload("default", "a")])
    assert pick(table, "whatever", workload="billing").workload == "billing"
    assert pick(table, "whatever").workload == "default"


@pytest.mark.parametrize(
    ("stated", "key", "header", "expected", "who"),
    [
        (ANY, None, None, "any", "the workload's"),
        (EU, None, ANY, "eu", "the workload's"),
        (ANY, EU, None, "eu", "the workload's, shrunk by the key"),
        (ANY, None, EU, "eu", "the workload's, shrunk by the request's header"),
        (ANY, EU, AT_P, "eu+provider:p", "the workload's, shrunk by the key, shrunk by the request's header"),
    ],
)
def test_the_label_is_what_all_allow(stated, key, header, expected, who):
    table = table_of(rented("b"), workloads=[workload("w", "b", label=stated)])
    scope = None if key is None else KeyScope(key_id="k", label=key)
    choice = pick(table, key=scope, label=header)
    assert str(choice.label) == expected
    assert f"label {expected} ({who})" in choice.reason


def test_the_refusal_of_a_label_names_the_line_to_write():
    table = table_of(rented("b"), workloads=[workload("w", "b", label=LOCAL_ONLY, models=("w",))])
    with pytest.raises(PolicyRefusal) as refused:
        pick(table)
    assert (
        refused.value.next_step
        == 'Nothing was sent. If the data may go there, write in the plan: [workloads.w] label = "eu"'
    )
    with pytest.raises(PolicyRefusal, match='default_label = "eu"'):
        pick(table, "b")


def test_what_a_tier_does_not_state_it_can_do_it_is_not_asked():
    plain = rented("plain", capabilities=frozenset({"chat"}))
    able = rented("able", capabilities=frozenset({"chat", "tools", "embeddings"}))
    table = table_of(plain, able, workloads=[workload("w", "plain", "able")])
    choice = pick(table, needs=frozenset({"tools"}))
    assert keys(choice) == ["able/u0"]
    assert "left out: plain lacks tools" in choice.reason
    assert keys(pick(table, endpoint=EMBEDDINGS)) == ["able/u0"]
    with pytest.raises(Incapable, match="plain lacks vision; able lacks vision"):
        pick(table, needs=frozenset({"vision"}))
    with pytest.raises(Incapable, match="its capabilities are stated without embeddings"):
        pick(table_of(plain, workloads=[workload("w", "plain")]), endpoint=EMBEDDINGS)


def test_a_tier_that_states_nothing_is_not_filtered():
    table = table_of(rented("b"), workloads=[workload("w", "b")])
    assert keys(pick(table, needs=frozenset({"vision", "tools"}))) == ["b/u0"]


def test_an_upstream_of_another_dialect_is_asked_in_it_where_it_has_words_for_the_endpoint():
    table = table_of(
        rented("o"), rented("n", dialect="anthropic"), owned("both", engine="llama-server"),
        workloads=[workload("w", "o", "n", "both"), workload("only", "o", models=("only",))],
    )  # fmt: skip
    assert keys(pick(table)) == ["o/u0", "n/u0", "both/here"]
    assert keys(pick(table, endpoint=MESSAGES)) == ["o/u0", "n/u0", "both/here"]
    assert keys(pick(table, endpoint=EMBEDDINGS)) == ["o/u0", "both/here"]
    with pytest.raises(Incapable, match="o speaks openai only"):
        pick(table, "only", endpoint=COUNT_TOKENS)


def test_tokens_are_counted_by_engines_that_count_and_by_servers_that_the_plan_says_do():
    table = table_of(
        owned("s", engine="sglang"), owned("a", engine="adopted", capabilities=("chat", "count_tokens")),
        owned("n", engine="adopted", capabilities=("chat",)), rented("o"), rented("t", capabilities=("count_tokens",)),
        workloads=[workload("w", "s", "a", "n", "o", "t")],
    )  # fmt: skip
    counted = pick(table, endpoint=COUNT_TOKENS)
    assert keys(counted) == ["s/here", "a/here"]
    assert all(target.substitute(COUNT_TOKENS, frozenset()) is None for target in counted.targets)
    assert "n speaks openai only" in counted.reason
    assert keys(pick(table, endpoint=MESSAGES))[0] == "s/here"


def test_a_request_that_another_dialect_has_no_words_for_goes_to_a_tier_that_speaks_its_own():
    table = table_of(
        rented("n", dialect="anthropic"), rented("o"),
        workloads=[workload("w", "n", "o"), workload("only", "n", models=("only",))],
    )  # fmt: skip
    body = b'{"model": "w", "max_tokens": 5, "messages": [], "seed": 1, "n": 2}'
    translations = RequestTranslations(CHAT, lambda _: body)
    choice = pick(table, why_untranslatable=translations.why_untranslatable)
    assert keys(choice) == ["o/u0"]
    assert "left out: n is asked in another dialect, with no words for n (" in choice.reason
    with pytest.raises(Incapable, match=r"no words for n \(.*; seed \(") as refused:
        pick(table, "only", why_untranslatable=translations.why_untranslatable)
    assert refused.value.field == "n"
    assert refused.value.next_step.startswith("Leave out n, seed,")


def test_a_tier_that_cannot_read_the_reasoning_of_the_running_turn_comes_last_and_alone_is_refused():
    """It is asked without it where all others fail; what else it has no words for leaves it out all the same."""
    table = table_of(
        rented("o"),
        rented("n", dialect="anthropic"),
        workloads=[workload("w", "o", "n"), workload("only", "o", models=("only",))],
    )
    thought = {"type": "redacted_thinking", "data": "x"}
    call = {"type": "tool_use", "id": "c", "name": "f", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "c", "content": "r"}
    asked = {
        "model": "w", "max_tokens": 64, "tools": [{"name": "f", "input_schema": {"type": "object"}}],
        "messages": [
            {"role": "user", "content": "q"}, {"role": "assistant", "content": [thought, call]},
            {"role": "user", "content": [result]},
        ],
    }  # fmt: skip

    def translations(**more):
        body = json.dumps(asked | more).encode()
        return RequestTranslations(MESSAGES, lambda _: body), body

    made, body = translations()
    choice = pick(table, endpoint=MESSAGES, why_untranslatable=made.why_untranslatable)
    assert keys(choice) == ["n/u0", "o/u0"]
    assert "last: o, which cannot read the reasoning of this turn" in choice.reason
    translated = asyncio.run(made.translate(choice.targets[1], body))
    assert translated.dropped == ("messages[1].content[0]",)
    assert json.loads(translated.body)["messages"][1]["tool_calls"][0]["id"] == "c"
    with pytest.raises(Incapable, match=r"messages\[1\].content\[0\] \(only the provider"):
        pick(table, "only", endpoint=MESSAGES, why_untranslatable=made.why_untranslatable)
    assert keys(
        pick(table, endpoint=MESSAGES, why_untranslatable=translations(speed="fast")[0].why_untranslatable)
    ) == ["n/u0"]


def test_a_thread_is_opened_only_where_every_tier_that_could_serve_the_request_holds_it():
    """Else the next request, which says what is new alone, would be bound to one tier, or lose what was said before."""
    table = table_of(
        rented("n", dialect="anthropic"), rented("m", dialect="anthropic"), rented("o"), owned("e", engine="vllm"),
        rented("text", capabilities=("chat",)),
        workloads=[
            workload("held", "n", "m", models=("held",)), workload("owned", "n", "e", models=("owned",)),
            workload("other", "n", "o", models=("other",)), workload("tools", "n", "text", models=("tools",)),
        ],
    )  # fmt: skip
    threads = frozenset({"threads"})
    assert keys(pick(table, "held", endpoint=MESSAGES, needs=threads)) == ["n/u0", "m/u0"]
    assert keys(pick(table, "tools", endpoint=MESSAGES, needs=threads | {"tools"})) == ["n/u0"]
    for name, tier in (("owned", "e"), ("other", "o"), ("tools", "text")):
        with pytest.raises(Threadless, match=f"tier '{tier}' of workload '{name}' holds none"):
            pick(table, name, endpoint=MESSAGES, needs=threads)
        assert pick(table, name, endpoint=CHAT, needs=threads)  # a member of another dialect, which passes


def test_nothing_is_translated_for_a_tier_behind_one_that_speaks_the_clients_dialect():
    table = table_of(rented("o"), rented("n", dialect="anthropic"), workloads=[workload("w", "o", "n")])
    assert keys(pick(table, why_untranslatable=lambda target: pytest.fail(f"{target.key} was looked at"))) == [
        "o/u0",
        "n/u0",
    ]


def test_a_tier_that_states_chat_and_not_responses_is_asked_for_chat():
    table = table_of(
        rented("o", capabilities=frozenset({"chat"})), rented("r", capabilities=frozenset({"responses"})),
        rented("e", capabilities=frozenset({"embeddings"})), workloads=[workload("w", "o", "r", "e")],
    )  # fmt: skip
    choice = pick(table, endpoint=RESPONSES)
    assert keys(choice) == ["o/u0", "r/u0"]
    assert [RESPONSES.path in target.substitutes for target in choice.targets] == [True, False]


def test_a_key_may_be_limited_to_workloads_and_tiers():
    table = table_of(owned("a"), rented("b"), workloads=[workload("w", "a", "b")])
    assert keys(pick(table, key=KeyScope(key_id="k", tiers=frozenset({"b"})))) == ["b/u0"]
    with pytest.raises(OutOfScope, match="may not use the workload 'w'"):
        pick(table, key=KeyScope(key_id="k", workloads=frozenset({"v"})))
    with pytest.raises(OutOfScope, match="may not use the tier"):
        pick(table, key=KeyScope(key_id="k", tiers=frozenset({"z"})))


def test_a_key_of_a_workload_names_no_tier_that_the_workload_lacks_unless_its_scope_does():
    table = table_of(
        owned("a"), rented("b"), rented("c"), workloads=[workload("w", "a", "b"), workload("v", "c", models=("v",))]
    )
    of_w = KeyScope(key_id="k", workloads=frozenset({"w"}))
    assert keys(pick(table, "w", tier="b", key=of_w)) == ["b/u0"]
    with pytest.raises(OutOfScope, match=r"may not use the tier 'c'\. It may use a, b"):
        pick(table, "w", tier="c", key=of_w)
    with pytest.raises(UnknownRoute) as unknown:
        pick(table, "w", tier="cc", key=of_w)
    assert "'c'" not in str(unknown.value)
    with_c = KeyScope(key_id="k", workloads=frozenset({"w"}), tiers=frozenset({"c"}))
    assert keys(pick(table, "w", tier="c", key=with_c)) == ["c/u0"]
    assert keys(pick(table, "w", tier="c", key=KeyScope(key_id="k"))) == ["c/u0"]


def test_what_is_down_or_full_is_passed_over_and_named():
    table = table_of(owned("a"), rented("b"), rented("c"), workloads=[workload("w", "a", "b", "c")])
    choice = pick(table, breakers={"a/here": OPEN}, full={"b"})
    assert keys(choice) == ["c/u0"]
    assert choice.reason.endswith("; down: a/here, b (full)")


def test_with_everything_down_it_says_when_to_come_back():
    table = table_of(rented("b"), workloads=[workload("w", "b")])
    with pytest.raises(NoUpstream) as none_up:
        pick(table, breakers={"b/u0": CLOSED.after_unpaid(0.0, BreakerRules())}, now_s=2.0)
    assert none_up.value.retry_after_s == 3.0
    with pytest.raises(NoUpstream) as just_failed:
        pick(table, breakers={"b/u0": OPEN}, now_s=0.2)
    assert just_failed.value.retry_after_s == 1.0


def test_where_every_upstream_asks_to_wait_the_client_is_told_so():
    table = table_of(rented("b", upstreams=2), workloads=[workload("w", "b")])
    waiting = CLOSED.after_request_to_wait(0.0, 60.0, BreakerRules())
    with pytest.raises(RateLimited, match="asks to wait") as limited:
        pick(table, breakers={"b/u0": waiting, "b/u1": waiting}, now_s=20.0)
    assert limited.value.retry_after_s == 40.0
    assert limited.value.next_step == "Try again in 40 s; nothing was sent and nothing charged"
    with pytest.raises(NoUpstream):
        pick(table, breakers={"b/u0": waiting, "b/u1": OPEN}, now_s=0.2)


def test_what_failed_is_tried_all_the_same_where_nothing_else_is_left():
    table = table_of(rented("b", upstreams=2), workloads=[workload("w", "b")])
    choice = pick(table, breakers={"b/u0": OPEN, "b/u1": OPEN}, now_s=20.0)
    assert (keys(choice), choice.is_last_resort) == (["b/u0", "b/u1"], True)
    assert choice.reason.endswith("; first b/u0 (a probe: nothing else is up) of 2; down: b/u0, b/u1")
    assert not pick(table, breakers={"b/u0": OPEN}, now_s=20.0).is_last_resort


def test_of_what_is_tried_all_the_same_that_comes_first_which_is_left_alone_for_the_shortest():
    table = table_of(rented("a"), rented("b", upstreams=2), workloads=[workload("w", "a", "b")])
    shorter = CLOSED.after_failure(1.0, BreakerRules(failures=1, wait_s=20.0))
    asked = CLOSED.after_request_to_wait(1.0, 10.0, BreakerRules())
    choice = pick(table, breakers={"a/u0": OPEN, "b/u0": asked, "b/u1": shorter}, now_s=2.0)
    assert keys(choice) == ["b/u1", "a/u0"], "and not that which asks to be left alone"


def test_of_a_tiers_upstreams_the_least_loaded_comes_first():
    table = table_of(rented("b", upstreams=3), workloads=[workload("w", "b")])
    assert keys(pick(table, in_flight={"b/u0": 2, "b/u1": 1})) == ["b/u2", "b/u1", "b/u0"]
    told = {"b/u2": 4, "b/u1": 2}
    assert keys(pick(table, in_flight={"b/u0": 2, "b/u1": 1}, peer_load=told)) == ["b/u0", "b/u1", "b/u2"]


@pytest.mark.parametrize(
    ("endpoint", "needs", "stated", "is_served"),
    [
        (CHAT, {"vision"}, {}, False),
        (MESSAGES, {"vision"}, {}, False),
        (CHAT, {"audio"}, {}, False),
        (EMBEDDINGS, (), {}, False),
        (EMBEDDINGS, (), {"engine_options": {"embedding": True}}, True),
        (CHAT, {"vision"}, {"engine_options": {"embedding": True}}, False),
        (CHAT, {"vision"}, {"capabilities": {"chat", "vision"}}, True),
        (CHAT, {"tools", "json_schema", "logprobs"}, {}, True),
    ],
)
def test_the_embedded_engine_is_not_asked_for_what_it_is_never_started_with(endpoint, needs, stated, is_served):
    table = table_of(owned("e", engine="embedded", **stated), workloads=[workload("w", "e")])
    if is_served:
        assert keys(pick(table, endpoint=endpoint, needs=frozenset(needs))) == ["e/here"]
        return
    with pytest.raises(Incapable, match=f"{next(iter(needs), 'embedding = true')}"):
        pick(table, endpoint=endpoint, needs=frozenset(needs))


@pytest.mark.parametrize(
    ("needs", "stated", "is_served"),
    [({"tools"}, {}, False), ({"vision"}, {}, True), ({"tools"}, {"capabilities": {"chat", "tools"}}, True)],
)
def test_an_engine_that_said_it_leaves_tools_out_is_not_asked_for_a_call(needs, stated, is_served):
    engine = Tier(name="e", kind="owned", model="m", engine="llama-server", **stated)
    addresses = {"e/e": EngineAddress("http://127.0.0.1:9", frozenset({"tools"}))}
    table = table_of(engine, rented("b"), workloads=[workload("w", "e", "b")], addresses=addresses)
    assert keys(pick(table, needs=frozenset(needs)))[0] == ("e/e" if is_served else "b/u0")
    alone = table_of(engine, workloads=[workload("w", "e")], addresses=addresses)
    if not is_served:
        with pytest.raises(Incapable, match="lacks tools, as the chat template of its model knows none"):
            pick(alone, needs=frozenset(needs))


def test_an_engine_that_is_started_again_is_worth_another_try_and_one_that_stays_down_is_not():
    engine = Tier(name="e", kind="owned", model="m", engine="embedded")
    with pytest.raises(NoUpstream, match="is being started again") as starting:
        pick(table_of(engine, workloads=[workload("w", "e")], addresses={"e/e": EngineAddress(None)}))
    assert starting.value.retry_after_s == 1.0
    with pytest.raises(NoUpstream, match="is not running") as down:
        pick(table_of(engine, workloads=[workload("w", "e")]))
    assert down.value.retry_after_s is None


def test_an_upstream_whose_engine_or_key_is_missing_is_unusable_and_says_so():
    engine = Tier(name="e", kind="owned", model="m", engine="embedded")
    keyed = Tier(
        name="k", kind="rented", model="m2", provider="p", region="eu",
        upstreams=(Upstream(name="u", url="https://k.example.com", api_key_env="A_KEY"),),
    )  # fmt: skip
    workloads = [workload("w", "e", "k")]
    bare = table_of(engine, keyed, workloads=workloads)
    assert bare.unusable == (
        "upstream 'e/e': its engine is not running",
        "upstream 'k/u': the environment variable A_KEY is not set",
    )
    with pytest.raises(NoUpstream, match="its engine is not running"):
        pick(bare)
    ready = table_of(
        engine, keyed, workloads=workloads, addresses={"e": EngineAddress("http://127.0.0.1:9")}, secrets={"A_KEY": "s"}
    )
    assert keys(pick(ready)) == ["e/e", "k/u"]


def test_an_engine_at_a_foreign_address_is_not_local():
    engine = Tier(name="e", kind="owned", model="m", engine="embedded")
    table = table_of(
        engine, workloads=[workload("w", "e", label=LOCAL_ONLY)], addresses={"e": EngineAddress("http://8.8.8.8:80")}
    )
    with pytest.raises(PolicyRefusal):
        pick(table)


def test_of_a_tiers_upstreams_only_those_at_a_permitted_place_are_candidates():
    engines = Tier(
        name="e", kind="owned", model="m", engine="embedded", upstreams=(Upstream(name="near"), Upstream(name="far"))
    )
    addresses = {"e/near": EngineAddress("http://127.0.0.1:80"), "e/far": EngineAddress("http://8.8.8.8:80")}
    table = table_of(engines, workloads=[workload("w", "e", label=LOCAL_ONLY)], addresses=addresses)
    assert keys(pick(table)) == ["e/near"]


def test_a_price_is_bounded_at_its_dearest():
    from ownward.gateway.placing.bounds import ChargeBound

    price = Price(
        provider="p", model="m", input_usd_per_mtok=Decimal(3), output_usd_per_mtok=Decimal(15),
        cached_input_usd_per_mtok=Decimal("0.3"), cache_write_usd_per_mtok=Decimal("3.75"),
        basis="assumed", source="test", checked_on=date(2026, 11, 21),
    )  # fmt: skip
    # 1,000 tokens at 3.75 and 10 at 15 USD per million, in picodollars
    assert (
        ChargeBound(price).compute_picousd(input_tokens_high=1000, output_tokens_high=10) == 3_750_000_000 + 150_000_000
    )


def test_a_key_that_no_header_can_carry_makes_its_upstream_unusable_and_is_not_shown():
    """A file read into a variable often ends with a line break."""
    upstream = Upstream(name="u", url="https://k.example.com", api_key_env="A_KEY")
    keyed = Tier(name="k", kind="rented", model="m", provider="p", upstreams=(upstream,))
    (said,) = table_of(keyed, workloads=[workload("w", "k")], secrets={"A_KEY": "sk-secret\n"}).unusable
    assert "A_KEY holds a line break" in said
    assert "sk-secret" not in said


@pytest.mark.parametrize(("budget", "named"), [(None, "theirs"), ("5.00/day", "all")])
def test_a_workload_that_takes_everything_keeps_a_clients_name_unless_a_budget_must_find_its_requests(budget, named):
    stated = dataclasses.replace(workload("all", "a"), budget=None if budget is None else Budget.parse(budget))
    table = table_of(owned("a"), workloads=[stated])
    assert pick(table, "whatever", workload="theirs").workload == named
