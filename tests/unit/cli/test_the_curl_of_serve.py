"""The command that `serve` prints when it is ready: copied as it is, some workload takes it."""

from __future__ import annotations

import pytest

from ownward.cli._serve import _announce, request_that_is_served
from ownward.gateway import GatewaySettings
from ownward.plan import loads

PLAN = """\
schema = "ownward.plan/1"
name = "test"
[tiers.api]
kind = "rented"
model = "large"
provider = "example"
upstreams = [{ name = "a", url = "https://llm.example" }]
"""
MAIL = '[workloads.mail]\nlabel = "any"\nstrategy = { kind = "direct", tiers = ["api"] }\nmatch = { MATCH }\n'
REST = '[workloads.rest]\nlabel = "any"\nstrategy = { kind = "direct", tiers = ["api"] }\n'


@pytest.mark.parametrize(
    ("match", "rest", "asked"),
    [
        ('models = ["mail"]', "", ("mail", "")),
        ('models = ["mail"]', REST, ("large", "")),
        ('models = ["mail-*", "post"]', "", ("post", "")),
        ('models = ["mail-*"]', "", ("large", " -H 'x-ownward-workload: mail'")),
        ('models = ["mail"], headers = { x-app = "m" }', "", ("large", " -H 'x-ownward-workload: mail'")),
    ],
)
def test_it_asks_for_what_a_workload_takes(match, rest, asked):
    """The name of a tier's model is nobody's where every workload states what it takes, and is refused."""
    assert request_that_is_served(loads(PLAN + MAIL.replace("MATCH", match) + rest)) == asked


def test_it_names_a_key_where_one_is_needed(capsys):
    plan = loads(PLAN + REST)
    _announce("http://127.0.0.1:1", plan, GatewaySettings(), as_json=False)
    assert "authorization" not in capsys.readouterr().err
    _announce("http://127.0.0.1:1", plan, GatewaySettings(requires_keys=True), as_json=False)
    told = capsys.readouterr().err
    assert '-H "authorization: Bearer $KEY"' in told
    assert "ownward keys create" in told
