"""Several worker processes behind one port: as one gateway, through reloads, kills and the end."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import math
import os
import signal
import socket
import sqlite3
import ssl
import sys
import time
from collections import Counter

import pytest
import trustme

from ownward import ledger
from ownward.core import LedgerError, PortTaken
from ownward.engines import Failure, FakeOptions, FakeServer
from ownward.gateway import GatewayServer, GatewaySettings, WorkerLine
from ownward.gateway.holding.admission import split
from ownward.gateway.listening.port import listen_together
from ownward.gateway.watching.merging import accumulated, merge_metrics
from ownward.gateway.working.pool import WorkerPool
from ownward.upstreams import Door
from served_workers import PLAN, serving


def test_two_workers_are_one_gateway_in_limits_metrics_and_ledger(lab, tmp_path):
    async def main():
        with ledger.open(tmp_path / "l.db") as opened:
            secret = opened.create_key("k", {"requests_per_minute": 100})
        async with (
            FakeServer(FakeOptions(ttft_s=0.05)) as fake,
            serving(tmp_path, fake.base_url, config="[gateway]\nrequires_keys = true\n") as served,
        ):
            bearer = {"authorization": f"Bearer {secret}"}
            began_s = asyncio.get_running_loop().time()
            answers = await asyncio.gather(
                *(lab.ask(served.base_url, lab.CHAT, lab.chat(), headers=bearer) for _ in range(300))
            )
            refill = (asyncio.get_running_loop().time() - began_s) * 100 / 60
            statuses = Counter(answer.status for answer in answers)
            assert 100 <= statuses[200] <= 101 + refill
            assert statuses[200] + statuses[429] == 300
            for _ in range(4):
                metrics = (await lab.ask(served.base_url, "/metrics", headers=bearer, method="GET")).body.decode()
                counted = {line.rpartition(" ")[0]: line.rpartition(" ")[2] for line in metrics.splitlines()}
                asked = 'ownward_attempts_total{workload="chat",tier="a",upstream="u",state="settled"}'
                assert int(counted[asked]) == statuses[200], "the same from whichever worker answers"
                assert metrics.count("# TYPE ownward_attempts_total") == 1
        with ledger.open(tmp_path / "l.db") as opened:
            runs = opened._writer.run(
                lambda connection: connection.rows("SELECT COUNT(*), COUNT(closed_at_us) FROM runs")
            )
        assert runs == [(2, 2)], "both were asked, and both ended well"

    asyncio.run(main())


def test_a_killed_worker_is_started_again_and_what_it_had_in_flight_is_unsettled(lab, tmp_path):
    async def main():
        async with FakeServer(FakeOptions(ttft_s=1.5)) as fake, serving(tmp_path, fake.base_url) as served:
            before = {worker.pid for worker in served.workers}
            assert len(before) == 2
            asked = [asyncio.create_task(lab.ask(served.base_url, lab.CHAT, lab.chat())) for _ in range(40)]
            await served.until(lambda: fake.record.count(with_calls=False)["accepted"] == 40, "all are in flight")
            os.kill(min(before), signal.SIGKILL)
            results = await asyncio.gather(*asked, return_exceptions=True)
            lost = sum(isinstance(result, BaseException) for result in results)
            assert 0 < lost < 40, "those of one worker"
            await served.until(lambda: len({worker.pid for worker in served.workers} - before) == 1, "a new worker")
            with ledger.open(tmp_path / "l.db", is_read_only=True) as opened:

                def states():
                    return Counter(row["state"] for row in opened.export_rows())

                await served.until(lambda: states() == {"settled": 40 - lost, "unsettled": lost}, "they are settled")
            answers = await asyncio.gather(*(lab.ask(served.base_url, lab.CHAT, lab.chat()) for _ in range(20)))
            assert {answer.status for answer in answers} == {200}

    asyncio.run(main())


def test_what_one_worker_is_told_to_wait_all_of_them_wait(lab, tmp_path):
    async def main():
        options = FakeOptions(failures=(Failure.parse("429:1000"),), retry_after_s=60)
        async with FakeServer(options) as fake, serving(tmp_path, fake.base_url) as served:
            first = await lab.ask(served.base_url, lab.CHAT, lab.chat())
            assert first.status == 429
            await asyncio.sleep(0.5)
            answers = [await lab.ask(served.base_url, lab.CHAT, lab.chat()) for _ in range(20)]
            assert {answer.status for answer in answers} == {429}
            assert len(fake.record.requests()["requests"]) == 1, "whichever worker they came to"
            before = {worker.pid for worker in served.workers}
            os.kill(min(before), signal.SIGKILL)
            await served.until(lambda: len({worker.pid for worker in served.workers} - before) == 1, "a new worker")
            ends_s = time.monotonic() + 3  # it begins meanwhile
            while time.monotonic() < ends_s:
                assert (await lab.ask(served.base_url, lab.CHAT, lab.chat())).status == 429
            assert len(fake.record.requests()["requests"]) == 1, "a worker that has just begun is told as well"

    asyncio.run(main())


def test_a_prompt_goes_where_another_worker_sent_it(lab, tmp_path):
    def prompt(seed):
        return {"model": "chat", "messages": [{"role": "user", "content": f"{seed} " * 4000}]}

    async def main():
        async with FakeServer() as first, FakeServer() as second:
            more = f'[[tiers.a.upstreams]]\nname = "v"\nurl = "{second.base_url}"\n[workloads.chat]'
            plan = PLAN.replace("[workloads.chat]", more)
            async with serving(tmp_path, first.base_url, plan=plan) as served:
                for seed in ("one", "two"):  # each to one of the upstreams
                    assert (await lab.ask(served.base_url, lab.CHAT, prompt(seed))).status == 200
                    await asyncio.sleep(0.5)
                heard = [len(fake.record.requests()["requests"]) for fake in (first, second)]
                assert heard == [1, 1]
                for _ in range(16):
                    await lab.ask(served.base_url, lab.CHAT, prompt("two"))
                    await asyncio.sleep(0.05)
                heard = [len(fake.record.requests()["requests"]) for fake in (first, second)]
                assert sorted(heard) == [1, 17]

    asyncio.run(main())


def test_calls_go_where_the_fewest_are_in_flight_in_all_workers_together(lab, tmp_path):
    """Workers that know their own calls alone would each begin with the first upstream."""

    async def main():
        async with contextlib.AsyncExitStack() as stack:
            options = FakeOptions(ttft_s=60)
            fakes = [await stack.enter_async_context(FakeServer(options)) for _ in range(6)]
            more = "".join(
                f'[[tiers.a.upstreams]]\nname = "v{number}"\nurl = "{fake.base_url}"\n'
                for number, fake in enumerate(fakes[1:])
            )
            plan = PLAN.replace('engine = "adopted"', 'engine = "adopted"\nbalance = "least_busy"')
            plan = plan.replace("[workloads.chat]", f"{more}[workloads.chat]")
            served = await stack.enter_async_context(serving(tmp_path, fakes[0].base_url, plan=plan, workers=4))

            def in_flight():
                return [fake.record.serving for fake in fakes]

            asked = []
            for number in range(12):
                asked.append(asyncio.create_task(lab.ask(served.base_url, lab.CHAT, lab.chat())))
                await served.until(lambda count=number + 1: sum(in_flight()) == count, "it is in flight")
                await asyncio.sleep(0.2)
            assert in_flight() == [2] * 6
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
            await served.until(lambda: sum(in_flight()) == 0, "all were cancelled")
            await asyncio.sleep(0.2)
            asked = [asyncio.create_task(lab.ask(served.base_url, lab.CHAT, lab.chat()))]
            await served.until(lambda: sum(in_flight()) == 1, "it is in flight")
            assert in_flight()[0] == 1, "what ended is told as well: the first is as free as the others"
            asked[0].cancel()
            await asyncio.gather(*asked, return_exceptions=True)

    asyncio.run(main())


def test_a_port_that_somebody_has_is_told_also_if_it_could_be_shared():
    with contextlib.ExitStack() as stack:
        (first, *_) = [stack.enter_context(one) for one in listen_together("127.0.0.1", 0, count=3)]
        with pytest.raises(PortTaken):
            listen_together("127.0.0.1", first.getsockname()[1], count=2)


def test_a_reload_reaches_every_worker_and_a_bad_plan_none(lab, tmp_path):
    async def main():
        async with FakeServer() as fake, serving(tmp_path, fake.base_url) as served:

            async def tiers():
                answers = await asyncio.gather(*(lab.ask(served.base_url, lab.CHAT, lab.chat()) for _ in range(40)))
                return {answer.headers["x-ownward-tier"] for answer in answers}

            assert await tiers() == {"a"}
            (tmp_path / "plan.toml").write_text("schema = 1")
            os.kill(served.pid, signal.SIGHUP)
            await asyncio.sleep(0.5)
            assert await tiers() == {"a"}
            (tmp_path / "plan.toml").write_text(PLAN.format(tier="b", url=fake.base_url))
            os.kill(served.pid, signal.SIGHUP)
            for _ in range(100):
                if await tiers() == {"b"}:
                    break
            assert [await tiers() for _ in range(3)] == [{"b"}] * 3

    asyncio.run(main())


def test_the_end_lets_requests_in_flight_end_and_leaves_no_process(lab, tmp_path):
    async def main():
        async with FakeServer(FakeOptions(ttft_s=1.0)) as fake, serving(tmp_path, fake.base_url) as served:
            workers = served.workers
            asked = [asyncio.create_task(lab.ask(served.base_url, lab.CHAT, lab.chat())) for _ in range(10)]
            await served.until(lambda: fake.record.count(with_calls=False)["accepted"] == 10, "all are in flight")
            served.process.terminate()
            assert {answer.status for answer in await asyncio.gather(*asked)} == {200}
            await served.process.wait()
            assert not any(worker.is_running() for worker in workers)
            assert not (tmp_path / "r.json").exists()

    asyncio.run(main())


def test_who_comes_while_workers_drain_is_refused_at_once(lab, tmp_path):
    """And not left waiting for the end of what is in flight, to be cut off then."""

    async def main():
        async def is_refused():
            try:
                await lab.ask(served.base_url, "/healthz", method="GET")
            except ConnectionRefusedError:
                return True
            except (ConnectionError, asyncio.IncompleteReadError):  # in the moment in which it closes
                return False
            return False

        async with (
            FakeServer(FakeOptions(ttft_s=3.0)) as fake,
            serving(tmp_path, fake.base_url, config="[server]\ndrain_s = 20\n") as served,
        ):
            asked = [asyncio.create_task(lab.ask(served.base_url, lab.CHAT, lab.chat())) for _ in range(8)]
            await served.until(lambda: fake.record.count(with_calls=False)["accepted"] == 8, "all under way")
            served.process.terminate()
            async with asyncio.timeout(2):
                while not await is_refused():
                    pass
            assert not any(one.done() for one in asked), "these are still under way"
            assert {answer.status for answer in await asyncio.gather(*asked)} == {200}

    asyncio.run(main())


def test_a_worker_whose_parent_is_killed_ends_by_itself(lab, tmp_path):
    async def main():
        with contextlib.suppress(AssertionError):  # the parent does not end with 0
            async with FakeServer() as fake, serving(tmp_path, fake.base_url) as served:
                workers = served.workers
                os.kill(served.pid, signal.SIGKILL)
                await served.until(lambda: not any(worker.is_running() for worker in workers), "they end")
                (tmp_path / "ended").touch()
        assert (tmp_path / "ended").exists()

    asyncio.run(main())


@pytest.mark.parametrize(("whole", "count"), [(1, 1), (8, 3), (7, 7), (100, 4)])
def test_shares_add_up_to_the_whole(whole, count):
    assert sum(split(whole, index=index, count=count) for index in range(count)) == whole


def test_what_is_gone_keeps_its_counters_and_loses_its_gauges():
    text = (
        "# HELP a_total A.\n# TYPE a_total counter\na_total 3\n"
        "# HELP g G.\n# TYPE g gauge\ng 7\n"
        "# HELP ownward_breaker_state B.\n# TYPE ownward_breaker_state gauge\nownward_breaker_state 2\n"
        "# HELP h H.\n# TYPE h histogram\n"
        'h_bucket{le="1"} 1\nh_bucket{le="+Inf"} 2\nh_sum 2.5\nh_count 2\n'
    )
    kept = accumulated(text)
    assert "a_total 3\n" in kept
    assert "h_count 2\n" in kept
    assert "\ng 7" not in kept
    assert "breaker" not in kept
    merged = merge_metrics([text, accumulated(text), text.replace("state 2", "state 0")])
    assert "a_total 9\n" in merged
    assert "\ng 14\n" in merged
    assert 'h_bucket{le="+Inf"} 6\nh_sum 7.5\nh_count 6\n' in merged
    assert "ownward_breaker_state 2\n" in merged


def test_sums_are_the_same_in_any_order_and_when_what_is_gone_is_summed_first():
    head = "# HELP s S.\n# TYPE s counter\n"
    texts = [f"{head}s {value!r}\n" for value in (0.1, 0.2, 0.3, 1e9 / 7, 1e-9 / 3)]
    sums = {merge_metrics(order) for order in itertools.permutations(texts)}
    sums |= {merge_metrics([merge_metrics(texts[cut:]), *texts[:cut]]) for cut in range(5)}
    assert len(sums) == 1
    (line,) = [line for line in sums.pop().splitlines() if not line.startswith("#")]
    assert float(line.split()[1]) == math.fsum((0.1, 0.2, 0.3, 1e9 / 7, 1e-9 / 3))


@pytest.mark.parametrize("name", ["ownward_stream_rest_seconds", "ownward_uptime_seconds"])
def test_streams_rest_as_long_as_in_the_busiest_process_and_the_oldest_says_the_uptime(name):
    told = "# HELP {0} R.\n# TYPE {0} gauge\n{0} {1}\n"
    texts = [told.format(name, value) for value in (0, 0.05, 0.03)]
    assert f"{name} 0.05\n" in merge_metrics(texts)


def test_a_new_certificate_reaches_every_worker_though_the_plan_is_broken(tmp_path):
    authority = trustme.CA()

    def issue():
        leaf = authority.issue_cert("localhost", "127.0.0.1")
        (tmp_path / "tls.pem").write_bytes(leaf.private_key_and_cert_chain_pem.bytes())
        (tmp_path / "tls.pem").chmod(0o600)

    async def main():
        issue()
        config = '[server]\ntls_cert_file = "tls.pem"\n'
        async with FakeServer() as fake, serving(tmp_path, fake.base_url, config=config) as served:
            host, port = served.base_url.removeprefix("https://").split(":")

            async def shown():
                asks = (asyncio.to_thread(ssl.get_server_certificate, (host, int(port))) for _ in range(12))
                return set(await asyncio.gather(*asks))

            old = await shown()
            assert len(old) == 1
            issue()
            (tmp_path / "plan.toml").write_text("half [")
            os.kill(served.pid, signal.SIGHUP)
            for _ in range(100):
                await asyncio.sleep(0.05)
                now = await shown()
                if len(now) == 1 and now != old:
                    return
            pytest.fail("the old certificate is still shown")

    asyncio.run(main())


ANSWER = {"object": "chat.completion", "choices": [{"index": 0, "message": {"role": "assistant"}}]}


def test_renewed_certificates_of_an_upstream_reach_every_worker_though_the_plan_is_broken(lab, tmp_path):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED

    def begin(name):
        """Have a new authority issue everything, on both sides."""
        authority = trustme.CA()
        authority.issue_cert("localhost").configure_cert(context)
        authority.configure_trust(context)
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        shown = authority.issue_cert(f"{name}.example", common_name=name)
        shown.private_key_and_cert_chain_pem.write_to_path(tmp_path / "client.pem")

    async def answer(reader, writer):
        (name,) = (v for part in writer.get_extra_info("peercert")["subject"] for k, v in part if k == "commonName")
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                await reader.readexactly(int(head.partition(b"content-length:")[2].split(b"\r\n")[0]))
                body = json.dumps(ANSWER | {"id": name}).encode()
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n")
                writer.write(b"content-length: %d\r\n\r\n%b" % (len(body), body))
        writer.close()

    async def main():
        begin("first")
        upstream = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
        url = f"https://localhost:{upstream.sockets[0].getsockname()[1]}/v1"
        stated = f'ca_file = "{tmp_path}/ca.pem"\nclient_cert_file = "{tmp_path}/client.pem"\n[workloads.chat]'
        async with upstream, serving(tmp_path, url, plan=PLAN.replace("[workloads.chat]", stated)) as served:

            async def shown():
                answers = await asyncio.gather(*(lab.ask(served.base_url, lab.CHAT, lab.chat()) for _ in range(12)))
                return {answer.json["id"] if answer.status == 200 else answer.status for answer in answers}

            assert await shown() == {"first"}
            begin("second")
            (tmp_path / "plan.toml").write_text("half [")
            os.kill(served.pid, signal.SIGHUP)
            for _ in range(200):  # until a worker has read them, its new connections are refused
                if await shown() == {"second"}:
                    break
                await asyncio.sleep(0.05)
            assert [await shown() for _ in range(3)] == [{"second"}] * 3

    asyncio.run(main())


def test_counters_of_a_worker_that_cannot_be_replaced_at_once_are_kept_once(lab, tmp_path):
    class Gone:
        snapshot = "# HELP a_total A.\n# TYPE a_total counter\na_total 3\n"

        def close(self):
            pass

    opened = None
    pool = WorkerPool(
        count=1, command=(), hello=lambda _: {}, plan=lab.plan_of(lab.tier("a", "http://127.0.0.1:1")),
        settings=GatewaySettings(port=0), ledger=opened, addresses={},
    )  # fmt: skip
    gone = Gone()
    pool._retire(gone)
    pool._retire(gone)
    assert "a_total 3\n" in merge_metrics(pool._retired)


def test_a_worker_s_collector_is_calm_as_that_of_a_gateway_alone(lab, tmp_path, monkeypatch):
    calmed = []
    monkeypatch.setattr("ownward.gateway.working.line.calm_collector", lambda: calmed.append(True))

    async def main():
        ours, theirs = socket.socketpair()
        giver, taker = socket.socketpair()
        with giver, ledger.open(tmp_path / "l.db") as opened:
            async with Door() as door:
                plan = lab.plan_of(lab.tier("a", "http://127.0.0.1:1"))
                server = GatewayServer(plan=plan, ledger=opened, door=door, settings=GatewaySettings(port=0, drain_s=0))
                line = await WorkerLine.open(theirs.detach(), taker.detach())
                served = asyncio.create_task(line.serve(server))
                reader, writer = await asyncio.open_unix_connection(sock=ours)
                assert json.loads(await reader.readline())["said"] == "ready"
                writer.write(b'{"do": "stop"}\n')
                await served
                writer.close()

    asyncio.run(main())
    assert calmed == [True]


SILENT = """
import json, socket, sys, time
line = socket.socket(fileno=int(sys.argv[1]))
line.makefile("rb").readline()
line.sendall(json.dumps({"said": "ready"}).encode() + b"\\n")
time.sleep(60)
"""


def test_a_worker_that_hangs_is_killed_and_another_takes_its_place(lab, tmp_path, monkeypatch, caplog):
    for name, value in (("pool._SNAPSHOT_EVERY_S", 0.02), ("worker.GATHER_S", 0.02), ("pool._STOP_GRACE_S", 0.1)):
        monkeypatch.setattr(f"ownward.gateway.working.{name}", value)

    (tmp_path / "silent.py").write_text(SILENT)

    async def main():
        with ledger.open(tmp_path / "l.db") as opened:
            pool = WorkerPool(
                count=1, command=(sys.executable, str(tmp_path / "silent.py"), "{line}"), hello=lambda _: {},
                plan=lab.plan_of(lab.tier("a", "http://127.0.0.1:1")), settings=GatewaySettings(port=0, drain_s=0),
                ledger=opened, addresses={},
            )  # fmt: skip
            await pool.start()
            first = pool.pids
            try:
                for _ in range(1000):
                    if pool.pids != first:
                        break
                    await asyncio.sleep(0.02)
                assert pool.pids != first
            finally:
                with pytest.raises(LedgerError, match="killed"):  # as it never ends
                    await pool.stop()
        assert f"worker 0 (pid {first[0]}) has not answered 11 times in a row and is killed" in caplog.text

    asyncio.run(main())


def test_workers_that_had_to_be_killed_at_the_end_are_told_of(lab, tmp_path, monkeypatch):
    """As where a ledger that is frozen takes no settlement any more."""
    monkeypatch.setattr("ownward.gateway.working.pool._STOP_GRACE_S", 0.1)
    (tmp_path / "silent.py").write_text(SILENT)

    async def main():
        with ledger.open(tmp_path / "l.db") as opened:
            pool = WorkerPool(
                count=2, command=(sys.executable, str(tmp_path / "silent.py"), "{line}"), hello=lambda _: {},
                plan=lab.plan_of(lab.tier("a", "http://127.0.0.1:1")), settings=GatewaySettings(port=0, drain_s=0),
                ledger=opened, addresses={},
            )  # fmt: skip
            await pool.start()
            with pytest.raises(LedgerError, match="2 of 2 workers had not ended 0 s after they were told to and were"):
                await pool.stop()

    asyncio.run(main())


def test_workers_that_cannot_write_what_became_of_calls_end_serve_as_one_process_ends(lab, tmp_path):
    """Whoever looks at the exit code alone learns that the ledger has calls without an end."""

    async def main():
        async with (
            FakeServer(FakeOptions(ttft_s=1)) as fake,
            serving(tmp_path, fake.base_url, config="[server]\ndrain_s = 0.5\n", ends_with=5) as served,
        ):
            asked = [asyncio.create_task(lab.ask(served.base_url, lab.CHAT, lab.chat())) for _ in range(8)]
            await served.until(lambda: fake.record.count(with_calls=False)["accepted"] == 8, "all are in flight")
            with contextlib.closing(sqlite3.connect(tmp_path / "l.db", isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                assert {answer.status for answer in await asyncio.gather(*asked)} == {200}
                served.process.terminate()
                said = (await served.process.stderr.read()).decode()
                assert await served.process.wait() == 5
            assert "what became of" in said
            assert "worker 0 ended with status 5" in said

    asyncio.run(main())
