"""What is suggested for a name that nobody has."""

import pytest

from ownward import catalog
from ownward.core import UnknownMachine, UnknownModel, closest


@pytest.mark.parametrize(
    ("typed", "first"),
    [
        ("deepsek-v4", "deepseek-v4-flash"),
        ("qwen3-30", "qwen3-30b-a3b"),
        ("gpt-oss-12b", "gpt-oss-120b"),
        ("lama-3.3-70b", "llama-3.3-70b"),
    ],
)
def test_a_mistyped_model_is_found(typed: str, first: str) -> None:
    with pytest.raises(UnknownModel) as caught:
        catalog.model(typed)
    assert caught.value.closest[0] == first


@pytest.mark.parametrize(
    ("typed", "among"),
    [
        ("RTX 40", "geforce-rtx-4090"),
        ("RTX 409", "geforce-rtx-4090"),
        ("H10", "h100-sxm5-80gb"),
        ("EPYC 9355", "epyc-9"),
    ],
)
def test_a_mistyped_machine_is_among_the_closest(typed: str, among: str) -> None:
    with pytest.raises(UnknownMachine) as caught:
        catalog.machine(typed)
    assert any(key.startswith(among) for key in caught.value.closest)
    assert len(set(caught.value.closest)) == len(caught.value.closest)


def test_nothing_like_it_is_not_suggested() -> None:
    assert closest("foo", ["qwen3-8b", "llama-3.1-8b"]) == ()


def test_a_brand_that_means_many_lists_the_newest_of_its_own_name_first() -> None:
    with pytest.raises(UnknownModel, match="can mean") as caught:
        catalog.model("qwen")
    assert caught.value.closest[0].startswith("qwen3.")
    assert not caught.value.closest[0].startswith("deepseek")
