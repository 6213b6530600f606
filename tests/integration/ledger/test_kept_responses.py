"""Responses that clients continue: whole conversations for their owner alone, bounded, and deleted for good."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ledger_rows import usual_request
from ownward import ledger
from ownward.core import LedgerError, ManualClock
from ownward.ledger import KeptResponse

START = datetime(2026, 11, 21, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def clock():
    return ManualClock(START)


@pytest.fixture
def opened(target, clock):
    with ledger.open(target, clock=clock) as found:
        request = usual_request("req_1", at=START)
        found.refuse(request, reason="only for its row", status=400)
        found.flush_blocking()
        yield found


def kept(name, previous=None, *, owner="key:a", at=START, for_=HOUR, answer=b'{"output":[]}'):
    return KeptResponse(
        response_id=name,
        owner=owner,
        request_id="req_1",
        previous_id=previous,
        label="eu",
        origin="here",
        items_json=b"[]",
        answer_json=answer,
        kept_at=at,
        expires_at=at + for_,
    )


def keep(opened, *responses, most_responses=100, most_bytes=1 << 20):
    return [opened.keep_response(one, most_responses=most_responses, most_bytes=most_bytes) for one in responses]


def names(opened, response_id, owner="key:a"):
    return [one.response_id for one in opened.query_conversation(response_id, owner=owner)]


def test_a_conversation_is_what_leads_to_a_response_and_branches_stay_apart(opened):
    keep(opened, kept("1"), kept("2", "1"), kept("3", "2"), kept("2b", "1"))
    assert names(opened, "3") == ["1", "2", "3"]
    assert names(opened, "2b") == ["1", "2b"]
    assert opened.query_conversation("3", owner="key:a")[-1] == kept("3", "2")


def test_nobody_else_reads_continues_or_deletes_it(opened):
    keep(opened, kept("1"), kept("theirs", "1", owner="key:b"))
    assert names(opened, "1", owner="key:b") == []
    assert names(opened, "1", owner="") == []
    assert names(opened, "theirs", owner="key:b") == ["theirs"]
    assert not opened.delete_response("1", owner="key:b")
    assert names(opened, "1") == ["1"]


def test_what_is_continued_is_kept_as_long_as_what_continues_it(opened, clock):
    keep(opened, kept("1"), kept("alone"))
    clock.advance(3000)
    keep(opened, kept("2", "1", at=clock.now()))
    clock.advance(700)
    assert names(opened, "alone") == []
    assert names(opened, "2") == ["1", "2"]
    assert opened.delete_expired_bodies() == 1
    clock.advance(3000)
    assert names(opened, "2") == []
    assert not opened.delete_response("2", owner="key:a")
    clock.advance(360)  # a tenth of its time more, which spares the next turn from writing it anew
    assert names(opened, "1") == []
    assert opened.delete_expired_bodies() == 2


def test_not_every_turn_writes_all_turns_before_it_anew(opened, clock):
    keep(opened, kept("1"))

    def expiry():
        return opened.query_conversation("1", owner="key:a")[0].expires_at

    seen = []
    for number in range(2, 8):
        clock.advance(100)
        keep(opened, kept(str(number), str(number - 1), at=clock.now()))
        seen.append(expiry())
        assert expiry() >= clock.now() + HOUR
    assert len(set(seen)) == 2


def test_a_deleted_one_leaves_a_gap_that_shows(opened):
    keep(opened, kept("1"), kept("2", "1"), kept("3", "2"))
    assert opened.delete_response("2", owner="key:a")
    assert not opened.delete_response("2", owner="key:a")
    (left,) = opened.query_conversation("3", owner="key:a")
    assert left.previous_id == "2"


def test_each_owner_has_so_many_and_so_many_bytes(opened):
    assert keep(opened, *(kept(str(n), at=START + timedelta(seconds=n)) for n in range(5)), most_responses=3) == [
        0, 0, 0, 1, 1,
    ]  # fmt: skip
    keep(opened, kept("other", owner="key:b"), most_responses=3)
    assert [name for name in "01234" if names(opened, name)] == ["2", "3", "4"]
    big = kept("big", at=START + timedelta(seconds=9), answer=b"x" * 100)
    assert keep(opened, big, most_bytes=140) == [1]
    assert [name for name in (*"01234", "big") if names(opened, name)] == ["3", "4", "big"]
    assert names(opened, "other", owner="key:b") == ["other"]


def test_a_revoked_keys_responses_are_deleted_with_it(opened):
    from ownward.ledger import owner_of

    key = opened.verify_key(opened.create_key("k"))
    keep(opened, kept("theirs", owner=owner_of(key.key_id)), kept("other"), kept("nobody's", owner=owner_of(None)))
    opened.revoke_key(key.key_id)
    assert names(opened, "theirs", owner=owner_of(key.key_id)) == []
    assert names(opened, "other") == ["other"]
    assert names(opened, "nobody's", owner="") == ["nobody's"]


def test_what_is_kept_can_be_seen(opened, target, capsys):
    from ownward.cli import run

    assert [one.count for one in opened.query_kept()] == [0, 0]
    keep(opened, kept("1"), kept("2", for_=2 * HOUR))
    opened.capture_body(request_id="req_1", attempt=None, kind="request", content=b"12345", expires_at=START + HOUR)
    bodies, responses = opened.query_kept()
    assert (bodies.count, bodies.size_bytes, bodies.first_expires_at) == (1, 5, START + HOUR)
    assert (responses.count, responses.size_bytes) == (2, 2 * kept("1").size_bytes)
    assert (responses.first_expires_at, responses.last_expires_at) == (START + HOUR, START + 2 * HOUR)
    assert run(["ledger", "show", "--ledger", target]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "kept content: 2 responses" in shown
    assert "until 2026-11-21 13:00 to 2026-11-21 14:00 UTC" in shown


def test_a_response_of_no_request_is_refused(opened):
    import dataclasses

    with pytest.raises(LedgerError):
        keep(opened, dataclasses.replace(kept("1"), request_id="req_none"))


def test_what_is_deleted_is_gone_from_the_file(tmp_path: Path, clock):
    path = tmp_path / "ledger.db"
    mark = b"CANARY-OF-THE-KEPT-RESPONSE"
    with ledger.open(path, clock=clock) as opened:
        opened.refuse(usual_request("req_1", at=START), reason="only for its row", status=400)
        keep(opened, *(kept(str(n), answer=mark * 300) for n in range(20)))
        opened.capture_body(
            request_id="req_1", attempt=None, kind="request", content=mark * 300, expires_at=START + HOUR
        )
        for number in range(19):
            assert opened.delete_response(str(number), owner="key:a")
        clock.advance(3601)
        assert opened.delete_expired_bodies() == 2
    assert mark not in b"".join(file.read_bytes() for file in tmp_path.iterdir())
