from __future__ import annotations

import pytest

from ownward.core import UsageError
from ownward.policy import ANY, LOCAL_ONLY, Label, Place, effective_label

HERE = Place(is_local=True)
EU_MISTRAL = Place(region="eu", provider="mistral")
EU_UNKNOWN = Place(region="eu")
US_OPENAI = Place(region="us", provider="openai")
NOWHERE = Place()
PLACES = (HERE, EU_MISTRAL, EU_UNKNOWN, US_OPENAI, NOWHERE)


@pytest.mark.parametrize(
    ("stated", "reached"),
    [
        ("local_only", (HERE,)),
        ("this_machine", (HERE,)),
        ("any", PLACES),
        ("eu", (HERE, EU_MISTRAL, EU_UNKNOWN)),
        (" EU ", (HERE, EU_MISTRAL, EU_UNKNOWN)),
        ("region:eu", (HERE, EU_MISTRAL, EU_UNKNOWN)),
        ("provider:openai", (HERE, US_OPENAI)),
        (["eu"], (HERE, EU_MISTRAL, EU_UNKNOWN)),
        (["provider:mistral", "us"], (HERE, EU_MISTRAL, US_OPENAI)),
        (["this_machine", "us"], (HERE, US_OPENAI)),
        ("provider:mistral|us", (HERE, EU_MISTRAL, US_OPENAI)),
        ("eu+provider:mistral", (HERE, EU_MISTRAL)),
        ("us+provider:mistral", (HERE,)),
        ("eu+us", (HERE,)),
        ("provider:openai+provider:mistral", (HERE,)),
        ("eu+eu", (HERE, EU_MISTRAL, EU_UNKNOWN)),
        ("apac", (HERE,)),
        ("mistral", (HERE,)),
    ],
)
def test_a_label_reaches_exactly_the_places_it_names(stated, reached):
    label = Label.parse(stated)
    assert tuple(place for place in PLACES if label.permits(place)) == reached
    assert Label.parse(str(label)) == label


@pytest.mark.parametrize(
    "stated",
    [
        *("", " ", "eu,us", "eu us", "any|eu", "eu|", "eu+", "any+eu", "*", "-eu", "eu/de", "e" * 65),
        *("provider:", "provider:local_only", "provider:a:b", "region:any", "planet:mars"),
        *([], [1], ["any", "eu"], ["local_only", "eu"], ["eu"] * 65),
    ],
)
def test_what_names_no_place_is_refused_with_the_allowed_forms(stated):
    with pytest.raises(UsageError) as refused:
        Label.parse(stated, where="plan.toml:3")
    assert "local_only" in refused.value.allowed
    assert "provider:mistral" in refused.value.allowed
    assert str(refused.value).startswith("plan.toml:3: ")


def test_labels_that_reach_the_same_places_are_equal():
    assert Label.parse("eu|eu+provider:mistral") == Label.parse("eu")
    assert Label.parse("eu").meet(Label.parse("us")) == LOCAL_ONLY
    assert Label.parse("eu").meet(Label.parse("provider:mistral")) == Label.parse("eu+provider:mistral")
    assert hash(Label.parse("us|eu")) == hash(Label.parse("eu|us"))


def test_nothing_stated_is_this_machine_alone_whatever_a_header_says():
    assert effective_label(None) == LOCAL_ONLY
    assert effective_label(None, ANY) == LOCAL_ONLY
    assert effective_label(Label.parse("eu"), None, ANY, None) == Label.parse("eu")
    assert effective_label(ANY, Label.parse("eu"), LOCAL_ONLY) == LOCAL_ONLY


def test_places_compare_in_lower_case_and_blank_names_are_unstated():
    assert Place(region="EU ", provider="Mistral") == EU_MISTRAL
    assert Place(region="  ") == NOWHERE
    assert not Label.parse("eu").permits(Place(region=" "))


def test_labels_are_ordered_by_the_places_they_reach():
    assert LOCAL_ONLY <= Label.parse("eu") <= Label.parse("eu|us") <= ANY
    assert not Label.parse("eu") <= Label.parse("us")
    assert LOCAL_ONLY.is_local_only
    assert not Label.parse("eu").is_local_only


@pytest.mark.parametrize("stated", ["any+eu", "eu+local_only"])
def test_a_word_that_stands_alone_is_refused_beside_others_with_that_reason(stated):
    with pytest.raises(UsageError, match="stands alone"):
        Label.parse(stated)
