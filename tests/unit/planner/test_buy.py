"""What to buy for a budget."""

import itertools
from dataclasses import replace
from datetime import date
from decimal import Decimal

from ownward import anatomy, catalog
from ownward.planner import Advice, advise

AT = date(2026, 11, 21)


def _advise(budget: int, *, names: tuple[str, ...] = ("qwen3-30b-a3b",), **asked: object) -> Advice:
    found = [anatomy.from_config(catalog.model(name).load_config(), name=catalog.model(name).name) for name in names]
    return advise(found, machines=catalog.machines(), budget_usd=Decimal(budget), at=AT, **asked)  # type: ignore[arg-type]


def test_nothing_costs_more_than_the_budget_and_everything_fits() -> None:
    advice = _advise(3000)
    assert advice.purchases
    assert all(one.total_usd <= 3000 for one in advice.purchases)
    assert all(one.option.fits for one in advice.purchases)


def test_what_costs_more_gives_better_weights_or_more_speed() -> None:
    purchases = _advise(3000).purchases
    for cheap, dear in itertools.pairwise(purchases):
        assert cheap.total_usd <= dear.total_usd
        better_weights = dear.option.bits > cheap.option.bits
        faster = (dear.option.decode_tokens_per_s.value or 0) > (cheap.option.decode_tokens_per_s.value or 0)
        assert better_weights or faster


def test_a_larger_budget_never_gives_less() -> None:
    def value(advice: Advice) -> tuple[float, float]:
        assert advice.best is not None
        return min(advice.best.option.bits, 6.5), advice.best.option.decode_tokens_per_s.value or 0.0

    assert value(_advise(1500)) <= value(_advise(3000)) <= value(_advise(12000))


def test_a_card_needs_a_computer_and_a_whole_machine_does_not() -> None:
    for one in _advise(5000).purchases:
        assert (one.host_usd > 0) == (one.machine.kind != "soc-unified")


def test_what_has_no_price_is_named_and_not_taken_as_free() -> None:
    advice = _advise(3000)
    assert advice.unpriced
    assert all(option.conditions.machine.price_usd is None for option in advice.unpriced)
    assert not {one.machine.id for one in advice.purchases} & {o.conditions.machine.id for o in advice.unpriced}


def test_a_budget_too_small_names_the_cheapest_that_does() -> None:
    advice = _advise(400)
    assert advice.purchases == ()
    assert advice.best is None
    assert advice.above_budget is not None
    assert advice.above_budget.total_usd > 400


def test_modules_for_a_server_board_are_not_advised() -> None:
    advice = _advise(60_000)
    assert not [one for one in advice.purchases if "SXM" in one.machine.name]


def test_with_merits_the_better_model_wins_where_the_money_runs_it() -> None:
    names = ("qwen3-0.6b", "qwen3-32b")
    merits = {"Qwen3-0.6B": 1.0, "Qwen3-32B": 30.0}
    assert _advise(3000, names=names, merits=merits).best is not None
    assert _advise(3000, names=names, merits=merits).best.option.model == "Qwen3-32B"  # type: ignore[union-attr]


def test_a_dearer_twin_is_left_out() -> None:
    machine = catalog.machine("RTX 3090")
    assert machine.price_usd is not None
    twin = replace(machine, id="twin", name="Twin", price_usd=replace(machine.price_usd, value=Decimal(900)))
    release = catalog.model("qwen3-8b")
    found = anatomy.from_config(release.load_config(), name=release.name)
    advice = advise([found], machines=[twin, machine], budget_usd=Decimal(3000), at=AT)
    assert {one.machine.id for one in advice.purchases} == {machine.id}
