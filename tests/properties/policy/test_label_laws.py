"""Labels are a meet-semilattice, and meeting is intersecting."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from ownward.policy import ANY, LOCAL_ONLY, Label, Place, effective_label

REGIONS = ("eu", "us", "de")
PROVIDERS = ("mistral", "openai")
PLACES = [
    Place(is_local=is_local, is_on_site=is_on_site, region=region, provider=provider)
    for is_local, is_on_site in ((True, True), (False, True), (False, False))
    for region in (None, *REGIONS)
    for provider in (None, *PROVIDERS)
]
ATOMS = [*REGIONS, *(f"provider:{name}" for name in PROVIDERS)]
ATOMS += [f"{region}+provider:{provider}" for region in REGIONS for provider in PROVIDERS]
ATOMS += ["site", "site+eu", "provider:mistral+site", "us+site+provider:openai"]

labels = st.one_of(
    st.sampled_from([LOCAL_ONLY, ANY]), st.lists(st.sampled_from(ATOMS), min_size=1, max_size=5).map(Label.parse)
)


def reach(label: Label) -> frozenset[Place]:
    return frozenset(place for place in PLACES if label.permits(place))


@given(labels, labels)
def test_a_meet_permits_what_both_permit(a, b):
    assert reach(a.meet(b)) == reach(a) & reach(b)


@given(labels, labels, labels)
def test_meeting_is_associative_commutative_and_idempotent(a, b, c):
    assert a.meet(b) == b.meet(a)
    assert a.meet(b).meet(c) == a.meet(b.meet(c))
    assert a.meet(a) == a


@given(labels)
def test_local_only_is_the_bottom_and_any_the_top(a):
    assert a.meet(LOCAL_ONLY) == LOCAL_ONLY
    assert a.meet(ANY) == a
    assert LOCAL_ONLY <= a <= ANY


@given(labels, labels)
def test_equal_reach_is_equality(a, b):
    # One region and one provider more than the labels can name stand for all others.
    wider = [
        Place(is_on_site=is_on_site, region=region, provider=provider)
        for is_on_site in (True, False)
        for region in (None, *REGIONS, "elsewhere")
        for provider in (None, *PROVIDERS, "other")
    ]
    assert (a == b) == all(a.permits(place) == b.permits(place) for place in wider)


@given(labels)
def test_every_label_reads_back_from_its_text(a):
    assert Label.parse(str(a)) == a
    assert eval(repr(a)) == a


@given(st.none() | labels, st.lists(st.none() | labels, max_size=4))
def test_headers_keys_and_detectors_only_shrink(stated, others):
    label = effective_label(stated, *others)
    assert label <= (stated or LOCAL_ONLY)
    assert all(label <= other for other in others if other is not None)


def test_this_machine_is_inside_every_label_exhaustively():
    texts = ["local_only", "any", *ATOMS, *("|".join(pair) for pair in itertools.combinations(ATOMS, 2))]
    here = [place for place in PLACES if place.is_local]
    for one, other in itertools.product(texts, repeat=2):
        label = Label.parse(one).meet(Label.parse(other))
        assert all(label.permits(place) for place in here)
        assert reach(label) == reach(Label.parse(one)) & reach(Label.parse(other))
