"""What a gateway of several processes keeps over the end of one of them, and over plans that follow each other."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from types import SimpleNamespace

import psutil
import pytest

from ownward import ledger
from ownward.cli import _serve_workers
from ownward.core import EngineError, LedgerError, UsageError
from ownward.engines import FakeServer
from ownward.gateway import GatewayServer, GatewaySettings
from ownward.gateway.working.pool import WorkerPool
from ownward.gateway.working.worker import Worker
from ownward.plan import loads
from ownward.upstreams import Door
from served_workers import PLAN, serving
from waiting import until

NEVER_LESS = ("_total", "_bucket", "_sum", "_count")


def test_no_counter_falls_below_what_was_scraped_when_workers_are_killed(lab, tmp_path):
    """Prometheus takes a counter that falls for one that began anew, and adds all of it to the rate."""

    async def main():
        async with FakeServer() as fake, serving(tmp_path, fake.base_url) as served:

            async def scrape():
                text = (await lab.ask(served.base_url, "/metrics", method="GET")).body.decode()
                lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
                return {name: float(value) for name, _, value in lines if name.partition("{")[0].endswith(NEVER_LESS)}

            for _ in range(3):
                await asyncio.gather(*(lab.ask(served.base_url, lab.CHAT, lab.chat()) for _ in range(40)))
                before, workers = await scrape(), {worker.pid for worker in served.workers}
                for pid in workers:
                    os.kill(pid, signal.SIGKILL)
                await served.until(
                    lambda gone=workers: not gone & {worker.pid for worker in served.workers}, "others are there"
                )
                after = await scrape()
                assert before.items()
                assert {name for name, value in before.items() if after.get(name, 0) < value} == set()

    asyncio.run(main())


def test_who_connects_while_a_worker_cannot_be_started_is_answered_by_the_others(lab, tmp_path):
    async def main():
        async with FakeServer() as fake, serving(tmp_path, fake.base_url) as served:

            async def answers():
                asked = (lab.ask(served.base_url, lab.CHAT, lab.chat()) for _ in range(40))
                async with asyncio.timeout(10):
                    return {answer.status for answer in await asyncio.gather(*asked)}

            (tmp_path / "ownward.toml").write_text("[server]\nport = 'nowhere'\n")  # what a worker reads, too
            gone = served.workers[0]
            gone.kill()
            psutil.wait_procs([gone], timeout=10)
            for _ in range(10):  # from the moment of its end on, also those who wait in its socket
                assert await answers() == {200}
            seen = set()

            def has_tried_again():
                seen.update(worker.pid for worker in served.workers)
                return len(seen) >= 4  # the one that lives, and three that ended

            await served.until(has_tried_again, "another was started in vain")
            assert await answers() == {200}
            (tmp_path / "ownward.toml").write_text("")
            await served.until(lambda: len(served.workers) == 2, "there are two")
            both = {worker.pid for worker in served.workers}
            await asyncio.sleep(2)
            assert {worker.pid for worker in served.workers} == both, "it stays"
            os.kill(min(both), signal.SIGSTOP)  # only one of them accepts now
            try:
                asked = [asyncio.create_task(lab.ask(served.base_url, lab.CHAT, lab.chat())) for _ in range(40)]
                done, waiting = await asyncio.wait(asked, timeout=2)
                assert done, "one is given connections"
                assert waiting, "and so is the other"
            finally:
                os.kill(min(both), signal.SIGCONT)
            assert {answer.status for answer in await asyncio.gather(*asked)} == {200}

    asyncio.run(main())


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere workers share one socket")
def test_who_connects_to_a_worker_that_hangs_is_served_by_the_others(lab, tmp_path):
    async def main():
        async with FakeServer() as fake, serving(tmp_path, fake.base_url) as served:
            os.kill(served.workers[0].pid, signal.SIGSTOP)
            try:
                asked = (lab.ask(served.base_url, lab.CHAT, lab.chat()) for _ in range(40))
                async with asyncio.timeout(20):  # it is killed after a minute
                    assert {answer.status for answer in await asyncio.gather(*asked)} == {200}
            finally:
                os.kill(served.workers[0].pid, signal.SIGCONT)

    asyncio.run(main())


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere workers share one socket")
def test_who_connects_while_no_worker_is_left_waits_for_one(lab, tmp_path):
    async def main():
        async with FakeServer() as fake, serving(tmp_path, fake.base_url) as served:
            killed = served.workers
            for worker in killed:
                worker.kill()
            psutil.wait_procs(killed, timeout=10)
            asked = (lab.ask(served.base_url, lab.CHAT, lab.chat()) for _ in range(100))
            async with asyncio.timeout(20):
                assert {answer.status for answer in await asyncio.gather(*asked)} == {200}

    asyncio.run(main())


def test_metrics_of_one_worker_alone_are_not_told_as_those_of_all(lab, tmp_path, monkeypatch):
    async def main():
        async with FakeServer() as fake, serving(tmp_path, fake.base_url) as served:
            os.kill(served.pid, signal.SIGSTOP)
            try:
                answer = await lab.ask(served.base_url, "/metrics", method="GET")
            finally:
                os.kill(served.pid, signal.SIGCONT)
            assert (answer.status, json.loads(answer.body)["error"]["ownward_kind"]) == (503, "workers_silent")
            assert (await lab.ask(served.base_url, "/metrics", method="GET")).status == 200

    asyncio.run(main())


def test_of_two_reloads_the_later_one_holds_however_long_the_earlier_one_takes(lab, tmp_path):
    plans = [lab.plan_of(lab.tier(name, "http://127.0.0.1:1")) for name in ("old", "slow", "new")]
    told = iter(plans[1:])

    async def main():
        with ledger.open(tmp_path / "l.db") as opened:
            async with Door() as door:
                server = GatewayServer(
                    plan=plans[0],
                    ledger=opened,
                    door=door,
                    settings=GatewaySettings(port=0),
                    load_plan=lambda: next(told),
                )
                first = asyncio.Event()
                reload = server.gateway.reload

                async def slowly(plan):
                    if plan is plans[1]:
                        first.set()
                        await asyncio.sleep(0.3)
                    await reload(plan)

                server.gateway.reload = slowly
                serving = asyncio.create_task(server.serve())
                await until(lambda: server.gateway.table.plan is plans[0] and server._listener is not None)
                os.kill(os.getpid(), signal.SIGHUP)
                await first.wait()
                os.kill(os.getpid(), signal.SIGHUP)
                await until(lambda: server.gateway.table.plan is plans[2])
                await asyncio.sleep(0.4)
                assert server.gateway.table.plan is plans[2]
                os.kill(os.getpid(), signal.SIGTERM)
                await serving

    asyncio.run(main())


def test_of_two_reloads_of_workers_the_later_one_holds_too(tmp_path):
    path = tmp_path / "plan.toml"

    class Pool:
        plan = None

        async def reload(self, plan):
            await asyncio.sleep(0.2 if "slow" in plan.tiers else 0)
            self.plan = plan

    async def main():
        pool, serves, in_turn = Pool(), SimpleNamespace(plan_path=path), asyncio.Lock()
        path.write_text(PLAN.format(tier="slow", url="http://127.0.0.1:1"))
        first = asyncio.create_task(_serve_workers._reload(pool, serves, in_turn))
        await asyncio.sleep(0.1)
        path.write_text(PLAN.format(tier="new", url="http://127.0.0.1:1"))
        await _serve_workers._reload(pool, serves, in_turn)
        await first
        assert list(pool.plan.tiers) == ["new"]

    asyncio.run(main())


SAYS_ITS_PLAN = """
import json, pathlib, socket, sys, time
line = socket.socket(fileno=int(sys.argv[1]))
hello = json.loads(line.makefile("rb").readline())
with open(sys.argv[2], "a") as file:
    file.write(json.dumps(hello["plan"]) + "\\n")
line.sendall(json.dumps({"said": "ready"}).encode() + b"\\n")
time.sleep(60)
"""


def test_a_worker_that_starts_while_others_are_told_a_new_plan_is_told_it_as_well(tmp_path, monkeypatch):
    monkeypatch.setattr("ownward.gateway.working.pool._STOP_GRACE_S", 0.1)
    (tmp_path / "worker.py").write_text(SAYS_ITS_PLAN)
    (tmp_path / "told").touch()
    old, new = (loads(PLAN.format(tier=name, url="http://127.0.0.1:1"), file="plan.toml") for name in ("old", "new"))

    def told():
        return [json.loads(line) for line in (tmp_path / "told").read_text().splitlines()]

    async def main():
        with ledger.open(tmp_path / "l.db") as opened:
            pool = WorkerPool(
                count=2, command=(sys.executable, str(tmp_path / "worker.py"), "{line}", str(tmp_path / "told")),
                hello=lambda _: {}, plan=old, settings=GatewaySettings(port=0, drain_s=0), ledger=opened, addresses={},
            )  # fmt: skip
            await pool.start()
            try:
                reload = asyncio.create_task(pool.reload(new))  # neither worker ever answers
                await asyncio.sleep(0.05)
                os.kill(pool.pids[1], signal.SIGKILL)
                await until(lambda: len(told()) == 3)
                assert told() == [old.canonical_text, old.canonical_text, new.canonical_text]
                reload.cancel()
            finally:
                with pytest.raises(LedgerError, match="killed"):  # as they never end
                    await pool.stop()

    asyncio.run(main())


def test_an_answer_that_comes_too_late_is_not_taken_for_that_to_a_later_question(tmp_path):
    async def main():
        ours, theirs = await _pair()
        process = SimpleNamespace(returncode=None)
        worker = Worker(process, *ours, taker=socket.socket(), on_collect=None, on_news=None)
        assert await worker.ask({"do": "reload"}, 0.05) is None
        late = json.loads(await theirs[0].readline())
        asked = asyncio.create_task(worker.ask({"do": "snapshot"}, 5))
        now = json.loads(await theirs[0].readline())
        theirs[1].write(json.dumps({"said": "done", "id": late["id"], "why": "refused"}).encode() + b"\n")
        theirs[1].write(json.dumps({"said": "done", "id": now["id"], "text": "metrics"}).encode() + b"\n")
        assert (await asked)["text"] == "metrics"
        worker.close()
        theirs[1].close()

    asyncio.run(main())


async def _pair():
    import socket

    return [await asyncio.open_unix_connection(sock=end) for end in socket.socketpair()]


STARTS_OR_NOT = """
import json, socket, sys, time
line = socket.socket(fileno=int(sys.argv[1]))
if json.loads(line.makefile("rb").readline())["number"]:
    sys.exit(int(sys.argv[2]))
time.sleep(60)
"""


@pytest.mark.parametrize(("status", "kind"), [(2, UsageError), (4, EngineError), (5, LedgerError), (1, EngineError)])
def test_a_start_that_fails_in_one_worker_ends_as_it_did_and_waits_for_no_other(lab, tmp_path, status, kind):
    """The others may wait for the same ledger, and so would whoever settles what ended processes left."""
    (tmp_path / "worker.py").write_text(STARTS_OR_NOT)

    async def main():
        with ledger.open(tmp_path / "l.db") as opened:
            pool = WorkerPool(
                count=2, command=(sys.executable, str(tmp_path / "worker.py"), "{line}", str(status)),
                hello=lambda number: {"number": number}, plan=lab.plan_of(lab.tier("a", "http://127.0.0.1:1")),
                settings=GatewaySettings(port=0), ledger=opened, addresses={},
            )  # fmt: skip
            opened.reconcile = lambda **_: pytest.fail("waited for the ledger")
            began_s = asyncio.get_running_loop().time()
            with pytest.raises(kind, match=f"worker 1 did not start: it ended with status {status}") as caught:
                await pool.start()
            await pool.stop()
            assert caught.value.exit_code == (status if status in {2, 4, 5} else 4)
            assert asyncio.get_running_loop().time() - began_s < 15
            assert len(pool.pids) == 2
            assert not any(psutil.pid_exists(pid) for pid in pool.pids)

    asyncio.run(main())


STARTS_UNLESS_DOWN = """
import json, pathlib, socket, sys
line = socket.socket(fileno=int(sys.argv[1]))
orders = line.makefile("rb")
orders.readline()
if pathlib.Path(sys.argv[2]).exists():
    sys.exit(5)
line.sendall(json.dumps({"said": "ready"}).encode() + b"\\n")
while (order := orders.readline()) and json.loads(order)["do"] != "stop":
    pass
"""


def pool_of_one(lab, folder, opened):
    (folder / "worker.py").write_text(STARTS_UNLESS_DOWN)
    return WorkerPool(
        count=1, command=(sys.executable, str(folder / "worker.py"), "{line}", str(folder / "down")),
        hello=lambda _: {}, plan=lab.plan_of(lab.tier("a", "http://127.0.0.1:1")),
        settings=GatewaySettings(port=0, drain_s=0), ledger=opened, addresses={},
    )  # fmt: skip


def test_a_worker_that_waits_for_its_ledger_is_back_soon_after_it(lab, tmp_path, monkeypatch):
    """However long its next pause would be: a database that restarts is often away for a minute."""
    monkeypatch.setattr("ownward.gateway.working.pool._SHORTEST_PAUSE_S", 30.0)
    down = tmp_path / "down"

    async def main():
        with ledger.open(tmp_path / "l.db") as opened:
            looked, flush = [], opened.flush_blocking

            def flush_unless_down():
                looked.append(down.exists())
                if looked[-1]:
                    raise LedgerError("cannot open the ledger: connection refused")
                flush()

            opened.flush_blocking = flush_unless_down
            pool = pool_of_one(lab, tmp_path, opened)
            await pool.start()
            first = pool.pids
            try:
                down.touch()
                os.kill(first[0], signal.SIGKILL)
                await until(lambda: len(looked) > 1)
                assert pool.pids == first
                down.unlink()
                async with asyncio.timeout(10):
                    await until(lambda: pool.pids != first)
            finally:
                await pool.stop()

    asyncio.run(main())


def test_a_worker_that_ends_at_once_for_another_reason_than_its_ledger_waits_out_its_pause(lab, tmp_path, monkeypatch):
    for name, value in (("_SHORTEST_PAUSE_S", 1.0), ("_LOOK_EVERY_S", 0.05)):
        monkeypatch.setattr(f"ownward.gateway.working.pool.{name}", value)

    async def main():
        with ledger.open(tmp_path / "l.db") as opened:
            pool = pool_of_one(lab, tmp_path, opened)
            await pool.start()
            first = pool.pids
            try:
                os.kill(first[0], signal.SIGKILL)
                began_s = asyncio.get_running_loop().time()
                await until(lambda: pool.pids != first)
                assert asyncio.get_running_loop().time() - began_s > 0.9
            finally:
                await pool.stop()

    asyncio.run(main())
