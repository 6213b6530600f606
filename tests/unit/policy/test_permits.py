from __future__ import annotations

import copy
import hashlib
import pickle

import pytest

from ownward.core import PolicyRefusal, UsageError
from ownward.policy import ANY, LOCAL_ONLY, Label, Origin, Permit, Place, issue_permit

EU = Place(region="eu", provider="mistral")


def issue(**changes):
    given = {"label": ANY, "place": EU, "upstream": "mistral", "origin": "https://api.mistral.ai/v1", "body": b"{}"}
    return issue_permit(**{**given, **changes})


def test_a_permit_states_label_upstream_origin_and_digest():
    permit = issue()
    assert (permit.label, permit.place, permit.upstream) == (ANY, EU, "mistral")
    assert str(permit.origin) == "https://api.mistral.ai"
    assert permit.body_sha256 == hashlib.sha256(b"{}").hexdigest()


def test_a_permit_covers_its_body_and_no_other():
    permit = issue(body=b"{}")
    assert permit.covers(b"{}")
    assert permit.covers(bytes(bytearray(b"{}")))
    assert not permit.covers(b"{} ")
    assert not permit.covers(b"")


def test_a_body_changed_after_the_permit_was_issued_is_not_covered():
    body = bytearray(b"one")
    permit = issue(body=body)
    body[:] = b"two"
    assert not permit.covers(body)
    assert permit.covers(b"one")


@pytest.mark.parametrize(
    ("label", "place"),
    [
        (LOCAL_ONLY, EU),
        (Label.parse("us"), EU),
        (Label.parse("provider:openai"), EU),
        (Label.parse("eu"), Place(provider="mistral")),
        (Label.parse("eu"), Place()),
    ],
)
def test_no_permit_is_issued_for_a_place_the_label_forbids(label, place):
    with pytest.raises(PolicyRefusal):
        issue(label=label, place=place)


@pytest.mark.parametrize(
    ("place", "line"),
    [
        (EU, 'label = "eu"'),
        (Place(provider="mistral"), 'label = "provider:mistral"'),
        (Place(), 'region = "eu"'),
    ],
)
def test_the_refusal_says_which_label_which_upstream_and_which_line_to_write(place, line):
    with pytest.raises(PolicyRefusal) as refused:
        issue(label=LOCAL_ONLY, place=place, workload="mail")
    text = str(refused.value)
    assert all(part in text for part in ('"local_only"', '"mistral"', "[workloads.mail]", line, "Nothing was sent"))


def test_permits_are_made_changed_copied_and_unpickled_by_nobody():
    permit = issue()
    with pytest.raises(TypeError, match="issue_permit"):
        Permit(label=ANY, place=EU, upstream="a", origin="http://a", body_sha256="0" * 64)
    for attempt in (
        lambda: setattr(permit, "label", ANY),
        lambda: setattr(permit, "new", 1),
        lambda: delattr(permit, "label"),
    ):
        with pytest.raises(AttributeError):
            attempt()
    for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError):
            attempt(permit)


def test_a_permits_repr_shows_nothing_of_the_body():
    assert "canary" not in repr(issue(body=b"canary"))


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("http://127.0.0.1:8080/v1", "http://127.0.0.1:8080"),
        ("HTTPS://API.Example.COM", "https://api.example.com"),
        ("https://a.example:443/x?y", "https://a.example"),
        ("http://a.example:80", "http://a.example"),
        ("http://[::1]:9000", "http://[::1]:9000"),
    ],
)
def test_an_origin_has_one_spelling(url, origin):
    assert str(Origin.parse(url)) == origin
    assert str(Origin.parse(origin)) == origin


@pytest.mark.parametrize(
    "url",
    [
        *("", "api.example.com", "ftp://a", "http://", "http://user:pa55@a.example", "http://a b", "http://a:99999"),
        *("file:///x", "http://a\r\nhost: b", "http://a\nb", "https://exa_mple\\.com", "http://a.example:0x50"),
    ],
)
def test_what_is_no_origin_is_refused_without_showing_it(url):
    with pytest.raises(UsageError) as refused:
        Origin.parse(url)
    assert "pa55" not in str(refused.value)
