"""A prompt goes where its beginning was seen, as far as that spares more than the queue there costs."""

import pytest

from ownward.gateway.placing.affinity import Prefixes, Prompt
from ownward.gateway.placing.routing import compile_plan
from ownward.plan import Plan, Tier, Upstream

KIB = 1024


def targets_of(count=3, **more):
    upstreams = tuple(Upstream(name=f"u{n}", url=f"http://127.0.0.1:{8000 + n}") for n in range(count))
    tier = Tier(name="t", kind="owned", model="m", engine="adopted", upstreams=upstreams, **more)
    return compile_plan(Plan(name="p", tiers={"t": tier}, workloads={})).targets["t"]


def text(seed, size):
    return (f"{seed} " * (size // 2 + 1)).encode()[:size]


def first(prefixes, targets, prompt, in_flight=None):
    return prefixes.order(targets, prompt, in_flight or {})[0][0].name


def serve(prefixes, target, prompt):
    prefixes.end(target, prefixes.begin(target, prompt))


def test_of_a_long_prompt_no_more_is_copied_than_is_looked_at():
    copied = []

    class Part(bytes):
        def __getitem__(self, place):
            copied.append(len(found := super().__getitem__(place)))
            return found

    prompt = text("a", 3 * KIB * KIB)
    parts = (Part(prompt[: KIB * KIB // 2]), Part(prompt[KIB * KIB // 2 :]))
    assert Prompt(*parts).beginnings == Prompt(prompt).beginnings
    assert Prompt(*parts).size == len(prompt)
    assert KIB * KIB <= sum(copied) < 1.2 * KIB * KIB
    assert Prompt(*map(memoryview, parts)).beginnings == Prompt(prompt).beginnings


def test_the_next_turn_of_a_conversation_goes_where_the_first_one_went():
    targets, prefixes = targets_of(), Prefixes()
    opening = text("a", 6 * KIB)
    serve(prefixes, targets[2], Prompt(opening))
    ordered, why = prefixes.order(targets, Prompt(opening + text("b", 3 * KIB)), {})
    assert ordered[0].name == "u2"
    assert why == f"{6 * KIB} of {9 * KIB} prompt bytes in its cache"


def test_the_longest_beginning_counts_and_not_what_comes_after_a_difference():
    targets, prefixes = targets_of(), Prefixes()
    system = text("s", 4 * KIB)
    serve(prefixes, targets[0], Prompt(system + text("a", 8 * KIB)))
    serve(prefixes, targets[1], Prompt(system + text("b", 8 * KIB)))
    assert first(prefixes, targets, Prompt(system + text("b", 4 * KIB))) == "u1"
    assert first(prefixes, targets, Prompt(system + text("a", 4 * KIB))) == "u0"
    assert prefixes.order(targets, Prompt(text("x", KIB) + system), {})[1] == ""


def test_a_cache_draws_no_further_than_the_bytes_it_spares():
    targets, prefixes = targets_of(2), Prefixes()
    shared = text("s", 8 * KIB)
    serve(prefixes, targets[0], Prompt(shared))
    waiting = prefixes.begin(targets[0], Prompt(text("long", 7 * KIB)))
    assert first(prefixes, targets, Prompt(shared + b"?")) == "u0"
    more = prefixes.begin(targets[0], Prompt(text("longer", 2 * KIB)))
    assert first(prefixes, targets, Prompt(shared + b"?")) == "u1"
    prefixes.end(targets[0], waiting)
    prefixes.end(targets[0], more)
    assert first(prefixes, targets, Prompt(shared + b"?")) == "u0"


def test_calls_that_decode_count_as_well():
    targets, prefixes = targets_of(2), Prefixes()
    shared = text("s", 8 * KIB)
    serve(prefixes, targets[0], Prompt(shared))
    assert first(prefixes, targets, Prompt(shared), {"t/u0": 4, "t/u1": 1}) == "u0"
    assert first(prefixes, targets, Prompt(shared), {"t/u0": 6, "t/u1": 1}) == "u1"


def test_what_nobody_has_seen_is_spread():
    targets, prefixes = targets_of(), Prefixes()
    went = []
    for number in range(6):
        prompt = Prompt(text(number, 3 * KIB))
        target = prefixes.order(targets, prompt, {})[0][0]
        went.append(target.name)
        serve(prefixes, target, prompt)
    assert sorted(went) == ["u0", "u0", "u1", "u1", "u2", "u2"]


def test_no_upstream_is_remembered_beyond_what_its_cache_holds():
    targets, prefixes = targets_of(1, cache_tokens=16 * 1024), Prefixes()
    old, new = Prompt(text("old", 40 * KIB)), Prompt(text("new", 60 * KIB))
    serve(prefixes, targets[0], old)
    serve(prefixes, targets[0], new)
    upstream = prefixes._upstreams["t/u0"]
    assert upstream.held_bytes <= 64 * KIB
    assert upstream.count_seen(new.beginnings) == len(new.beginnings)
    assert 0 < upstream.count_seen(old.beginnings) * KIB < 8 * KIB, "the longest beginnings go first"


@pytest.mark.parametrize("size", [0, 1, KIB - 1])
def test_a_short_prompt_has_no_beginning_and_is_placed_all_the_same(size):
    targets, prefixes = targets_of(2), Prefixes()
    prompt = Prompt(text("a", size))
    assert prompt.beginnings == ()
    serve(prefixes, targets[0], prompt)
    assert first(prefixes, targets, Prompt(text("a", size))) == "u1"


def test_an_engine_that_started_anew_has_seen_nothing():
    targets, prefixes = targets_of(2), Prefixes()
    prompt = Prompt(text("a", 4 * KIB))
    waiting = prefixes.begin(targets[1], prompt)
    prefixes.forget("t/u1")
    assert prefixes.order(targets, prompt, {})[1] == ""
    prefixes.end(targets[1], waiting)
    prefixes.keep({"t/u0"})
    assert set(prefixes._upstreams) <= {"t/u0"}


def telling():
    """Return two workers' memories and what passes one's news to the other."""
    one, other = Prefixes(), Prefixes()
    called = []
    one.on_news = lambda: called.append(True)
    return one, other, called


def test_a_conversation_that_another_worker_placed_is_known_and_its_load_counts():
    targets = targets_of()
    one, other, called = telling()
    opening, running = text("a", 6 * KIB), {}
    waiting = one.begin(targets[2], Prompt(opening))
    running[targets[2].key] = 1
    assert called == [True], "told once for all that happens until it is taken"
    one.note_load(targets[2].key)
    assert called == [True]
    other.hear(0, one.take_news(running), targets)
    assert first(other, targets, Prompt(text("b", 4 * KIB))) == "u0", "no place in the queue there"
    grown = Prompt(opening + text("c", 20 * KIB))
    assert first(other, targets, grown) == "u0", "what waits there costs more than its cache spares"
    one.end(targets[2], waiting)
    running[targets[2].key] = 0
    one.note_load(targets[2].key)
    assert called == [True, True]
    other.hear(0, one.take_news(running), targets)
    ordered, why = other.order(targets, grown, {})
    assert ordered[0].name == "u2"
    assert why.startswith(f"{6 * KIB} of ")


def test_the_load_of_a_worker_that_is_gone_is_forgotten_and_its_prompts_are_not():
    targets = targets_of()
    one, other, _ = telling()
    opening = text("a", 6 * KIB)
    one.begin(targets[1], Prompt(opening))
    other.hear(3, one.take_news({targets[1].key: 9}), targets)
    assert first(other, targets, Prompt(opening)) == "u0"
    other.forget_worker(3)
    assert first(other, targets, Prompt(opening)) == "u1"


def test_what_is_told_of_an_upstream_that_the_plan_has_no_more_is_passed_over():
    one, other, _ = telling()
    one.begin(targets_of(5)[4], Prompt(text("a", 6 * KIB)))
    other.hear(0, one.take_news({}), targets_of(2))
    assert first(other, targets_of(2), Prompt(text("a", 6 * KIB))) == "u0"


def test_where_there_is_one_worker_nothing_is_kept_to_be_told():
    targets, prefixes = targets_of(), Prefixes()
    serve(prefixes, targets[0], Prompt(text("a", 6 * KIB)))
    prefixes.note_load(targets[0].key)
    assert prefixes.take_news({}) == ([], {})
