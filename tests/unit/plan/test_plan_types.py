"""What the plan's types promise: matching, places, hashes, gaps, the plan of a single model, the rewritten file."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import FrozenInstanceError, asdict, replace
from datetime import date
from decimal import Decimal

import pytest

from ownward import plan as room
from ownward.core import ConfigError, to_json
from ownward.plan import Match, Plan, Strategy, Tier, Upstream, Workload, as_table, dumps, for_single_model, loads
from ownward.plan._lines import comments_of
from ownward.policy import ANY, LOCAL_ONLY
from ownward.pricing import Price

PRICE = Price(
    provider="openai",
    model="gpt-5-mini",
    input_usd_per_mtok=Decimal("0.25"),
    output_usd_per_mtok=Decimal(2),
    basis="price page",
    source="openai.com/api/pricing",
    checked_on=date(2026, 11, 1),
)
API = Tier(
    name="api",
    kind="rented",
    model="gpt-5-mini",
    provider="openai",
    price=PRICE,
    upstreams=(Upstream(name="a", url="https://api.openai.com/v1", api_key_env="OPENAI_API_KEY"),),
)
OWN = Tier(name="own", kind="owned", model="qwen3-8b", engine="embedded")


def workload(name, **match):
    return Workload(name=name, match=Match(**match), strategy=Strategy(kind="direct", tiers=("own",)), label=ANY)


def plan_of(*workloads, **values):
    return Plan(
        name="support",
        tiers={"api": API, "own": OWN},
        workloads={each.name: each for each in workloads},
        **values,
    )


@pytest.mark.parametrize(
    ("pattern", "model", "fits"),
    [
        ("gpt-5", "gpt-5", True),
        ("gpt-5", "gpt-5-mini", False),
        ("gpt-*", "gpt-", True),
        ("*", "", True),
        ("*mini", "gpt-5-mini", True),
        ("a*a", "a", False),
        ("a*b*c", "abbc", True),
        ("a*b*c", "acb", False),
        ("[a]?", "[a]?", True),
    ],
)
def test_a_star_stands_for_any_text(pattern, model, fits):
    assert Match(models=(pattern,)).accepts(model=model) is fits


def test_every_stated_condition_must_hold():
    """Conditions are joined by and, the entries of a list by or."""
    match = Match(models=("a", "b"), headers={"X-App": "crm*"}, keys=("k1",), metadata={"team": "x"})
    request = {"model": "b", "headers": {"x-app": "crm-2"}, "key_id": "k1", "metadata": {"team": "x"}}
    assert match.accepts(**request)
    for missing in ({"model": "c"}, {"headers": {}}, {"headers": None}, {"key_id": None}, {"metadata": {"team": "y"}}):
        assert not match.accepts(**{**request, **missing})


def test_fingerprints_are_compared_whole():
    match = Match(fingerprints=("f1", "f2"))
    assert match.accepts(model="m", fingerprint="f2")
    assert not match.accepts(model="m")


def test_the_most_specific_workload_serves_whatever_the_order():
    """The catch-all comes last, a narrower condition first."""
    rest, named, narrow = workload("rest"), workload("b", models=("gpt-*",)), workload("a", models=("gpt-5",))
    keyed = workload("c", models=("gpt-5",), keys=("k",))
    for order in ((rest, named, narrow, keyed), (keyed, narrow, named, rest)):
        plan = plan_of(*order)
        assert plan.find_workload(model="gpt-5", key_id="k") == keyed
        assert plan.find_workload(model="gpt-5") == narrow
        assert plan.find_workload(model="gpt-4") == named
        assert plan.find_workload(model="claude") == rest
    assert plan_of(narrow).find_workload(model="claude") is None


@pytest.mark.parametrize(
    ("kind", "url", "is_local", "is_on_site"),
    [
        ("owned", None, True, True),
        ("owned", "http://127.0.0.1:8080", True, True),
        ("owned", "http://localhost:8080/v1", True, True),
        ("owned", "http://[::1]:8080", True, True),
        ("owned", "http://192.168.1.5", False, True),
        ("owned", "http://[fd00::5]:8000", False, True),
        ("owned", "http://127.0.0.1.evil.example", False, False),
        ("owned", "https://gpu.example.com", False, False),
        ("owned", "http://8.8.8.8", False, False),
        ("rented", "http://127.0.0.1:8080", False, False),
        ("rented", "http://192.168.1.5", False, False),
    ],
)
def test_only_owned_tiers_are_on_this_machine_or_on_site_by_their_addresses(kind, url, is_local, is_on_site):
    """A rented tier behind a local proxy is not on this machine; a name is not an address."""
    engine = "vllm" if kind == "owned" else None
    tier = Tier(name="t", kind=kind, model="m", engine=engine, upstreams=(Upstream(name="u", url=url),))
    assert (tier.place.is_local, tier.place.is_on_site) == (is_local, is_on_site)


@pytest.mark.parametrize(
    ("url", "dialect", "target", "asked"),
    [
        ("https://a.example", "openai", "/v1/chat/completions", "/v1/chat/completions"),
        ("https://a.example/", "openai", "/v1/models", "/v1/models"),
        ("https://a.example/v1", "openai", "/v1/chat/completions", "/v1/chat/completions"),
        ("https://a.example/v1beta/openai/", "openai", "/v1/chat/completions", "/v1beta/openai/chat/completions"),
        ("https://a.example", "anthropic", "/v1/messages", "/v1/messages"),
        ("https://a.example/anthropic", "anthropic", "/v1/messages", "/anthropic/v1/messages"),
        ("https://a.example/v1", "anthropic", "/v1/messages", "/v1/messages"),
    ],
)
def test_targets_follow_the_base_url_as_sdks_mean_it(url, dialect, target, asked):
    assert Upstream(name="a", url=url, dialect=dialect).compute_target(target) == asked


def test_an_origin_has_one_spelling():
    assert Upstream(name="a", url="https://API.Example.com:443/v1").origin == "https://api.example.com"


def test_types_are_frozen_through_and_through():
    """Neither fields nor what they hold can be changed."""
    with pytest.raises(FrozenInstanceError):
        API.name = "x"
    with pytest.raises(TypeError):
        plan_of(workload("a")).tiers["new"] = API


def test_a_plan_can_be_pickled_copied_and_taken_apart():
    plan = plan_of(workload("a"))
    assert pickle.loads(pickle.dumps(plan)) == copy.deepcopy(plan) == plan
    assert asdict(plan)["workloads"]["a"]["strategy"]["tiers"] == plan.workloads["a"].strategy.tiers
    for change in ("clear", "popitem"):
        with pytest.raises(TypeError, match=r"dataclasses\.replace"):
            getattr(pickle.loads(pickle.dumps(plan)).tiers, change)()


def test_the_hash_is_of_meaning_not_of_spelling():
    """Comments, order, spacing and units do not change it; a value does."""
    plan = plan_of(workload("a", models=("x", "y")))
    text = dumps(plan)
    spelled = text.replace("first_byte_timeout_s = 300", 'first_byte_timeout_s = "5m" # five').replace('"2"', "2.00")
    assert spelled != text
    assert loads(spelled).sha256 == plan.sha256
    assert replace(plan, baseline="api").sha256 != plan.sha256
    assert len(plan.sha256) == 64


def test_gaps_say_what_is_unknown():
    """A tier without a price has an unknown charge, which is told; nothing becomes zero."""
    bare = replace(API, price=None, upstreams=(Upstream(name="a", url="http://api.example", api_key_env="K"),))
    plan = Plan(name="x", tiers={"api": bare, "own": OWN}, workloads={})
    told = {gap.where: gap.message for gap in plan.gaps()}
    assert "unknown" in told["tiers.api.price"]
    assert "unknown" in told["tiers.own.loaded_price"]
    assert "unencrypted" in told["tiers.api.upstreams[0].url"]
    assert not Plan(name="x", tiers={"api": API}, workloads={}).gaps()


def test_a_single_model_serves_everything_and_lets_nothing_out():
    plan = for_single_model("smollm2", model="SmolLM2-135M-Instruct", engine_options={"slots": 2})
    chosen = plan.find_workload(model="anything at all")
    assert chosen is not None
    assert chosen.name == "default"
    assert chosen.label == LOCAL_ONLY
    assert plan.tiers["smollm2"].place.is_local
    assert for_single_model("smollm2", model="SmolLM2-135M-Instruct", engine_options={"slots": 2}).sha256 == plan.sha256
    assert loads(dumps(plan)) == plan


def test_nothing_stated_means_this_machine_alone():
    """A workload without a label, in a plan without a default, lets nothing out; a default is taken."""
    text = 'schema = "ownward.plan/1"\nname = "x"\n{}[tiers.own]\nkind = "owned"\nmodel = "m"\nengine = "vllm"\n'
    text += '[workloads.a]\nstrategy = {{ tiers = ["own"] }}\n'
    assert loads(text.format("")).workloads["a"].label == LOCAL_ONLY
    assert str(loads(text.format('default_label = "eu"\n')).workloads["a"].label) == "eu"


@pytest.mark.parametrize(
    ("kind", "tiers", "options", "calls"),
    [
        ("direct", ("a",), {}, 1),
        ("vote", ("a",), {"samples": 5, "labels": ("x", "y")}, 5),
        ("cascade", ("a", "b", "c"), {"json_field": "x"}, 3),
        ("cascade", ("a", "b"), {"samples": 3, "agreement_fraction": 0.6, "number": True}, 4),
        ("best_of", ("a",), {"samples": 4, "json_schema": "{}"}, 4),
        ("revise", ("a",), {"revisions": 2, "json_schema": "{}"}, 3),
        ("forest", ("a", "b"), {"samples": 3, "number": True}, 7),
    ],
)  # fmt: skip
def test_the_cap_on_calls_follows_from_the_options(kind, tiers, options, calls):
    assert Strategy(kind=kind, tiers=tiers, options=options).max_calls == calls


def test_a_judge_is_handed_on_as_it_is_meant():
    """A schema is text in the file and an object for the judge."""
    voted = Strategy(kind="vote", tiers=("a",), options={"samples": 2, "json_schema": '{"type": "object"}'})
    assert voted.judge_options == {"json_schema": {"type": "object"}}
    assert Strategy(kind="direct", tiers=("a",)).judge_options == {}


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"messages_as": "response"}, 'messages_as is "response"'),
        ({"messages_as": "responses", "dialect": "anthropic"}, "is stated for an upstream that speaks anthropic"),
    ],
)
def test_as_what_messages_are_asked_is_refused_where_it_means_nothing(values, problem):
    with pytest.raises(ConfigError, match=problem):
        Upstream(name="a", url="https://api.example.com", **values)


def test_messages_are_not_asked_as_what_a_tier_cannot_do():
    upstream = Upstream(name="a", url="https://api.example.com/v1", messages_as="responses")
    with pytest.raises(ConfigError, match="stated without it") as caught:
        replace(API, upstreams=(upstream,), capabilities=frozenset({"chat"}))
    assert [fault.key for fault in caught.value.faults] == ["upstreams[0].messages_as"]
    for capabilities in (frozenset(), frozenset({"chat", "responses"})):
        assert replace(API, upstreams=(upstream,), capabilities=capabilities).upstreams == (upstream,)


def test_types_refuse_what_the_file_would_refuse():
    """A plan made in code holds the same rules, with all faults at once."""
    with pytest.raises(ConfigError) as caught:
        Upstream(name="", url="ftp://x", connect_timeout_s=-1)
    assert [fault.key for fault in caught.value.faults] == ["name", "url", "connect_timeout_s"]
    with pytest.raises(ConfigError, match="not a tier"):
        Plan(name="x", tiers={"own": OWN}, workloads={}, baseline="api")


HAND_EDITED = """\
# Our plan, kept by hand.
schema = "ownward.plan/1"
name = "support"   # the help desk

# The box under the desk first.
[tiers.own]
engine = "embedded"
kind = "owned"
model = "qwen3-8b"

[workloads.chat] # all of it
strategy = { kind = "direct", tiers = ["own"] }   # for now

# The provider.
[tiers.api]
model = "gpt-5-mini"
kind = "rented"

[tiers.api.price]
input_usd_per_mtok  = 0.25  # went up in May
output_usd_per_mtok = 2.00
basis = "price page"
source = "openai.com/api/pricing"
checked_on = 2026-11-01

[[tiers.api.upstreams]]
name = "eu"
url = "https://eu.api.example.com"   # nearest
stall_timeout_s = "2m"

[[tiers.api.upstreams]]
# the spare one
name = "us"
url = "https://us.api.example.com"
"""


def test_an_untouched_file_stays_byte_for_byte():
    assert dumps(loads(HAND_EDITED), HAND_EDITED) == HAND_EDITED


def test_one_changed_value_changes_one_line():
    """Comments, alignment, order and spelling of everything else survive."""
    plan = loads(HAND_EDITED)
    api = plan.tiers["api"]
    assert api.price is not None
    dearer = replace(api, price=replace(api.price, input_usd_per_mtok=Decimal("0.30")))
    after = dumps(replace(plan, tiers={**plan.tiers, "api": dearer}), HAND_EDITED)
    assert after == HAND_EDITED.replace("  = 0.25  # went", '  = "0.3"  # went')


def test_parts_are_added_and_taken_away_in_place():
    """A new workload and a removed upstream leave the comments of the rest."""
    plan = loads(HAND_EDITED)
    api = replace(plan.tiers["api"], upstreams=plan.tiers["api"].upstreams[:1])
    changed = replace(
        plan,
        tiers={**plan.tiers, "api": api},
        workloads={**plan.workloads, "mail": workload("mail", models=("mail",))},
        baseline="api",
    )
    after = dumps(changed, HAND_EDITED)
    assert loads(after) == changed
    for comment in ("# Our plan, kept by hand.", "# the help desk", "# all of it", "# went up in May", "# nearest"):
        assert comment in after
    assert "us.api.example.com" not in after
    assert 'stall_timeout_s = "2m"' in after


ODD_ORDERS = {
    "tables out of order": HAND_EDITED.replace("[workloads.chat] # all of it\n", "")
    .replace('strategy = { kind = "direct", tiers = ["own"] }   # for now\n', "")
    .replace("[[tiers.api.upstreams]]\nname", "[workloads.chat] # all of it\nstrategy.tiers = ['own'] # for now\n"
             "[[tiers.api.upstreams]]\nname"),
    "dotted keys": 'schema = "ownward.plan/1"\nname = "x"\ntiers.own.kind = "owned" # mine\ntiers.own.model = "m" # M\n'
    'tiers.own.engine = "vllm"\nworkloads.w.strategy = { tiers = ["own"] } # served\n',
    "all in line": 'schema = "ownward.plan/1" # head\nname = "x"\n'
    'tiers = { own = { kind = "owned", model = "m", engine = "vllm" } } # tiers\n[workloads] # none\n',
    "Windows": HAND_EDITED.replace("\n", "\r\n"),
}  # fmt: skip


@pytest.mark.parametrize("text", ODD_ORDERS.values(), ids=ODD_ORDERS)
def test_odd_forms_of_a_file_keep_their_comments_too(text):
    """Dotted keys, tables in line or out of order, other line ends: a changed limit loses nothing."""
    plan = loads(text)
    wider = replace(plan.tiers["own"], max_context_tokens=4096)
    after = dumps(replace(plan, tiers={**plan.tiers, "own": wider}), text)
    assert loads(after).tiers["own"].max_context_tokens == 4096
    assert comments_of(after) == comments_of(text)
    assert after.count("\r\n") in {0, after.count("\n")}


def test_comments_that_find_no_place_are_kept_at_the_end():
    """Upstreams in another order: the file is written anew, and what people wrote is still there."""
    plan = loads(HAND_EDITED)
    turned = replace(plan.tiers["api"], upstreams=plan.tiers["api"].upstreams[::-1])
    after = dumps(replace(plan, tiers={**plan.tiers, "api": turned}), HAND_EDITED)
    assert loads(after).tiers["api"] == turned
    assert set(comments_of(HAND_EDITED)) <= set(comments_of(after))


def test_a_broken_file_is_never_replaced_unseen():
    with pytest.raises(ConfigError):
        dumps(loads(HAND_EDITED), HAND_EDITED.replace("rented", "rentd"))


def test_a_new_file_explains_itself():
    text = dumps(plan_of(workload("a")))
    assert text.startswith("# An ownward plan")
    assert "# What kinds of requests there are." in text
    assert 'input_usd_per_mtok = "0.25"' in text


def test_a_plan_has_a_json_form():
    """Money and dates are text in it."""
    record = json.loads(to_json(as_table(plan_of(workload("a")))))
    assert record["tiers"]["api"]["price"]["input_usd_per_mtok"] == "0.250000"
    assert record["workloads"]["a"]["label"] == "any"


def test_the_public_names_are_what_is_there():
    assert sorted(room.__all__, key=lambda name: (not name.isupper(), not name[0].isupper(), name)) == room.__all__
    assert all(hasattr(room, name) for name in room.__all__)
