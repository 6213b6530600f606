"""What holds for every price, label and order of events."""

from datetime import date

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from ownward.gateway.endpoints import CHAT
from ownward.gateway.placing.bounds import ChargeBound
from ownward.gateway.placing.breaker import CLOSED, EARLY_PROBE_S, LAST_PROBE_S, PROBE_S, BreakerRules
from ownward.gateway.placing.choice import Asked, Found, KeyScope
from ownward.gateway.placing.matching import compute_label
from ownward.gateway.placing.routing import compile_plan
from ownward.plan import Match, Plan, Strategy, Tier, Upstream, Workload
from ownward.policy import ANY, LOCAL_ONLY, Label
from ownward.pricing import Price, PriceStep, Usage

RATES = st.decimals(min_value=0, max_value=500, places=7)
OPTIONAL = st.none() | RATES
RATE_FIELDS = {
    "input_usd_per_mtok": RATES,
    "output_usd_per_mtok": RATES,
    "cached_input_usd_per_mtok": OPTIONAL,
    "cache_write_usd_per_mtok": OPTIONAL,
    "cache_write_1h_usd_per_mtok": OPTIONAL,
}
STEPS = st.lists(
    st.builds(PriceStep, above_input_tokens=st.integers(1, 5000), **RATE_FIELDS),
    max_size=3,
    unique_by=lambda step: step.above_input_tokens,
).map(lambda steps: tuple(sorted(steps, key=lambda step: step.above_input_tokens)))
PRICES = st.builds(
    Price,
    provider=st.just("p"),
    model=st.just("m"),
    steps=STEPS,
    usd_per_request=st.decimals(min_value=0, max_value=1, places=7),
    basis=st.just("assumed"),
    source=st.just("test"),
    checked_on=st.just(date(2026, 11, 21)),
    **RATE_FIELDS,
)


@st.composite
def usages(draw):
    cached, written_short, written_long, fresh = (draw(st.integers(0, 3000)) for _ in range(4))
    return Usage(
        input_tokens=cached + written_short + written_long + fresh,
        output_tokens=draw(st.integers(0, 5000)),
        cached_input_tokens=cached,
        cache_write_tokens=written_short + written_long,
        cache_write_1h_tokens=written_long,
    )


@given(PRICES, usages(), st.integers(0, 2000), st.integers(0, 2000))
def test_no_usage_within_the_token_bounds_is_charged_more_than_the_charge_bound(price, usage, more_in, more_out):
    bound = ChargeBound(price).compute_picousd(
        input_tokens_high=usage.input_tokens + more_in, output_tokens_high=usage.output_tokens + more_out
    )
    assert price.compute_charge_picousd(usage) <= bound


EVENTS = st.lists(st.tuples(st.sampled_from(["dispatch", "success", "failure", "nothing", "wait"]), st.floats(0, 5)))


@given(EVENTS)
def test_a_breaker_never_lets_two_probes_out_and_always_opens_again_to_one(events):
    rules = BreakerRules(failures=2, wait_s=1.0, longest_wait_s=4.0)
    breaker, now_s, probes, probed_s = CLOSED, 100.0, 0, 0.0
    for event, passes_s in events:
        now_s += passes_s
        was_half_open = breaker.state(now_s) == "half_open"
        if event == "dispatch" and breaker.allows(now_s):
            breaker = breaker.after_dispatch(now_s)
            if was_half_open:
                probes = 1 if now_s - probed_s >= PROBE_S else probes + 1
                probed_s = now_s
        elif event == "success":
            breaker, probes = breaker.after_success(now_s), 0 if was_half_open else probes
        elif event == "failure":
            breaker = breaker.after_failure(now_s, rules)
            probes = 0 if was_half_open else probes
        elif event == "nothing":
            breaker, probes = breaker.after_nothing_learned(), 0
        elif event == "wait":
            breaker, probes = breaker.after_request_to_wait(now_s, passes_s, rules), 0
        assert probes <= 1
        assert breaker.open_until_s <= now_s + rules.longest_wait_s
    assert breaker.allows(now_s + max(rules.longest_wait_s, PROBE_S))
    assert breaker.asks_to_wait or breaker.allows_last(now_s + LAST_PROBE_S)


TRIES = st.lists(st.tuples(st.sampled_from(["try", "success", "failure", "nothing"]), st.floats(0, 0.5)))


@given(TRIES)
def test_before_its_wait_is_over_an_upstream_is_tried_at_intervals_and_each_try_leaves_the_wait_as_it_is(events):
    """One that has not answered is followed by another after a second, and one that has after a quarter of it."""
    rules = BreakerRules(failures=1, wait_s=1e6, longest_wait_s=1e6)
    opened = breaker = CLOSED.after_failure(100.0, rules)
    now_s = tried_s = 100.0
    is_out = False
    for event, passes_s in events:
        now_s += passes_s
        if event == "try":
            is_allowed = breaker.allows_last(now_s)
            shortest_s = LAST_PROBE_S if is_out else EARLY_PROBE_S
            assert not is_allowed or now_s >= tried_s + shortest_s
            assert is_allowed or now_s < max(tried_s, breaker.opened_s) + shortest_s
            if is_allowed:
                breaker, tried_s, is_out = breaker.after_dispatch(now_s), now_s, True
        elif event == "failure":
            breaker, is_out = breaker.after_failure(now_s, rules), False
        elif event == "nothing":
            breaker, is_out = breaker.after_nothing_learned(), False
        elif is_out:
            assert breaker.after_success(now_s) == CLOSED
        assert (breaker.open_until_s, breaker.opened) == (opened.open_until_s, opened.opened)


LABELS = st.sampled_from(
    [ANY, LOCAL_ONLY, *(Label.parse(text) for text in ("eu", "us", "provider:p", "eu|us", "eu+provider:p"))]
)


@given(LABELS, st.none() | LABELS, st.none() | LABELS)
def test_a_label_is_never_wider_than_anything_stated(stated, key, header):
    workload = Workload(name="w", match=Match(), strategy=Strategy(kind="direct", tiers=("a",)), label=stated)
    tier = Tier(name="a", kind="owned", model="m", upstreams=(Upstream(name="u", url="http://127.0.0.1:1"),))
    table = compile_plan(Plan(name="p", tiers={"a": tier}, workloads={"w": workload}))
    scope = None if key is None else KeyScope(key_id="k", label=key)
    label, _ = compute_label(Asked(endpoint=CHAT, model="w", key=scope, label=header), table, workload)
    assert label <= stated
    assert key is None or label <= key
    assert header is None or label <= header


@given(LABELS | st.none())
def test_where_nothing_is_stated_a_header_opens_nothing(header):
    tier = Tier(name="a", kind="owned", model="m", upstreams=(Upstream(name="u", url="http://127.0.0.1:1"),))
    table = compile_plan(Plan(name="p", tiers={"a": tier}, workloads={}))
    label, _ = compute_label(Asked(endpoint=CHAT, model="a", label=header), table, None)
    assert label == LOCAL_ONLY


LABELS = st.sampled_from(["local_only", "site", "any", "eu", "eu|provider:mistral", "site+eu"]).map(Label.parse)


@given(LABELS, st.none() | LABELS, st.none() | LABELS, st.lists(LABELS, max_size=3))
def test_what_is_found_in_a_request_only_ever_shrinks_where_it_may_go(of_workload, of_key, of_header, of_found):
    """Whatever the plan, the key and the header state, and whatever is found, nothing new is permitted."""
    tier = Tier(name="t", kind="rented", model="m", upstreams=(Upstream(name="u", url="https://api.example.com"),))
    workload = Workload(
        name="w", match=Match(), strategy=Strategy(kind="direct", tiers=("t",)), label=of_workload, detect=("email",)
    )
    table = compile_plan(Plan(name="p", tiers={"t": tier}, workloads={"w": workload}))
    key = KeyScope(key_id="k", label=of_key)
    plain = Asked(endpoint=CHAT, model="w", key=key, label=of_header)
    found = tuple(Found(name=f"d{index}", label=label) for index, label in enumerate(of_found))
    before, _ = compute_label(plain, table, workload)
    after, why = compute_label(msgspec.structs.replace(plain, found=found), table, workload)
    assert after <= before
    for label in of_found:
        assert after <= label
    assert ("found in it" in why) == (after != before)
