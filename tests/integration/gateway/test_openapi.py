"""The document of the endpoint says what the endpoint does, and what it allows is answered without a fault."""

from __future__ import annotations

import asyncio
import importlib
import re
from pathlib import Path

import pytest

from ownward.gateway import endpoints
from ownward.gateway.openapi import build_document

ROOT = Path(__file__).resolve().parents[3]
_NAMED = {"{name}": "chat", "{task}": "t-1", "{response}": "resp_1"}


def test_every_path_of_the_document_is_served_with_its_methods_and_no_other(lab, start):
    async def main():
        async with start(lab.plan_of(lab.tier("a", "http://127.0.0.1:9"))) as running:
            told = await running.ask("/openapi.json")
            assert (told.status, told.json) == (200, build_document())
            for path, item in told.json["paths"].items():
                asked = re.sub(r"\{\w+\}", lambda found: _NAMED[found[0]], path)
                refused = await running.ask(asked, method="PATCH", headers={"content-length": "0"})
                assert refused.status == 405, path
                methods = {method.lower() for method in refused.headers["allow"].split(", ")} - {"head"}
                assert methods == set(item), path
            gone = await running.ask("/openapi.yaml")
            assert (gone.status, "openapi.json" in gone.body.decode()) == (404, True)

    asyncio.run(main())


def test_every_endpoint_stands_in_the_document_and_on_the_page():
    paths = build_document()["paths"]
    page = (ROOT / "docs" / "reference" / "gateway.md").read_text(encoding="utf-8")
    assert set(endpoints.ENDPOINTS) <= set(paths)
    for path in paths:
        assert re.sub(r"/\{\w+\}.*", "", path) in page


def test_the_headers_of_ours_in_the_document_are_those_on_the_page():
    page = (ROOT / "docs" / "reference" / "gateway.md").read_text(encoding="utf-8")

    def names_under(heading):
        section = page.partition(f"## {heading}\n")[2].partition("\n## ")[0]
        rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
        return set(re.findall(r"`(x-ownward-[a-z-]+)`", " ".join(rows)))

    components = build_document()["components"]
    asked = {told["name"] for told in components["parameters"].values() if told["name"].startswith("x-ownward-")}
    assert asked == names_under("Request headers")
    assert set(components["headers"]) == names_under("Answer headers")


def test_a_model_is_told_in_the_form_that_the_document_states_for_each_dialect(lab, start):
    async def main():
        schemas = build_document()["components"]["schemas"]
        async with start(lab.plan_of(lab.tier("a", "http://127.0.0.1:9"))) as running:
            for name, headers in (("Model", {}), ("AnthropicModel", {"anthropic-version": "2023-06-01"})):
                told = await running.ask("/v1/models/chat", headers=headers)
                assert set(told.json) == set(schemas[name]["properties"])

    asyncio.run(main())


def test_every_reference_of_the_document_leads_somewhere():
    document = build_document()

    def walk(value):
        if isinstance(value, dict):
            if "$ref" in value:
                found = document
                for part in value["$ref"].removeprefix("#/").split("/"):
                    found = found[part]
            for item in value.values():
                walk(item)
        elif isinstance(value, list):
            for item in value:
                walk(item)

    walk(document)


def test_it_needs_no_key(lab, start):
    async def main():
        settings = lab.GatewaySettings(port=0, drain_s=1, requires_keys=True)
        async with start(lab.plan_of(lab.tier("a", "http://127.0.0.1:9")), settings=settings) as running:
            assert (await running.ask("/openapi.json")).status == 200
            assert (await running.ask("/v1/models")).status == 401

    asyncio.run(main())


@pytest.mark.filterwarnings("ignore")  # of the fuzzer's own dependencies
def test_whatever_the_document_allows_or_forbids_is_answered_without_a_fault(monkeypatch):
    """A slice of `python -m benchmarks.endpoint_fuzz`."""
    pytest.importorskip("schemathesis", reason="the endpoint is fuzzed with schemathesis, of the extra [dev]")
    monkeypatch.syspath_prepend(str(ROOT))
    counts = importlib.import_module("benchmarks.endpoint_fuzz").fuzz(150, first_seed=1)
    assert counts["200"] > 0
    assert counts["400"] > 0
    assert counts["404"] > 0
