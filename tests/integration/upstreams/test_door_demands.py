"""What the door demands of a call, and where it goes to no matter who asks."""

from __future__ import annotations

import asyncio

import pytest

from door_calls import HERE, call, permit_for
from ownward.core import BadInput, BrokenStream, PolicyRefusal, UpstreamTimeout, UpstreamUnreachable, UsageError
from ownward.policy import ANY, Label, Place
from ownward.upstreams import Door, Http1Transport, Timeouts


def test_without_a_permit_nothing_goes_out(serve):
    async def main():
        async with serve(lambda v: v.answer(b"ok")) as served, Door() as door:

            class Looks:
                label, place, upstream, origin = ANY, HERE, "u", served.origin

                def covers(self, body):
                    return True

            for permit in (None, Looks(), object()):
                with pytest.raises(PolicyRefusal, match="without a permit"):
                    await door.send(permit, method="POST", target="/", headers=(), body=b"")
            assert served.connections == 0

    asyncio.run(main())


def test_a_permit_opens_the_door_for_its_own_body_only(serve):
    async def main():
        async with serve(lambda v: v.answer(b"ok")) as served, Door() as door:
            permit = permit_for(served.origin, b"mine")
            for body in (b"other", b"mine ", b""):
                with pytest.raises(PolicyRefusal, match="not the one"):
                    await door.send(permit, method="POST", target="/", headers=(), body=body)
            assert served.connections == 0
            same = bytes(bytearray(b"mine"))
            await (await door.send(permit, method="POST", target="/", headers=(), body=same)).read(9)
            assert served.visits[0].body == b"mine"

    asyncio.run(main())


def test_the_call_goes_to_the_permits_origin(serve):
    async def main():
        async with serve(lambda v: v.answer(b"a")) as one, serve(lambda v: v.answer(b"b")) as two, Door() as door:
            assert await (await call(door, one.origin)).read(9) == b"a"
            assert await (await call(door, two.origin)).read(9) == b"b"
            assert len(one.visits) == len(two.visits) == 1

    asyncio.run(main())


class FakeDns:
    """A resolver whose answers change from call to call."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers, self.calls = list(answers), 0

    async def __call__(self, host: str, port: int) -> list[str]:
        self.calls += 1
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.mark.parametrize(
    "addresses", [["8.8.8.8"], ["127.0.0.1", "8.8.8.8"], ["10.0.0.7"], ["100.64.0.1"], ["2001:db8::1"]]
)
def test_a_place_stated_local_whose_address_is_not_is_refused(addresses):
    async def main():
        transport = Http1Transport(resolver=FakeDns(addresses))
        async with Door(transport=transport) as door:
            for origin in ("http://model.internal", "https://model.internal"):
                with pytest.raises(PolicyRefusal, match="stated to be on this machine"):
                    await call(door, origin)
            assert transport.open_connections == 0

    asyncio.run(main())


@pytest.mark.parametrize("addresses", [["8.8.8.8"], ["10.0.0.7", "8.8.8.8"], ["100.64.0.1"], ["2001:db8::1"]])
def test_a_place_stated_on_site_whose_address_is_not_private_is_refused(addresses):
    async def main():
        transport = Http1Transport(resolver=FakeDns(addresses))
        async with Door(transport=transport) as door:
            permit = permit_for("https://model.internal", label=Label.parse("site"), place=Place(is_on_site=True))
            with pytest.raises(PolicyRefusal, match="stated to be on your own network"):
                await door.send(permit, method="GET", target="/", headers=())
            assert transport.open_connections == 0

    asyncio.run(main())


@pytest.mark.parametrize("address", ["169.254.169.254", "0.0.0.0", "224.0.0.1", "fe80::1%eth0", "::"])
def test_no_upstream_may_stand_at_a_forbidden_address(address):
    async def main():
        async with Door(transport=Http1Transport(resolver=FakeDns([address]))) as door:
            for place in (HERE, Place(region="eu")):
                permit = permit_for("https://x.example", label=ANY, place=place)
                with pytest.raises(PolicyRefusal, match="no upstream may be"):
                    await door.send(permit, method="GET", target="/", headers=())

    asyncio.run(main())


def test_what_would_travel_in_the_clear_to_a_public_address_is_refused():
    async def main():
        async with Door(transport=Http1Transport(resolver=FakeDns(["8.8.8.8"]))) as door:
            permit = permit_for("http://x.example", label=ANY, place=Place(region="eu"))
            with pytest.raises(PolicyRefusal, match="not encrypted"):
                await door.send(permit, method="GET", target="/", headers=())

    asyncio.run(main())


def test_the_address_checked_is_the_address_connected_to(serve):
    """A name that resolves to loopback when checked and elsewhere a moment later reaches loopback."""

    async def main():
        async with serve(lambda v: v.answer(b"ok")) as served:
            dns = FakeDns(["127.0.0.1"], ["8.8.8.8"])
            async with Door(transport=Http1Transport(resolver=dns)) as door:
                origin = served.origin.replace("127.0.0.1", "rebind.example")
                assert await (await call(door, origin)).read(9) == b"ok"
                assert dns.calls == 1
                assert served.visits[0].head.split(b"\r\n")[1].startswith(b"host: rebind.example:")

    asyncio.run(main())


def test_calls_that_need_connections_at_once_look_their_host_up_once(serve):
    async def main():
        async with serve(lambda v: v.answer(b"ok")) as served:
            dns = FakeDns(["127.0.0.1"])
            async with Door(transport=Http1Transport(resolver=dns)) as door:
                origin = served.origin.replace("127.0.0.1", "model.example")
                answers = await asyncio.gather(*[call(door, origin) for _ in range(20)])
                assert [await answer.read(9) for answer in answers] == [b"ok"] * 20
                assert dns.calls == 1

    asyncio.run(main())


def test_a_connection_opened_for_a_remote_place_never_serves_a_local_permit(serve, monkeypatch):
    """Pooled connections are checked too: here loopback stands for a public address."""

    async def main():
        async with serve(lambda v: v.answer(b"ok")) as served, Door() as door:
            await (await call(door, served.origin)).read(9)
            pool = next(iter(door._transport._pools.values()))
            pool.idle[0].reaches -= {"machine"}
            with pytest.raises(PolicyRefusal, match="stated to be on this machine"):
                await call(door, served.origin)
            site = permit_for(served.origin, label=Label.parse("site"), place=Place(is_on_site=True))
            await (await door.send(site, method="GET", target="/", headers=())).read(9)
            pool.idle[0].reaches -= {"site"}
            with pytest.raises(PolicyRefusal, match="stated to be on your own network"):
                await door.send(site, method="GET", target="/", headers=())
            assert len(served.visits) == 2

    asyncio.run(main())


@pytest.mark.parametrize(
    ("target", "headers"),
    [
        ("/a\r\nx: y", ()),
        ("/a b", ()),
        ("/a\n", ()),
        ("/", [(b"x", b"a\r\nhost: evil")]),
        ("/", [(b"x", b"a\nb")]),
        ("/", [(b"x\r\n", b"a")]),
        ("/", [(b"x", b"a\0")]),
        ("/", [(b"x", b"a\r")]),
    ],
)
def test_line_breaks_in_target_or_headers_are_refused_without_showing_them(serve, target, headers):
    async def main():
        async with serve(lambda v: v.answer(b"ok")) as served, Door() as door:
            with pytest.raises(BadInput) as refused:
                await door.send(permit_for(served.origin), method="GET", target=target, headers=headers)
            assert "evil" not in str(refused.value)
            assert served.visits == []

    asyncio.run(main())


def test_keys_are_in_no_message_repr_or_log(serve, caplog, unused_origin):
    async def main():
        key = "sk-canary-4711"
        headers = [(b"authorization", f"Bearer {key}".encode())]
        body = b'{"secret":"canary-body"}'
        seen = []
        scripts = [
            lambda v: v.write(b"nonsense\r\n\r\n"),
            lambda v: v.transport.abort(),
            lambda v: None,
            lambda v: v.write(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx"),
        ]
        quick = Timeouts(first_byte_s=0.05, stall_s=0.05)
        async with Door() as door:
            for script in scripts:
                async with serve(script) as served:
                    try:
                        response = await call(door, served.origin, body, timeouts=quick, headers=headers)
                        seen.append(repr(response))
                        await response.read(99)
                    except (BrokenStream, UpstreamTimeout) as error:
                        seen += [str(error), repr(error), repr(error.as_record())]
            with pytest.raises(UpstreamUnreachable) as unreachable:
                await call(door, unused_origin, body, headers=headers)
            seen += [str(unreachable.value), repr(door), repr(permit_for(unused_origin, body))]
            seen += [repr(connection) for connection in door._transport._connections]
        assert len(seen) > 10
        assert not any("canary" in text for text in [*seen, caplog.text])

    asyncio.run(main())


def test_timeouts_are_above_zero():
    with pytest.raises(UsageError, match="stall_s"):
        Timeouts(stall_s=0)
