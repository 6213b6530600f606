"""The gateway is an ASGI application: another server carries it as well, if slower."""
# ruff: noqa: ASYNC110 - what is waited for is looked at from outside

import asyncio
import socket

import uvicorn

from ownward import ledger
from ownward.core import SystemClock
from ownward.engines import FakeOptions, FakeServer
from ownward.gateway import GatewaySettings
from ownward.gateway.app import Gateway
from ownward.upstreams import Door


def test_under_uvicorn_answers_streams_and_clients_that_leave_are_the_same(lab, tmp_path):
    async def main():
        async with FakeServer(FakeOptions(tpot_s=0.02)) as fake, Door() as door:
            opened = ledger.open(tmp_path / "ledger.db")
            gateway = Gateway(
                plan=lab.plan_of(lab.tier("a", fake.base_url)),
                ledger=opened,
                door=door,
                settings=GatewaySettings(port=0),
                clock=SystemClock(),
            )
            await gateway.start()
            listener = socket.create_server(("127.0.0.1", 0))
            server = uvicorn.Server(uvicorn.Config(gateway, lifespan="off", ws="none", log_config=None))
            serving = asyncio.create_task(server._serve([listener]))
            while not server.started:
                await asyncio.sleep(0.01)
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"

            whole = await lab.ask(url, lab.CHAT, lab.chat())
            assert (whole.status, whole.headers["x-ownward-tier"]) == (200, "a")
            assert (await lab.ask(url, lab.CHAT, lab.chat(stream=True))).body.endswith(b"data: [DONE]\n\n")
            assert (await lab.ask(url, lab.CHAT, lab.chat(model="unknown"))).status == 404
            async with lab.Client(url) as leaving:
                await leaving.send(lab.CHAT, lab.chat(stream=True))
                await leaving.head()
            while gateway.exchanges:
                await asyncio.sleep(0.01)

            server.should_exit = True
            await serving
            await gateway.stop()
            states = sorted(row["state"] for row in opened.export_rows())
            opened.close()
            assert states == ["refused", "settled", "settled", "unsettled"]

    asyncio.run(main())
