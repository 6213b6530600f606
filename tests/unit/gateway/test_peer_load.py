"""What other workers have at upstreams: summed over them, replaced by what each tells next, forgotten with them."""

from ownward.gateway.placing.peer_load import PeerLoad
from ownward.gateway.placing.routing import compile_plan
from ownward.plan import Plan, Tier, Upstream


def test_what_each_worker_told_last_counts_and_what_was_lost_before_does_not_matter():
    load = PeerLoad()
    load.hear(1, {"t/a": 2, "t/b": 1})
    load.hear(2, {"t/a": 5})
    assert load.totals == {"t/a": 7, "t/b": 1}
    load.hear(1, {"t/a": 0})
    assert load.totals == {"t/a": 5, "t/b": 1}
    load.hear(2, {"t/a": 9})
    assert load.totals["t/a"] == 9


def test_with_a_worker_goes_what_it_had_and_nothing_else():
    load = PeerLoad()
    load.hear(1, {"t/a": 2, "t/b": 1})
    load.hear(2, {"t/a": 5})
    load.forget_worker(1)
    assert load.totals == {"t/a": 5, "t/b": 0}
    load.hear(1, {"t/a": 1})
    assert load.totals["t/a"] == 6, "the one in its place begins at nothing"


def test_an_upstream_that_the_plan_has_no_more_is_forgotten():
    load = PeerLoad()
    load.hear(1, {"t/a": 2, "t/b": 1})
    load.keep({"t/b"})
    assert load.totals == {"t/b": 1}
    load.hear(1, {"t/a": 2})
    assert load.totals["t/a"] == 2


def test_calls_are_told_only_of_upstreams_that_are_chosen_by_them():
    def tier(name, count, **more):
        upstreams = tuple(Upstream(name=f"u{index}", url=f"http://127.0.0.1:{index + 1}") for index in range(count))
        return Tier(name=name, kind="owned", model="m", engine="adopted", upstreams=upstreams, **more)

    tiers = (tier("one", 1, balance="least_busy"), tier("several", 2, balance="least_busy"), tier("prefix", 2))
    table = compile_plan(Plan(name="p", tiers={each.name: each for each in tiers}, workloads={}))
    assert table.counted == {"several/u0", "several/u1"}
    assert table.prefix_tiers == {"prefix"}
