"""Applications told apart by the fixed part of what they send, without keeping a word of it."""

from __future__ import annotations

import io
import json
import random
from collections import Counter, defaultdict
from itertools import permutations

import pytest

from ownward.core import as_name, is_name
from ownward.traffic import Sketcher, TrafficRecord, discover, read

# Made-up words in a natural frequency: the n-th is used about 1 / n times as often as the first.
NAMES = ["Bob", "Eve", "Zoe"]
SYLLABLES = ["ba", "ke", "li", "mo", "nu", "ra", "se", "ti", "vo", "zu"]
VOCABULARY = [first + middle + last for first in SYLLABLES for middle in SYLLABLES for last in ("", "n", "s", "t")]
WEIGHTS = [1 / rank for rank in range(1, len(VOCABULARY) + 1)]


def make_texts(seed: int):
    rng = random.Random(seed)
    return rng, lambda: " ".join(rng.choices(VOCABULARY, WEIGHTS, k=rng.randint(3, 14)))


def applications(seed: int):
    rng, text = make_texts(seed)
    user = lambda content: [{"role": "user", "content": content}]  # noqa: E731
    system = lambda words, content: [{"role": "system", "content": words}, *user(content)]  # noqa: E731
    weather = [{"type": "function", "function": {"name": "get_weather", "parameters": {"properties": {"city": {}}}}}]
    return {
        "free": lambda: {"messages": user(text())},
        "prefix": lambda: {
            "messages": user(f"Classify the message below into one of 77 intents.\n\nMessage: {text()}")
        },
        "suffix": lambda: {"messages": user(f"{text()}\n\nTranslate the text above into French, and keep names.")},
        "dated": lambda: {
            "messages": system(
                f"You are the assistant of {rng.choice(NAMES)}. Today is {rng.randint(1, 28)} March 2026."
                " Help with bookings, be brief and polite.",
                text(),
            )
        },
        "document": lambda: {
            "messages": system(
                "You answer questions about the document below and use nothing else.\n\n"
                + " ".join(text() for _ in range(20)),
                text(),
            )
        },
        "tools": lambda: {"messages": system("You are a helpful assistant.", text()), "tools": weather},
        "bare": lambda: {"messages": system("You are a helpful assistant.", text())},
        "schema": lambda: {
            "messages": user(text()),
            "response_format": {"type": "json_schema", "json_schema": {"name": "slots", "schema": {}}},
        },
    }


def run(seed: int, count: int, names=None, **options):
    apps = applications(seed)
    rng = random.Random(seed + 1)
    truth, lines = [], []
    for index in range(count):
        name = rng.choice(names or list(apps))
        truth.append(name)
        usage = {"prompt_tokens": 10, "completion_tokens": 5}
        body = {"model": "gpt-4o", **apps[name]()}
        lines.append(json.dumps({"request": body, "response": {"id": f"r{index}", "usage": usage}}))
    found = discover(read(io.BytesIO("\n".join(lines).encode())), **options)
    return truth, list(found), found.workloads


def test_eight_applications_are_found_as_eight_workloads() -> None:
    truth, records, workloads = run(1, 1500)
    groups = defaultdict(Counter)
    for name, record in zip(truth, records, strict=True):
        groups[name][record.workload] += 1
    dominant = {name: counts.most_common(1)[0][0] for name, counts in groups.items()}
    assert len(set(dominant.values())) == 8
    right = sum(counts[dominant[name]] for name, counts in groups.items())
    assert right / len(truth) > 0.99
    assert sum(one.requests for one in workloads) == 1500


def test_ids_are_the_same_for_another_month_of_the_same_applications() -> None:
    names = ["prefix", "dated", "tools", "schema"]
    first = {one.id for one in run(1, 400, names)[2]}
    second = {one.id for one in run(77, 400, names)[2]}
    assert first == second


def test_what_comes_after_the_sample_is_matched_to_what_was_learnt() -> None:
    _, _, small = run(3, 600, ["prefix", "dated", "tools"], sample=150)
    _, _, whole = run(3, 600, ["prefix", "dated", "tools"])
    assert {(one.id, one.requests) for one in small} == {(one.id, one.requests) for one in whole}


def test_free_text_alone_is_one_workload_without_a_ground() -> None:
    _, _, workloads = run(5, 400, ["free"])
    assert [(one.id, one.basis) for one in workloads] == [("model:gpt-4o", "none")]


def test_a_declared_workload_is_kept() -> None:
    record = TrafficRecord(source_row_id="1", input_tokens=1, output_tokens=1, workload="helpdesk")
    found = discover([record])
    assert [one.workload for one in found] == ["helpdesk"]
    assert found.workloads[0].basis == "declared"


def test_names_come_from_schema_tools_and_model() -> None:
    _, _, workloads = run(1, 300, ["tools", "schema", "bare"])
    assert {one.name.rsplit("-", 1)[0] for one in workloads} == {"get_weather", "slots", "gpt-4o"}


def test_no_word_of_a_prompt_is_kept() -> None:
    _, records, workloads = run(9, 200)
    kept = repr(records) + repr(workloads)
    assert not [word for word in (*VOCABULARY[40:80], "Classify", "Translate", "assistant") if word in kept]
    assert all(record.sketch is None for record in records)


TEMPLATE = "Summarise the following ticket for an engineer who has not seen it before, in three plain sentences: "


@pytest.mark.parametrize(
    "body_of",
    [
        lambda text: {"messages": [{"role": "user", "content": text}]},
        lambda text: {"input": text},
        lambda text: {"input": [{"role": "user", "content": [{"type": "input_text", "text": text}]}]},
        lambda text: {"prompt": text},
    ],
    ids=["chat", "response", "response of parts", "completion"],
)
def test_a_prompt_without_a_system_text_is_known_by_its_beginning_in_every_dialect(body_of) -> None:
    sketcher = Sketcher()
    one, same, other = (
        sketcher.sketch(body_of(text))
        for text in (TEMPLATE + "The printer burns.", TEMPLATE + "Nobody answers.", "Translate this into French: hello")
    )
    assert one is not None
    assert same is not None
    assert other is not None
    shared = len(set(one.opening) & set(same.opening)) / len(one.opening)
    assert shared > 0.7
    assert set(one.opening).isdisjoint(other.opening)


@pytest.mark.parametrize("body", [{}, {"prompt": ""}, {"prompt": [1, 2]}, {"input": None}])
def test_a_body_without_a_prompt_has_no_sketch(body) -> None:
    assert Sketcher().sketch(body) is None


def test_names_in_another_script_are_told_apart_where_a_plan_takes_none_of_their_letters() -> None:
    """Two kinds of work under one name would be counted, priced and placed as one, and nobody would be told."""
    stated = {"".join(pair) for pair in permutations("客服问答退款订单物流发票质检翻译摘要分类标签检索推荐写作代码", 2)}
    assert len(stated) > 500
    names = {as_name(text) for text in stated}
    assert len(names) == len(stated)
    assert all(map(is_name, names))
