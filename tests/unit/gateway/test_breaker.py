"""The circuit breaker, walked edge by edge."""

from ownward.gateway.placing.breaker import CLOSED, Breaker, BreakerRules

RULES = BreakerRules(failures=3, wait_s=1.0, longest_wait_s=8.0)


def failed(times, breaker=CLOSED, now_s=10.0):
    for _ in range(times):
        breaker = breaker.after_failure(now_s, RULES)
    return breaker


def test_it_opens_after_so_many_failures_in_a_row():
    assert failed(2).state(10.0) == "closed"
    assert failed(3).state(10.0) == "open"
    assert not failed(3).allows(10.5)


def test_a_success_in_between_starts_the_count_anew():
    assert failed(2, failed(2).after_success(10.0)).state(10.0) == "closed"


def test_after_the_wait_one_probe_is_let_through():
    half_open = failed(3)
    assert half_open.state(11.0) == "half_open"
    assert half_open.allows(11.0)
    assert not half_open.after_dispatch(11.0).allows(11.0)


def test_a_successful_probe_closes_it():
    assert failed(3).after_dispatch(11.0).after_success(11.0) == CLOSED


def test_a_failed_probe_opens_it_for_twice_as_long_up_to_the_limit():
    breaker, now_s, waits = failed(3), 10.0, []
    for _ in range(6):
        waits.append(breaker.open_until_s - now_s)
        now_s = breaker.open_until_s
        breaker = breaker.after_dispatch(now_s).after_failure(now_s, RULES)
    assert waits == [1, 2, 4, 8, 8, 8]


def test_an_account_without_credit_opens_it_at_once_and_for_longer_with_each_probe():
    breaker, now_s, waits = CLOSED, 10.0, []
    for _ in range(9):
        breaker = breaker.after_unpaid(now_s, RULES)
        assert breaker.state(now_s) == "open"
        waits.append(breaker.open_until_s - now_s)
        now_s = breaker.open_until_s
        breaker = breaker.after_dispatch(now_s)
    assert waits == [8, 16, 32, 64, 128, 256, 512, 600, 600]
    assert breaker.after_success(now_s) == CLOSED


def test_other_refusals_of_an_empty_account_that_were_in_flight_do_not_prolong_the_wait():
    unpaid = CLOSED.after_unpaid(10.0, RULES)
    assert unpaid.after_unpaid(10.5, RULES) == unpaid


def test_an_empty_account_is_looked_at_again_soon_where_nothing_else_can_serve():
    unpaid = CLOSED.after_unpaid(10.0, RULES)
    assert not unpaid.allows_last(14.9)
    assert unpaid.allows_last(15.0)


def test_an_account_that_is_paid_again_may_still_ask_to_wait():
    unpaid = CLOSED.after_unpaid(10.0, RULES).after_dispatch(18.0)
    assert not unpaid.after_request_to_wait(18.0, 2.0, RULES).is_unpaid


def test_a_probe_that_teaches_nothing_leaves_room_for_the_next():
    probing = failed(3).after_dispatch(11.0)
    assert probing.after_nothing_learned().allows(11.0)


def test_failures_of_requests_from_before_do_not_prolong_the_wait():
    opened = failed(3)
    assert failed(5, opened, now_s=10.5).open_until_s == opened.open_until_s


def test_successes_of_requests_from_before_do_not_close_it():
    assert failed(3).after_success(10.5).state(10.5) == "open"


def test_an_upstream_that_asks_to_wait_is_left_alone_for_so_long():
    waiting = CLOSED.after_request_to_wait(10.0, 5.0, RULES)
    assert not waiting.allows(14.9)
    assert waiting.allows(15.0)
    assert CLOSED.after_request_to_wait(10.0, 3600.0, RULES).open_until_s == 18.0


def test_a_dispatch_to_a_closed_one_is_no_probe():
    assert CLOSED.after_dispatch(1.0) is CLOSED
    assert Breaker(failures=2).after_dispatch(1.0) == Breaker(failures=2)


def test_a_probe_without_an_answer_makes_room_for_another():
    probing = failed(3).after_dispatch(11.0)
    assert not probing.allows(20.9)
    assert probing.allows(21.0)


def long_open():
    """Return a breaker that failed probe after probe, and when it opened last."""
    breaker, now_s = failed(3), 10.0
    for _ in range(8):
        now_s = breaker.open_until_s
        breaker = breaker.after_dispatch(now_s).after_failure(now_s, RULES)
    assert breaker.open_until_s == now_s + 8
    return breaker, now_s


def test_the_last_candidate_is_tried_again_after_a_quarter_of_a_second_however_often_it_failed():
    breaker, opened_s = long_open()
    assert not breaker.allows(opened_s + 0.25)
    assert not breaker.allows_last(opened_s + 0.24)
    assert breaker.allows_last(opened_s + 0.25)
    assert breaker.last_allowed_s() == opened_s + 0.25
    probing = breaker.after_dispatch(opened_s + 0.5)
    assert not probing.allows_last(opened_s + 1.4), "one at a time"
    assert probing.allows_last(opened_s + 1.5), "and the next after a second: answers of models take longer"
    assert probing.after_success(opened_s + 1.5) == CLOSED


def test_a_probe_before_the_wait_is_over_leaves_it_as_it_was_where_it_fails():
    """Else one workload's only upstream would be left alone by all others for ever longer."""
    breaker, opened_s = long_open()
    again = breaker.after_dispatch(opened_s + 0.5).after_failure(opened_s + 0.75, RULES)
    assert (again.open_until_s, again.opened) == (breaker.open_until_s, breaker.opened)
    assert not again.allows_last(opened_s + 0.99)
    assert again.allows_last(opened_s + 1.0)
    late = breaker.after_dispatch(opened_s + 7.9).after_failure(opened_s + 8.1, RULES)
    assert late.open_until_s == opened_s + 16.1, "the wait was over by then"


def test_probes_that_teach_nothing_are_no_more_often_than_those_that_fail():
    """Such as those of clients that leave, or of an upstream that is busy."""
    breaker, opened_s = long_open()
    untold = breaker.after_dispatch(opened_s + 0.5).after_nothing_learned()
    assert not untold.allows_last(opened_s + 0.7)
    assert untold.allows_last(opened_s + 0.75)


def test_no_request_without_another_candidate_is_refused_for_a_probe_that_is_out():
    """Answers of models take seconds; an upstream that is back would turn everybody away for as long as its first."""
    probing = failed(3).after_dispatch(11.0)
    assert not probing.allows(11.1)
    assert probing.allows_last(11.1)
    second = probing.after_dispatch(11.1)
    assert second.after_success(12.0) == CLOSED
    reopened = second.after_failure(12.0, RULES)
    assert reopened.open_until_s == 14.0
    assert reopened.after_failure(12.1, RULES).open_until_s == 14.0, "both were out: it opens once"


def test_once_the_wait_that_was_asked_for_is_over_everybody_is_let_through():
    waited = CLOSED.after_request_to_wait(10.0, 5.0, RULES).after_dispatch(15.0)
    assert waited.state(15.0) == "closed"
    assert waited.allows(15.0)
    assert waited.after_dispatch(15.0).allows(15.0), "it never failed: none of them is a probe"
    assert waited.after_failure(15.1, RULES).allows(15.1), "nor does its first failure open it"
    assert failed(3, waited, now_s=15.1).state(15.1) == "open"
    assert waited.after_request_to_wait(15.1, 2.0, RULES).state(16.0) == "open"
    assert waited.after_success(16.0) == CLOSED


def test_a_request_that_all_others_failed_may_try_what_is_left_alone_for_failing():
    breaker, opened_s = long_open()
    assert breaker.allows_after_others(opened_s + 0.1)
    assert not CLOSED.after_request_to_wait(10.0, 8.0, RULES).allows_after_others(17.9)
    assert CLOSED.after_request_to_wait(10.0, 8.0, RULES).allows_after_others(18.0)
    assert not CLOSED.after_unpaid(10.0, RULES).allows_after_others(17.9)


def test_an_upstream_that_asks_to_wait_is_not_tried_even_as_the_last():
    waiting = CLOSED.after_request_to_wait(10.0, 8.0, RULES)
    assert not waiting.allows_last(17.9)
    assert waiting.allows_last(18.0)
    assert waiting.last_allowed_s() == 18.0


def test_a_later_shorter_wait_does_not_shorten_the_one_that_was_asked_for():
    asked = CLOSED.after_request_to_wait(10.0, 6.0, RULES).after_request_to_wait(11.0, 1.0, RULES)
    assert asked.open_until_s == 16.0
    assert asked.after_request_to_wait(12.0, 5.0, RULES).open_until_s == 17.0


def test_the_time_that_a_refusal_names_is_when_a_last_resort_is_let_through():
    """Whatever stands in the way: the wait itself, the five seconds, or a probe that has no answer yet."""
    opened = failed(3)
    often = opened
    for _ in range(6):
        often = often.after_dispatch(often.open_until_s).after_failure(often.open_until_s, RULES)
    asked = CLOSED.after_request_to_wait(10.0, 6.0, RULES)
    for breaker in (opened, often, asked, opened.after_dispatch(11.0), often.after_dispatch(often.open_until_s)):
        named_s = breaker.last_allowed_s()
        assert breaker.allows_last(named_s)
        assert not breaker.allows_last(named_s - 0.001)


def test_what_another_process_was_told_to_wait_holds_here_and_a_shorter_wait_changes_nothing():
    opened = failed(3, now_s=10.0)
    waiting = CLOSED.after_request_to_wait(10.0, 5.0, RULES)
    assert CLOSED.after_hearing(waiting, 10.0) == waiting
    assert failed(2).after_hearing(opened, 10.0) == opened
    assert opened.after_hearing(waiting, 10.0) == waiting
    assert waiting.after_hearing(opened, 10.0) == waiting


def test_another_process_s_probe_is_the_only_one_until_it_is_given_up():
    opened = failed(3)
    probed = opened.after_dispatch(11.0)
    assert not opened.after_hearing(probed, 11.0).allows(11.1)
    assert probed.after_hearing(probed.after_nothing_learned(), 11.2).allows(11.3)


def test_a_success_elsewhere_closes_unless_it_opened_here_since():
    opened = failed(3, now_s=10.0)
    assert opened.after_hearing(CLOSED, 10.5) == CLOSED
    assert opened.after_hearing(CLOSED, 9.5) == opened
    assert failed(2).after_hearing(CLOSED, 10.5) == CLOSED


def test_counted_failures_are_no_news_and_every_change_of_state_is():
    opened = failed(3)
    assert not failed(2).is_news_after(CLOSED)
    assert not failed(4).is_news_after(opened)
    for now, before in [
        (opened, failed(2)),
        (opened.after_dispatch(11.0), opened),
        (opened, opened.after_dispatch(11.0)),
        (CLOSED, opened.after_dispatch(11.0)),
        (opened.after_request_to_wait(10.0, 0.5, RULES), opened),
    ]:
        assert now.is_news_after(before)
