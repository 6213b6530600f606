"""How many further calls requests may add."""

from ownward.gateway.placing.purse import Purse


def test_what_is_given_back_never_exceeds_what_can_be_saved() -> None:
    purse = Purse(fraction=0.5, burst=2)
    purse.give_back()
    assert [purse.try_take() for _ in range(3)] == [True, True, False]


def test_a_purse_lets_a_fraction_through_and_holds_a_burst() -> None:
    purse = Purse(fraction=0.5, burst=2)
    assert [purse.try_take() for _ in range(3)] == [True, True, False]
    purse.deposit()
    assert not purse.try_take()
    purse.deposit()
    assert purse.try_take()
    for _ in range(100):
        purse.deposit()
    assert [purse.try_take() for _ in range(3)] == [True, True, False]
