"""The tables are computed anew and the sentences around them hold for what they show."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from scripts import published_claims as claims

PAGE = Path(__file__).resolve().parents[2] / "docs" / "explanation" / "published-claims.md"
MODELS = claims.read_models()
MACHINE, COUNT = claims.NODES[0]


def test_the_tables_are_what_is_computed_today() -> None:
    text = PAGE.read_text("utf-8")
    written = re.search(
        r"<!-- generated: published-claims -->\n(.*)\n<!-- end of published-claims -->", text, re.DOTALL
    )
    assert written is not None
    assert written[1].strip() == claims.claims_tables().strip(), "run: python -m scripts.generate_docs"


@pytest.mark.parametrize("context", claims.CONTEXTS)
@pytest.mark.parametrize(("machine", "count"), claims.NODES)
def test_against_the_older_model_the_claims_are_right_to_within_a_factor_of_two(
    context: int, machine: str, count: int
) -> None:
    found = claims.ratio(MODELS[claims.NEW], MODELS[claims.OLD], machine, count, context, apart=True)
    assert found is not None
    assert 0.5 <= found / claims.CLAIMED[claims.OLD, context] <= 2


@pytest.mark.parametrize(("machine", "count"), claims.NODES)
def test_the_gap_is_wider_at_the_longer_context(machine: str, count: int) -> None:
    short, long = (
        claims.ratio(MODELS[claims.NEW], MODELS[claims.OLD], machine, count, context) for context in claims.CONTEXTS
    )
    assert short is not None
    assert long is not None
    assert short < long


def test_ours_is_near_the_claim_at_the_shorter_context_and_below_it_at_the_longer() -> None:
    for machine, count in claims.NODES:
        short, long = (
            claims.ratio(MODELS[claims.NEW], MODELS[claims.OLD], machine, count, context, apart=True)
            for context in claims.CONTEXTS
        )
        assert short is not None
        assert long is not None
        assert short == pytest.approx(claims.CLAIMED[claims.OLD, claims.CONTEXTS[0]], rel=0.3)
        assert long < claims.CLAIMED[claims.OLD, claims.CONTEXTS[1]]


def test_a_sequence_takes_a_fifth_to_a_sixth_of_the_older_models_cache() -> None:
    for context in claims.CONTEXTS:
        new, old = (
            claims.full_node(MODELS[name], MACHINE, COUNT, context).bytes_a_sequence
            for name in (claims.NEW, claims.OLD)
        )
        assert 1 / 6.5 <= new / old <= 1 / 5


def test_alone_and_at_a_short_context_the_advantage_is_small() -> None:
    new, old = (claims.step_s(MODELS[name], MACHINE, COUNT, 1, 8192) for name in (claims.NEW, claims.OLD))
    assert old / new < 1.5


def test_layers_and_parameters_are_as_the_page_says() -> None:
    new, old = MODELS[claims.NEW], MODELS[claims.OLD]
    assert {part.kind: part.count for part in new.layers}["gated_delta_net"] == 45
    assert new.layer_count == 60
    assert old.layer_count == 94
    assert round(new.active_params_per_token / 1e9) == 17
    assert round(old.active_params_per_token / 1e9) == 22


def test_the_trillion_leaves_room_for_few_sequences() -> None:
    held = [
        claims.full_node(MODELS[claims.TRILLION], machine, count, claims.CONTEXTS[1]).sequences
        for machine, count in claims.NODES
    ]
    assert max(held) <= 8
    assert min(held) == 0
    assert MODELS[claims.TRILLION].total_live_params > 1e12


def test_heads_kept_again_cost_the_newer_model_more() -> None:
    for context in claims.CONTEXTS:
        together, apart = (
            claims.ratio(MODELS[claims.NEW], MODELS[claims.OLD], MACHINE, COUNT, context, apart=apart)
            for apart in (False, True)
        )
        assert together is not None
        assert apart is not None
        assert together < apart


def test_how_a_model_is_served_is_worth_a_factor_of_two_to_five() -> None:
    for name in (claims.NEW, claims.TRILLION):
        for context in claims.CONTEXTS:
            together, apart = (
                claims.full_node(MODELS[name], MACHINE, COUNT, context, apart=apart).tokens_per_s
                for apart in (False, True)
            )
            assert together is not None
            assert apart is not None
            assert 2 <= apart / together <= 5
