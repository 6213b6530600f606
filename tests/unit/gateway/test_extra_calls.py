"""How many further calls requests may add."""

from ownward.gateway.placing.extra_calls import ExtraCalls


def test_what_is_given_back_never_exceeds_what_can_be_saved() -> None:
    calls = ExtraCalls(fraction=0.5, burst=2)
    calls.give_back()
    assert [calls.try_take() for _ in range(3)] == [True, True, False]


def test_a_purse_lets_a_fraction_through_and_holds_a_burst() -> None:
    calls = ExtraCalls(fraction=0.5, burst=2)
    assert [calls.try_take() for _ in range(3)] == [True, True, False]
    calls.deposit()
    assert not calls.try_take()
    calls.deposit()
    assert calls.try_take()
    for _ in range(100):
        calls.deposit()
    assert [calls.try_take() for _ in range(3)] == [True, True, False]
