"""The process around the gateway: readiness, draining, reloading, signals."""
# ruff: noqa: SIM117 - a gateway stands inside its upstreams

import asyncio
import errno
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ownward import ledger
from ownward.core import ConfigError, Fault, PortTaken
from ownward.engines import FakeOptions, FakeServer
from ownward.gateway import GatewaySettings, app
from ownward.gateway.listening.port import bind
from ownward.plan import Match, Strategy, Workload, dumps
from ownward.policy import ANY


def test_the_ready_file_is_there_when_requests_are_accepted_and_gone_after(lab, start, tmp_path):
    ready_file = tmp_path / "ready.json"
    settings = GatewaySettings(port=0, ready_file=ready_file, drain_s=1)

    async def main():
        async with FakeServer() as fake:
            async with start(lab.plan_of(lab.tier("a", fake.base_url)), settings=settings):
                ready = json.loads(ready_file.read_text())
                assert ready == {
                    "schema": "ownward.ready/1",
                    "base_url": ready["base_url"],
                    "pid": os.getpid(),
                    "tiers": ["a"],
                }
                assert (await lab.ask(ready["base_url"], "/healthz")).status == 200
            assert not ready_file.exists()

    asyncio.run(main())


def test_nobody_waits_for_what_a_large_ledger_has_in_flight_to_be_settled(lab, start, tmp_path, monkeypatch):
    book = ledger.open(tmp_path / "large.db")
    looking, asked = threading.Event(), []

    def reconcile(*, go_on, **_):
        looking.set()
        while go_on():
            time.sleep(0.005)
        asked.append("was told to end")
        return 0

    monkeypatch.setattr(book, "reconcile", reconcile)

    async def main():
        async with FakeServer() as fake, start(lab.plan_of(lab.tier("a", fake.base_url)), ledger=book) as running:
            assert looking.is_set()
            assert (await running.ask(body=lab.chat())).status == 200
            assert not asked

    asyncio.run(main())
    assert asked


def test_what_a_killed_gateway_left_in_the_ready_file_is_gone_before_this_one_listens(lab, start, tmp_path):
    ready_file = tmp_path / "ready.json"
    ready_file.write_text('{"base_url": "http://127.0.0.1:1"}')

    async def main():
        async with FakeServer() as fake:
            plan = lab.plan_of(lab.tier("a", fake.base_url))
            port = int(fake.base_url.rsplit(":", 1)[1])
            with pytest.raises(PortTaken):
                async with start(plan, settings=GatewaySettings(port=port, ready_file=ready_file)):
                    pass
            assert not ready_file.exists()

    asyncio.run(main())


def test_a_ready_file_without_a_folder_is_refused(lab, start, tmp_path):
    async def main():
        async with FakeServer() as fake:
            settings = GatewaySettings(port=0, ready_file=tmp_path / "nowhere" / "ready.json")
            with pytest.raises(ConfigError, match="whose folder is not there"):
                async with start(lab.plan_of(lab.tier("a", fake.base_url)), settings=settings):
                    pass

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["pipe", "link"])
def test_a_ready_file_that_is_no_file_is_refused_and_stays(lab, start, tmp_path, kind):
    there = tmp_path / "ready"
    if kind == "pipe":
        os.mkfifo(there)
    else:
        (tmp_path / "else").write_text("as it was")
        there.symlink_to(tmp_path / "else")

    async def main():
        async with FakeServer() as fake:
            with pytest.raises(ConfigError, match="cannot be removed: it is not a regular file"):
                async with start(
                    lab.plan_of(lab.tier("a", fake.base_url)), settings=GatewaySettings(port=0, ready_file=there)
                ):
                    pass

    asyncio.run(main())
    assert there.is_fifo() if kind == "pipe" else there.is_symlink()


def test_a_taken_port_is_named(lab, start):
    async def main():
        async with FakeServer() as fake:
            plan = lab.plan_of(lab.tier("a", fake.base_url))
            port = int(fake.base_url.rsplit(":", 1)[1])
            with pytest.raises(PortTaken, match=f"cannot listen on 127.0.0.1:{port}"):
                async with start(plan, settings=GatewaySettings(port=port)):
                    pass

    asyncio.run(main())


@pytest.mark.parametrize(
    ("host", "port", "told"),
    [
        ("192.0.2.7", 0, "An address of this machine"),
        ("no-such-name.invalid", 0, "a name that this machine knows"),
        ("127.0.0.1", 80, "CAP_NET_BIND_SERVICE"),
    ],
)
def test_where_nobody_can_listen_it_is_not_said_that_somebody_does(monkeypatch, host, port, told):
    if port:  # whoever runs the tests may be allowed to

        def refuse(self, address):
            raise PermissionError(errno.EACCES, "Permission denied")

        monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(ConfigError, match=re.escape(f"cannot listen on {host}:{port}")) as refused:
        bind(host, port)
    assert told in str(refused.value)
    assert "Stop what listens there" not in str(refused.value)


def test_requests_in_flight_end_within_the_drain_and_new_ones_are_not_taken(lab, start):
    async def main():
        async with FakeServer(FakeOptions(ttft_s=0.2, tpot_s=0.01)) as fake:
            async with start(lab.plan_of(lab.tier("a", fake.base_url))) as running:
                client = await lab.Client(running.base_url).__aenter__()
                await client.send(lab.CHAT, lab.chat(stream=True))
                await asyncio.sleep(0.05)
                stopping = asyncio.create_task(running.server.stop())
                answer = await client.rest(await client.head())
                assert answer.body.endswith(b"data: [DONE]\n\n")
                await stopping
                with pytest.raises(OSError):
                    await lab.ask(running.base_url, "/healthz")
                await client.__aexit__()
                (row,) = await running.rows()
                assert row["state"] == "settled"

    asyncio.run(main())


def test_what_outlives_the_drain_is_told_so_and_stands_unsettled(lab, start):
    settings = GatewaySettings(port=0, drain_s=0.1)

    async def main():
        async with FakeServer(FakeOptions(tpot_s=0.1, ttft_s=0.01)) as fake:
            async with start(lab.plan_of(lab.tier("a", fake.base_url)), settings=settings) as running:
                async with lab.Client(running.base_url) as streaming, lab.Client(running.base_url) as plain:
                    await streaming.send(lab.CHAT, lab.chat(stream=True))
                    await plain.send(lab.CHAT, lab.chat())
                    head = await streaming.head()
                    await running.server.stop()
                    answer = await streaming.rest(head)
                    assert b"[DONE]" not in answer.body
                    assert b"this gateway is stopping" in answer.body
                    assert b"it may be charged" in answer.body, "it is no new request that is not taken"
                    told = await plain.rest(await plain.head())
                    assert (told.status, b"it may be charged" in told.body) == (503, True)
                assert {row["state"] for row in await running.rows()} == {"unsettled"}
                assert fake.record.count(with_calls=False)["serving"] == 0
                ended = [labels[3:] for labels in running.server.gateway.counting.metrics.requests.values]
                assert sorted(ended) == [("broken", "200"), ("failed", "503")], "we left, and not the clients"

    asyncio.run(main())


def test_a_reload_serves_new_requests_by_the_new_plan_and_old_ones_by_the_old(lab, start):
    async def main():
        async with FakeServer(FakeOptions(ttft_s=0.2)) as old, FakeServer() as new:
            async with start(lab.plan_of(lab.tier("old", old.base_url))) as running:
                earlier = asyncio.create_task(running.ask(body=lab.chat()))
                await asyncio.sleep(0.05)
                first_sha = running.server.gateway.table.plan_sha256
                await running.server.reload(lab.plan_of(lab.tier("new", new.base_url)))
                later = await running.ask(body=lab.chat())
                assert later.headers["x-ownward-tier"] == "new"
                assert (await earlier).headers["x-ownward-tier"] == "old"
                rows = {row["tier"]: row["plan_sha256"] for row in await running.rows()}
                assert rows["old"] == first_sha != rows["new"]
                assert all(running.ledger.query_plan(sha) for sha in rows.values())

    asyncio.run(main())


def test_a_plan_that_cannot_be_carried_out_is_refused_and_the_old_one_stays(lab, start, monkeypatch):
    def refuse(_strategy, *, of):
        raise ConfigError([Fault(file="plan", key="strategy", message=f"of {of} cannot be carried out")])

    async def main():
        async with FakeServer() as fake:
            tier = lab.tier("a", fake.base_url)
            voting = Workload(
                name="voting",
                match=Match(models=("voting",)),
                strategy=Strategy(kind="vote", tiers=("a",), options={"samples": 3, "labels": ("yes", "no")}),
                label=ANY,
            )
            async with start(lab.plan_of(tier)) as running:
                monkeypatch.setattr("ownward.gateway.placing.routing.compile_strategy", refuse)
                with pytest.raises(ConfigError, match="cannot be carried out"):
                    await running.server.reload(lab.plan_of(tier, workloads=(voting,)))
                assert (await running.ask(body=lab.chat())).status == 200

    asyncio.run(main())


def test_listening_for_other_machines_without_keys_is_refused():
    with pytest.raises(ConfigError, match="requires_keys = true"):
        GatewaySettings(host="0.0.0.0")
    with pytest.raises(ConfigError, match="unencrypted"):
        GatewaySettings(host="0.0.0.0", requires_keys=True)
    GatewaySettings(host="0.0.0.0", requires_keys=True, allow_plaintext=True)
    GatewaySettings(host="0.0.0.0", requires_keys=True, tls_cert_file=Path("chain.pem"))
    with pytest.raises(ConfigError, match="without tls_cert_file"):
        GatewaySettings(tls_key_file=Path("key.pem"))


def test_an_app_can_be_mounted(lab, start):
    async def page(scope, receive, send):
        body = (scope["root_path"] + " " + scope["path"]).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})

    async def main():
        async with FakeServer() as fake:
            plan = lab.plan_of(lab.tier("a", fake.base_url))
            async with start(plan, mounts={"/dashboard": page}) as running:
                answer = await running.ask("/dashboard/costs")
                assert answer.body == b"/dashboard /dashboard/costs"

    asyncio.run(main())


SERVE = """
import pathlib, sys
from ownward import ledger, plan
from ownward.gateway import GatewaySettings, serve_app
folder = pathlib.Path(sys.argv[1])
load = lambda: plan.loads((folder / "plan.toml").read_text(), file="plan.toml")
with ledger.open(folder / "ledger.db") as opened:
    serve_app(
        plan=load(), ledger=opened, load_plan=load,
        settings=GatewaySettings(port=0, drain_s=5, ready_file=folder / "ready.json"),
    )
print("ended")
"""


def test_a_plan_that_is_loaded_anew_is_worked_out_beside_the_requests(lab, start, monkeypatch):
    threads = []
    compile_plan = app.compile_plan

    def noted(*args, **more):
        threads.append(threading.current_thread())
        return compile_plan(*args, **more)

    async def main():
        async with FakeServer() as fake:
            plan = lab.plan_of(lab.tier("a", fake.base_url))
            async with start(plan) as running:
                monkeypatch.setattr(app, "compile_plan", noted)
                await running.server.reload(plan)
                assert (await running.ask(body=lab.chat())).status == 200

    asyncio.run(main())
    assert threads[0] is not threading.main_thread(), "what is worked out again then is remembered, or takes little"


def test_signals_reload_the_plan_and_drain(lab, tmp_path):
    async def main():
        async with FakeServer(FakeOptions(ttft_s=0.3)) as fake:
            (tmp_path / "plan.toml").write_text(dumps(lab.plan_of(lab.tier("one", fake.base_url))))
            process = subprocess.Popen(  # noqa: ASYNC220 - it starts at once
                [sys.executable, "-c", SERVE, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
            try:
                deadline = time.monotonic() + 20
                while not (tmp_path / "ready.json").exists():
                    assert process.poll() is None
                    assert time.monotonic() < deadline
                    await asyncio.sleep(0.02)
                base_url = json.loads((tmp_path / "ready.json").read_text())["base_url"]
                (tmp_path / "plan.toml").write_text(dumps(lab.plan_of(lab.tier("two", fake.base_url))))
                process.send_signal(signal.SIGHUP)
                while (await lab.ask(base_url, lab.CHAT, lab.chat())).headers["x-ownward-tier"] != "two":
                    assert time.monotonic() < deadline
                last = asyncio.create_task(lab.ask(base_url, lab.CHAT, lab.chat()))
                await asyncio.sleep(0.1)
                process.send_signal(signal.SIGTERM)
                assert (await last).status == 200
                out, err = await asyncio.to_thread(process.communicate, timeout=10)
                assert (process.returncode, out, err) == (0, b"ended\n", b"")
            finally:
                process.kill()
                await asyncio.to_thread(process.wait)

    asyncio.run(main())


@pytest.mark.parametrize("place", ["folder", "/proc/ready.json"])
def test_a_ready_file_that_cannot_be_written_is_named_and_nothing_is_left_listening(lab, start, tmp_path, place):
    ready_file = tmp_path if place == "folder" else Path(place)

    async def main():
        async with FakeServer() as fake:
            settings = GatewaySettings(port=0, ready_file=ready_file, drain_s=1)
            with pytest.raises(ConfigError, match=r"ready_file is '.*', which cannot be"):
                async with start(lab.plan_of(lab.tier("a", fake.base_url)), settings=settings):
                    pass

    asyncio.run(main())


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
@pytest.mark.parametrize("hidden", ["nothing", "uvloop"])
def test_with_few_file_descriptors_clients_too_many_are_told_so_and_calls_to_upstreams_have_theirs(
    lab, tmp_path, hidden
):
    few = f"import resource, runpy, sys; sys.modules['{hidden}'] = None;"
    few += " resource.setrlimit(resource.RLIMIT_NOFILE, (96, 96));"
    run = " runpy.run_module('ownward', run_name='__main__')"

    async def main():
        async with FakeServer(FakeOptions(ttft_s=2.0)) as fake:
            (tmp_path / "plan.toml").write_text(dumps(lab.plan_of(lab.tier("a", fake.base_url))))
            flags = ["--plan", "plan.toml", "--ledger", "l.db", "--port", "0", "--ready-file", "r.json"]
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", few + run, "serve", *flags, cwd=tmp_path, stderr=asyncio.subprocess.PIPE
            )
            try:
                for _ in range(400):
                    if (tmp_path / "r.json").exists():
                        break
                    await asyncio.sleep(0.05)
                base_url = json.loads((tmp_path / "r.json").read_text())["base_url"]
                held = await asyncio.gather(*(ask(lab, base_url) for _ in range(150)))
                assert held.count(200) == 22, "as many again are for calls to upstreams"
                assert held.count(503) > 100, "a reset may overtake what the others are told"
                await asyncio.sleep(2.5)  # those who were told so stay as long, if they do not leave
                assert await ask(lab, base_url) == 200
            finally:
                process.terminate()
                said = (await asyncio.wait_for(process.communicate(), 20))[1].decode()
            assert process.returncode == 0
            assert "22 connections of clients are taken at a time, and not 12000" in said
            assert "upstream" not in said

    async def ask(lab, base_url):
        async with lab.Client(base_url) as client:
            try:
                await client.send(lab.CHAT, lab.chat())
                return (await client.head()).status
            except (OSError, EOFError):
                return None

    asyncio.run(main())
