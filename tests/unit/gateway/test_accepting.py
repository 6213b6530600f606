"""Names of models in plans with many workloads: which accept one, which a key may ask for, what is like one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ownward import core
from ownward.gateway import errors
from ownward.gateway.endpoints import CHAT
from ownward.gateway.placing.accepting import Accepting
from ownward.gateway.placing.choice import UNASSIGNED, Asked, KeyScope
from ownward.gateway.placing.matching import match, name_refused
from ownward.gateway.placing.naming import names_for
from ownward.gateway.placing.routing import compile_plan
from ownward.plan import Match, Plan, Strategy, Tier, Upstream, Workload
from ownward.policy import ANY

TEXTS = st.text("ab*", min_size=1, max_size=4)
MATCHES = st.builds(
    Match,
    models=st.lists(TEXTS, max_size=3, unique=True).map(tuple),
    keys=st.lists(st.sampled_from("kl"), max_size=2, unique=True).map(tuple),
    headers=st.sampled_from([{}, {"x-team": "r"}]),
)


def workload(name, match):
    return Workload(name=name, match=match, strategy=Strategy(kind="direct", tiers=("a",)), label=ANY)


def table_with(matches):
    upstreams = (Upstream(name="here", url="http://127.0.0.1:8001"),)
    tier = Tier(name="a", kind="owned", model="a-model", engine="adopted", upstreams=upstreams)
    workloads = {f"w{index}": workload(f"w{index}", match) for index, match in enumerate(matches)}
    return compile_plan(Plan(name="p", tiers={"a": tier}, workloads=workloads))


def count_accepting(monkeypatch):
    asked = []
    accepts = Match.accepts

    def counted(self, **stated):
        asked.append(self)
        return accepts(self, **stated)

    monkeypatch.setattr(Match, "accepts", counted)
    return asked


@given(st.lists(MATCHES, max_size=6), st.text("ab", max_size=5), st.sampled_from(["k", None]))
def test_those_that_accept_a_model_and_a_key_are_found_in_their_order(matches, model, key_id):
    workloads = [workload(f"w{index}", match) for index, match in enumerate(matches)]
    found = Accepting(workloads).find(model, key_id)
    expected = [
        each
        for each in workloads
        if Match(models=each.match.models, keys=each.match.keys).accepts(model=model, key_id=key_id)
    ]
    assert [each for each, _ in found] == expected
    assert all(is_certain == (not each.match.headers) for each, is_certain in found)


def test_of_a_thousand_workloads_only_those_are_looked_at_that_a_models_beginning_leaves(monkeypatch):
    table = table_with([Match(models=(f"team-{index}/*",), headers={"x-app": "a"}) for index in range(1000)])
    asked = count_accepting(monkeypatch)
    assert [each.name for each, _ in table.accepting("team-77/anything", None)] == ["w77"]
    assert len(asked) == 1


def test_what_a_key_may_ask_for_is_found_without_looking_at_each_workload_for_each_name(monkeypatch):
    table = table_with([Match(models=(f"model-{index}",), headers={"x-app": "a"}) for index in range(300)])
    key = KeyScope(key_id="k", workloads=frozenset({"w7"}))
    asked = count_accepting(monkeypatch)
    assert names_for(key, table) == ("w7", "model-7")
    assert len(asked) <= 2 * len(table.route_names)


def test_a_name_that_nobody_has_is_compared_once_and_with_few_of_many(monkeypatch):
    table = table_with([Match(models=(f"team-{index}/application",)) for index in range(1000)])
    compared = []

    def counted(name, known, **more):
        compared.extend(known)
        return core.closest(name, known, **more)

    monkeypatch.setattr(errors, "closest", counted)
    asked = Asked(endpoint=CHAT, model="team-123/aplication")
    with pytest.raises(errors.UnknownRoute, match="'team-123/application'"):
        match(asked, table)
    assert name_refused(asked, table)[0] == UNASSIGNED
    assert len(compared) == 100
