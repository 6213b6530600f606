"""Models, health, metrics, outcomes, keys, and what is not served."""
# ruff: noqa: ASYNC110, SIM117 - a gateway stands inside its upstreams, and what happens in them is polled

import asyncio
import json
from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ownward.core import LedgerError
from ownward.engines import FakeOptions, FakeServer
from ownward.gateway import EngineAddress, GatewaySettings
from ownward.gateway.health import Health
from ownward.plan import Match, Strategy, Workload
from ownward.policy import ANY


def test_models_lists_workloads_tiers_and_model_ids(lab, start):
    async def main():
        async with FakeServer() as fake, start(lab.plan_of(lab.tier("a", fake.base_url))) as running:
            listed = (await running.ask("/v1/models")).json
            assert listed["object"] == "list"
            assert {entry["id"]: entry["kind"] for entry in listed["data"]} == {
                "chat": "workload",
                "a": "tier",
                "a-model": "model",
            }
            for name in ("chat", "a", "a-model"):
                assert (await running.ask(f"/v1/models/{name}")).json["id"] == name
                assert (await running.ask(body={**lab.chat(), "model": name})).status == 200
            assert (await running.ask("/v1/models/nobody")).status == 404
            anthropic = await running.ask("/v1/models", headers={"anthropic-version": "2023-06-01"})
            assert anthropic.json["data"][0]["type"] == "model"
            whole = await running.ask("/v1/models")
            async with lab.Client(running.base_url) as client:
                await client.send("/v1/models", method="HEAD")
                head = await client.head()
            assert head.status == 200
            assert head.headers["content-length"] == str(len(whole.body))
            one = await running.ask("/v1/models/chat", headers={"anthropic-version": "2023-06-01"})
            assert (one.json["type"], one.json["display_name"]) == ("model", "chat")

    asyncio.run(main())


PATTERNS = {
    "gpt": Match(models=("gpt-*",)),
    "ours": Match(models=("team-*",), headers={"x-team": "r"}),
}


@pytest.mark.parametrize(
    ("scopes", "known"),
    [
        ({}, {"gpt-5", "team-9", "chat"}),
        ({"workloads": ["gpt"]}, {"gpt-5"}),
        ({"workloads": ["ours"]}, {"team-9"}),
        ({"tiers": ["b"]}, {"chat"}),
        ({"label": "local_only"}, set()),
        (None, {"gpt-5", "team-9", "chat"}),
    ],
)
def test_a_name_that_a_pattern_of_the_plan_accepts_is_a_model_for_whoever_may_ask_for_it(lab, start, scopes, known):
    """Clients look a model up by its name before they use it, and such a name stands in no list."""
    settings = GatewaySettings(port=0, requires_keys=scopes is not None, drain_s=1)
    direct = Strategy(kind="direct", tiers=("a",))
    matched = tuple(Workload(name=name, match=match, strategy=direct, label=ANY) for name, match in PATTERNS.items())

    async def main():
        async with FakeServer() as a, FakeServer() as b:
            plan = lab.plan_of(lab.tier("a", a.base_url), lab.tier("b", b.base_url), workloads=matched)
            async with start(plan, settings=settings) as running:
                key = {} if scopes is None else {"x-api-key": running.ledger.create_key("k", scopes)}
                for name in ("gpt-5", "team-9", "chat", "claude", "gpt-" + "5" * 300, ""):
                    told = await running.ask(f"/v1/models/{name}", headers=key)
                    served = await running.ask(body={**lab.chat(), "model": name}, headers=key | {"x-team": "r"})
                    assert told.status == (200 if name in known else 404), name
                    assert (served.status == 200) == (name in known), name
                    if name in known - {"chat"}:
                        assert (told.json["id"], told.json["tiers"]) == (name, ["a"])
                        claude = await running.ask(f"/v1/models/{name}", headers=key | {"anthropic-version": "1"})
                        assert claude.json["id"] == name

    asyncio.run(main())


@pytest.mark.parametrize(
    ("operation", "remedy"),
    [
        ("compact", "summarised by a request"),
        ("input_tokens", "count_tokens"),
        ("resp_1/cancel", "Close the connection"),
    ],
)
@pytest.mark.parametrize("method", ["POST", "GET"])
def test_an_operation_on_responses_that_is_not_served_is_told_so_with_what_to_do_instead(
    lab, start, operation, remedy, method
):
    """It is not a response's id, of which the methods would be told."""

    async def main():
        async with FakeServer() as a, start(lab.plan_of(lab.tier("a", a.base_url))) as running:
            refused = await running.ask(f"/v1/responses/{operation}", b"{}", method=method)
            told = refused.json["error"]
            assert (refused.status, told["ownward_kind"]) == (404, "unknown_path")
            assert "allow" not in refused.headers
            assert f"/v1/responses/{operation}' is not served here" in told["message"]
            assert remedy in told["next"]

    asyncio.run(main())


@pytest.mark.parametrize("path", ["/openai/deployments/gpt/chat/completions?api-version=1", "/openai/v1/responses"])
def test_a_path_of_azures_is_told_so_with_what_its_client_does_instead(lab, start, path):
    async def main():
        async with FakeServer() as a, start(lab.plan_of(lab.tier("a", a.base_url))) as running:
            refused = await running.ask(path, lab.chat())
            assert (refused.status, refused.json["error"]["ownward_kind"]) == (404, "unknown_path")
            assert "OpenAI and not AzureOpenAI" in refused.json["error"]["message"]
            assert "/v1 as its base_url" in refused.json["error"]["next"]

    asyncio.run(main())


def test_every_name_is_a_model_where_a_workload_accepts_everything(lab, start):
    anything = Workload(name="any", match=Match(), strategy=Strategy(kind="direct", tiers=("a",)), label=ANY)

    async def main():
        async with FakeServer() as a, start(lab.plan_of(lab.tier("a", a.base_url), workloads=(anything,))) as running:
            for name in ("org/some-model", "b%20c"):
                assert (await running.ask(f"/v1/models/{name}")).json["tiers"] == ["a"]

    asyncio.run(main())


def test_health_and_readiness(lab, start):
    async def main():
        async with FakeServer() as fake:
            plan = lab.plan_of(
                lab.tier("a", fake.base_url, kind="owned", engine="llama-server", upstreams=(lab.Upstream(name="e"),))
            )
            async with start(plan) as running:
                assert (await running.ask("/healthz")).status == 200
                assert (await running.ask("/readyz")).status == 503
                assert (await running.ask(body=lab.chat())).status == 503
                running.server.set_address("e", EngineAddress(fake.base_url))
                assert (await running.ask("/readyz")).status == 200
                assert (await running.ask(body=lab.chat())).status == 200

    asyncio.run(main())


def read_metrics(body):
    found = {}
    for family in text_string_to_metric_families(body.decode()):
        for sample in family.samples:
            found[sample.name, *sorted(sample.labels.items())] = sample.value
    return found


def test_metrics_count_requests_tokens_and_charges(lab, start):
    async def main():
        async with FakeServer() as fake, start(lab.plan_of(lab.tier("a", fake.base_url))) as running:
            await running.ask(body=lab.chat())
            found = read_metrics((await running.ask("/metrics")).body)
            request = (("endpoint", "/v1/chat/completions"), ("outcome", "answered"), ("status", "200"))
            assert found["ownward_requests_total", *request, ("tier", "a"), ("workload", "chat")] == 1
            of_call = (("tier", "a"), ("upstream", "a-1"), ("workload", "chat"))
            assert found["ownward_tokens_total", ("kind", "output"), *of_call] == 16
            assert found["ownward_charge_usd_total", *of_call] == 0.000261
            assert found["ownward_latency_seconds_count", *of_call] == 1
            assert ("ownward_tpot_seconds_count", *of_call) not in found, "nobody saw the tokens of a whole answer"
            assert found["ownward_request_seconds_count", ("tier", "a"), ("workload", "chat")] == 1
            assert found["ownward_requests_in_flight",] == 0
            assert found["ownward_upstream_usable", ("tier", "a"), ("upstream", "a-1")] == 1

    asyncio.run(main())


def test_metrics_of_streams_say_how_fast_tokens_came(lab, start):
    async def main():
        options = FakeOptions(ttft_s=0.05, tpot_s=0.01)
        async with FakeServer(options) as fake, start(lab.plan_of(lab.tier("a", fake.base_url))) as running:
            await running.ask(body=lab.chat(stream=True))
            found = read_metrics((await running.ask("/metrics")).body)
            of_call = (("tier", "a"), ("upstream", "a-1"), ("workload", "chat"))
            assert 0.05 <= found["ownward_ttft_seconds_sum", *of_call] < 1
            assert 0.005 < found["ownward_tpot_seconds_sum", *of_call] < 0.5

    asyncio.run(main())


def test_no_client_can_make_a_series_of_its_own(lab, start):
    async def main():
        async with (
            FakeServer() as fake,
            start(replace(lab.plan_of(lab.tier("a", fake.base_url)), workloads={})) as running,
        ):
            for index in range(5):
                headers = {"x-ownward-workload": f"canary-{index}", "x-ownward-task": f"canary-{index}"}
                await running.ask(body={**lab.chat(), "model": "a"}, headers=headers)
                await running.ask(body={**lab.chat(), "model": f"canary-{index}"})
            body = (await running.ask("/metrics")).body
            assert b"canary" not in body
            found = read_metrics(body)
            unknown = (("kind", "unknown_route"), ("tier", ""), ("workload", "other"))
            assert found["ownward_errors_total", *unknown] == 5

    asyncio.run(main())


def test_metrics_tell_retries_open_breakers_and_who_failed(lab, start):
    async def main():
        async with lab.Scripted(lab.whole(b"{}", status=500)) as bad, FakeServer() as good:
            plan = lab.plan_of(lab.tier("a", bad.base_url), lab.tier("b", good.base_url))
            settings = GatewaySettings(port=0, breaker_failures=1, breaker_wait_s=60)
            async with start(plan, settings=settings) as running:
                await running.ask(body=lab.chat())
                await running.ask(body={**lab.chat(), "model": "a"})
                found = read_metrics((await running.ask("/metrics")).body)
                assert found["ownward_retries_total", ("tier", "b"), ("upstream", "b-1"), ("workload", "chat")] == 1
                assert found["ownward_breaker_opened_total", ("tier", "a"), ("upstream", "a-1")] == 1
                assert found["ownward_breaker_state", ("tier", "a"), ("upstream", "a-1")] == 2
                failed = (("state", "failed"), ("tier", "a"), ("upstream", "a-1"), ("workload", "chat"))
                assert found["ownward_attempts_total", *failed] == 1
                down = (("kind", "no_upstream"), ("tier", ""), ("workload", "other"))
                assert found["ownward_errors_total", *down] == 1

    asyncio.run(main())


def test_an_outcome_is_recorded_once_for_each_source(lab, start):
    async def main():
        async with FakeServer() as fake, start(lab.plan_of(lab.tier("a", fake.base_url))) as running:
            await running.ask(body=lab.chat(), headers={"x-ownward-task": "task-7"})
            path = "/v1/tasks/task-7/outcome"
            for _ in range(2):
                assert (await running.ask(path, {"completed": True})).status == 200
            assert (await running.ask(path, {"completed": False, "source": "verifier", "score": 0.5})).status == 200
            recorded = list(running.ledger.query_outcomes(task_id="task-7"))
            assert [(outcome.source, outcome.completed) for outcome in recorded] == [
                ("user", True),
                ("verifier", False),
            ]

    asyncio.run(main())


def test_an_outcome_that_cannot_be_is_refused(lab, start):
    async def main():
        async with FakeServer() as fake, start(lab.plan_of(lab.tier("a", fake.base_url))) as running:
            await running.ask(body=lab.chat(), headers={"x-ownward-task": "task-7"})
            assert (await running.ask("/v1/tasks/nothing/outcome", {"completed": True})).status == 404
            path = "/v1/tasks/task-7/outcome"
            for body in (
                {"completed": "yes"},
                {"completed": True, "score": 2},
                {"completed": True, "sauce": "user"},
                {},
            ):
                assert (await running.ask(path, body)).status == 400

    asyncio.run(main())


def test_an_outcome_that_is_too_long_is_told_to_be_shorter_as_no_setting_takes_it(lab, start):
    async def main():
        async with start(lab.plan_of(lab.tier("a", "http://127.0.0.1:9"))) as running:
            long = {"completed": True, "comment": "x" * 65_536}
            told = await running.ask("/v1/tasks/task-7/outcome", long)
            error = told.json["error"]
            assert (told.status, error["allowed"], error["next"]) == (413, "At most 65536 bytes", "Send less")

    asyncio.run(main())


def test_the_task_comes_from_a_header_else_from_the_trace_else_it_is_the_request(lab, start):
    async def main():
        async with FakeServer() as fake, start(lab.plan_of(lab.tier("a", fake.base_url))) as running:
            trace = "4bf92f3577b34da6a3ce929d0e0e4736"
            for headers in (
                {"x-ownward-task": "one"},
                {"x-task-id": "two"},
                {"traceparent": f"00-{trace}-00f067aa0ba902b7-01"},
                {},
            ):
                answer = await running.ask(body=lab.chat(), headers=headers)
            own = answer.headers["x-ownward-request-id"]
            assert {row["task_id"] for row in await running.rows()} == {"one", "two", f"trace_{trace}", own}
            said = await running.ask("/v1/tasks/unknown/outcome", {"completed": True})
            assert "trace_" in said.json["error"]["allowed"]
            assert (await running.ask(f"/v1/tasks/trace_{trace}/outcome", {"completed": True})).status == 200

    asyncio.run(main())


def test_what_is_not_served_says_what_is(lab, start):
    async def main():
        async with FakeServer() as fake, start(lab.plan_of(lab.tier("a", fake.base_url))) as running:
            near = await running.ask("/v1/chat/completion", {})
            assert near.status == 404
            assert "/v1/chat/completions" in near.json["error"]["allowed"]
            wrong = await running.ask("/v1/chat/completions")
            assert (wrong.status, wrong.headers["allow"]) == (405, "POST")

    asyncio.run(main())


def test_a_client_that_would_rather_have_a_websocket_is_told_to_go_on_over_http(lab, start):
    """Codex tries five times after any other status, at the beginning of each session."""
    handshake = {
        "connection": "Upgrade",
        "upgrade": "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": "x" * 24,
    }

    async def main():
        async with FakeServer() as fake, start(lab.plan_of(lab.tier("a", fake.base_url))) as running:
            refused = await running.ask("/v1/responses", method="GET", headers=handshake)
            assert (refused.status, refused.headers["allow"]) == (426, "POST")
            assert refused.headers["upgrade"] == "HTTP/1.1"
            assert (await running.ask("/v1/responses", method="GET")).status == 405

    asyncio.run(main())


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models", "/metrics"])
def test_two_keys_in_one_header_are_refused_though_both_are_valid(lab, start, path):
    async def main():
        settings = GatewaySettings(port=0, requires_keys=True, drain_s=1)
        async with FakeServer() as fake, start(lab.plan_of(lab.tier("a", fake.base_url)), settings=settings) as running:
            one, other = (f"Bearer {running.ledger.create_key(name)}" for name in ("one", "other"))
            body = lab.chat() if path == "/v1/chat/completions" else None
            assert (await running.ask(path, body, headers={"authorization": one})).status == 200
            refused = await running.ask(path, body, headers={"authorization": one, "Authorization": other})
            assert (refused.status, refused.json["error"]["ownward_kind"]) == (400, "malformed_request")
            assert fake.record.count(with_calls=False)["accepted"] == (body is not None)

    asyncio.run(main())


def test_without_a_valid_key_every_answer_is_the_same_401(lab, start):
    settings = GatewaySettings(port=0, requires_keys=True, key_cache_s=0, drain_s=1)

    async def main():
        async with FakeServer() as fake, start(lab.plan_of(lab.tier("a", fake.base_url)), settings=settings) as running:
            good = running.ledger.create_key("good")
            revoked = running.ledger.create_key("revoked")
            (key_id,) = [key.key_id for key in running.ledger.list_keys() if key.name == "revoked"]
            assert (await running.ask(body=lab.chat(), headers={"x-api-key": revoked})).status == 200
            running.ledger.revoke_key(key_id)
            said = set()
            for headers in (
                {},
                {"x-api-key": "ow-wrong"},
                {"authorization": f"Bearer {revoked}"},
                {"authorization": "x"},
            ):
                answer = await running.ask(body=lab.chat(), headers=headers)
                assert answer.status == 401
                assert answer.headers["www-authenticate"] == "Bearer"
                said.add(answer.json["error"]["message"])
            assert len(said) == 1
            for path in ("/v1/models", "/metrics"):
                refused = await running.ask(path)
                assert (refused.status, refused.headers["www-authenticate"]) == (401, "Bearer")
            assert (await running.ask("/healthz")).status == 200
            served = await running.ask(body=lab.chat(), headers={"authorization": f"Bearer {good}"})
            assert served.status == 200
            assert fake.record.count(with_calls=False)["accepted"] == 2
            assert {row["key_id"] for row in await running.rows()} == {key.key_id for key in running.ledger.list_keys()}

    asyncio.run(main())


def test_a_keys_scope_limits_workloads_and_tiers(lab, start):
    settings = GatewaySettings(port=0, requires_keys=True, drain_s=1)

    async def main():
        async with FakeServer(FakeOptions()) as a, FakeServer() as b:
            plan = lab.plan_of(lab.tier("a", a.base_url), lab.tier("b", b.base_url))
            async with start(plan, settings=settings) as running:
                other = running.ledger.create_key("other", {"workloads": ["reports"]})
                only_b = running.ledger.create_key("b", {"tiers": ["b"]})
                assert (await running.ask(body=lab.chat(), headers={"x-api-key": other})).status == 403
                served = await running.ask(body=lab.chat(), headers={"x-api-key": only_b})
                assert served.headers["x-ownward-tier"] == "b"

    asyncio.run(main())


@pytest.mark.parametrize(
    ("scopes", "listed"),
    [
        ({}, {"chat", "reports", "report-9", "a", "b", "a-model", "b-model"}),
        ({"workloads": ["chat"]}, {"chat"}),
        ({"workloads": ["reports"]}, {"reports", "report-9"}),
        ({"workloads": ["nightly"]}, {"a", "b", "a-model", "b-model"}),
        ({"tiers": ["b"]}, {"chat", "reports", "report-9", "b", "b-model"}),
        ({"workloads": ["chat"], "tiers": ["a"], "label": "any"}, {"chat"}),
        ({"label": "local_only"}, set()),
    ],
)
def test_a_key_is_told_the_models_that_it_may_use_and_no_others(lab, start, scopes, listed):
    settings = GatewaySettings(port=0, requires_keys=True, drain_s=1)
    match = Match(models=("report-9",), headers={"x-team": "r"})
    reports = Workload(name="reports", match=match, strategy=Strategy(kind="direct", tiers=("b",)), label=ANY)

    async def main():
        async with FakeServer() as a, FakeServer() as b:
            plan = lab.plan_of(lab.tier("a", a.base_url), lab.tier("b", b.base_url), workloads=(reports,))
            async with start(plan, settings=settings) as running:
                key = {"x-api-key": running.ledger.create_key("k", scopes)}
                told = (await running.ask("/v1/models", headers=key)).json["data"]
                assert {entry["id"] for entry in told} == listed
                claude = (await running.ask("/v1/models", headers=key | {"anthropic-version": "2023-06-01"})).json
                assert [entry["id"] for entry in claude["data"]] == [entry["id"] for entry in told]
                unknown = await running.ask(body={**lab.chat(), "model": "nobody"}, headers=key)
                assert unknown.status == 404
                stated = key | {"x-team": "r"}
                if "nightly" in scopes.get("workloads", ()):
                    stated |= {"x-ownward-workload": "nightly"}
                for name in ("chat", "reports", "report-9", "a", "b", "a-model", "b-model"):
                    assert ((await running.ask(f"/v1/models/{name}", headers=key)).status == 200) == (name in listed)
                    assert (repr(name) in unknown.json["error"]["message"]) == (name in listed)
                    served = await running.ask(body={**lab.chat(), "model": name}, headers=stated)
                    assert (served.status == 200) == (name in listed)

    asyncio.run(main())


def test_a_key_says_what_became_of_tasks_in_its_scope_alone(lab, start):
    settings = GatewaySettings(port=0, requires_keys=True, drain_s=1)

    async def main():
        async with FakeServer() as fake, start(lab.plan_of(lab.tier("a", fake.base_url)), settings=settings) as running:
            keys = {
                name: {"x-api-key": running.ledger.create_key(name, scopes)}
                for name, scopes in {
                    "any": {},
                    "chat": {"workloads": ["chat"]},
                    "other": {"workloads": ["reports"]},
                    "tier": {"tiers": ["a"]},
                }.items()
            }
            await running.ask(body=lab.chat(), headers=keys["any"] | {"x-ownward-task": "task-7"})
            told = {
                name: (await running.ask("/v1/tasks/task-7/outcome", {"completed": True}, headers=headers)).status
                for name, headers in keys.items()
            }
            assert told == {"any": 200, "chat": 200, "other": 404, "tier": 200}

    asyncio.run(main())


def test_a_web_page_of_another_place_cannot_use_a_gateway_without_keys(lab, start):
    async def page(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    async def main():
        async with FakeServer() as fake:
            async with start(lab.plan_of(lab.tier("a", fake.base_url)), mounts={"/dashboard": page}) as running:
                foreign = {"origin": "https://evil.example", "content-type": "text/plain"}
                assert (await running.ask(body=lab.chat(), headers=foreign)).status == 403
                assert (await running.ask("/v1/models", headers=foreign)).status == 403
                assert (await running.ask("/dashboard", headers=foreign)).status != 200
                port = running.base_url.rpartition(":")[2]
                for agent in ("Mozilla/5.0", "curl/8"):  # which Firefox lets pages state
                    rebound = {"host": f"evil.example:{port}", "user-agent": agent}
                    for path in ("/metrics", "/v1/models", "/dashboard"):
                        assert (await running.ask(path, method="GET", headers=rebound)).status in {403, 404}
                for host in (f"host.docker.internal:{port}", "ai.corp.example"):  # of a container, behind a proxy
                    program = {"host": host, "user-agent": "Prometheus/3.1"}
                    for path, status in {"/metrics": 200, "/v1/models": 200, "/dashboard": 404}.items():
                        assert (await running.ask(path, method="GET", headers=program)).status == status
                assert (await running.ask("/dashboard")).status == 200
                assert (await running.ask("/dashboard", headers={"x-forwarded-for": "8.8.8.8"})).status != 200
                local = {"origin": "http://localhost:3000"}
                assert (await running.ask(body=lab.chat(), headers=local)).status == 200
                assert fake.record.count(with_calls=False)["accepted"] == 1

    asyncio.run(main())


@pytest.mark.parametrize("demands_keys", [False, True], ids=["no keys", "keys"])
@pytest.mark.parametrize("origin", ["http://localhost:3000", "https://chat.example"])
def test_a_page_that_may_ask_may_read_the_answer_and_no_other(lab, start, origin, demands_keys):
    """A browser asks first whether it may send a key or JSON, and shows the page no answer that does not permit it."""
    settings = GatewaySettings(port=0, requires_keys=demands_keys, drain_s=1)
    wants = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,content-type"}
    may = demands_keys or "localhost" in origin

    async def main():
        async with FakeServer() as fake, start(lab.plan_of(lab.tier("a", fake.base_url)), settings=settings) as running:
            page = {"origin": origin}
            async with lab.Client(running.base_url) as client:
                await client.send(lab.CHAT, method="OPTIONS", headers=page | wants)
                asked = await client.head()
            assert (asked.status == 204) == may
            if may:
                assert asked.headers["access-control-allow-methods"] == "POST"
                assert asked.headers["access-control-allow-headers"] == wants["access-control-request-headers"]
            key = {"authorization": f"Bearer {running.ledger.create_key('page')}"} if demands_keys else {}
            for more in ({"body": lab.chat()}, {"body": lab.chat(stream=True)}, {"path": "/v1/models"}):
                answer = await running.ask(**more, headers=page | key)
                assert (answer.status == 200) == may
                assert answer.headers.get("access-control-allow-origin") == (origin if may else None)
                plain = await running.ask(**more, headers=key)
                assert not [name for name in plain.headers if name.startswith("access-control")]
            refused = await running.ask(body={"model": "nobody"}, headers=page | key)
            assert refused.headers.get("access-control-allow-origin") == (origin if may else None)
            assert (await running.ask(lab.CHAT, method="OPTIONS", headers=page)).status == 405

    asyncio.run(main())


def test_a_fault_of_ours_is_500_in_the_clients_dialect_and_the_charge_stays_open(lab, start, monkeypatch, caplog):
    def fail(*_):
        raise ZeroDivisionError

    async def main():
        async with FakeServer() as fake, start(lab.plan_of(lab.tier("a", fake.base_url))) as running:
            monkeypatch.setattr(Health, "note_success", fail)
            answer = await running.ask(body=lab.chat())
            assert (answer.status, answer.json["error"]["code"]) == (500, "internal_error")
            (row,) = await running.rows()
            assert row["state"] == "unsettled"
            assert float(row["charge_high_usd"]) > 0

    asyncio.run(main())
    assert "ZeroDivisionError" in caplog.text


def test_where_the_intent_cannot_be_written_nothing_is_sent(lab, start):
    async def main():
        async with FakeServer() as fake, start(lab.plan_of(lab.tier("a", fake.base_url))) as running:

            async def fail(*_, **__):
                raise LedgerError("the disk is full")

            running.ledger.begin, kept = fail, running.ledger.begin
            answer = await running.ask(body=lab.chat())
            assert (answer.status, answer.json["error"]["code"]) == (503, "ledger_error")
            assert "retry-after" in answer.headers
            running.ledger.begin = kept
            assert (await running.ask(body=lab.chat())).status == 200
            assert fake.record.count(with_calls=False)["accepted"] == 1

    asyncio.run(main())


def test_the_application_runs_under_any_asgi_server(lab, start):
    """Without our own protocol, a client that leaves is noticed by `receive`."""

    async def main():
        async with FakeServer(FakeOptions(ttft_s=5)) as fake:
            async with start(lab.plan_of(lab.tier("a", fake.base_url))) as running:
                left = asyncio.Event()
                messages = [{"type": "http.request", "body": json.dumps(lab.chat()).encode(), "more_body": False}]

                async def receive():
                    if messages:
                        return messages.pop()
                    await left.wait()
                    return {"type": "http.disconnect"}

                async def send(message):
                    raise AssertionError(message)

                scope = {"type": "http", "method": "POST", "path": lab.CHAT, "headers": []}
                call = asyncio.create_task(running.server.gateway(scope, receive, send))
                async with asyncio.timeout(2):
                    while not fake.record.serving:
                        await asyncio.sleep(0.01)
                left.set()
                await asyncio.wait_for(call, 0.2)
                assert [row["state"] for row in await running.rows()] == ["unsettled"]

    asyncio.run(main())
