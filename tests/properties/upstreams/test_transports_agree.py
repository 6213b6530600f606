"""Whichever transport carries it, the same request arrives: line, headers and body, byte for byte."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from ownward.policy import Label, Place, issue_permit
from ownward.upstreams import Door, Http1Transport, Proxy, Timeouts, Transport, Way
from ownward.upstreams.proxied import AiohttpTransport

ANYWHERE, THERE = Label.parse("any"), Place(is_local=False, region="eu")
NAMES = st.one_of(
    st.sampled_from(
        ["Authorization", "Content-Type", "User-Agent", "Accept", "Accept-Encoding", "Cookie", "X-Forwarded-For"]
    ),
    st.sampled_from(
        ["Host", "Connection", "Content-Length", "Transfer-Encoding", "Proxy-Authorization", "Expect", "TE"]
    ),
    st.text("abcdefXYZ019-_!#$", min_size=1, max_size=8),
).map(str.encode)
VALUES = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=12).map(str.encode)
HEADERS = st.lists(st.tuples(NAMES, VALUES), max_size=6)
TARGETS = st.from_regex(
    r"/(v1/)?[a-zA-Z0-9._~!$&'()*+,;=:@/-]{0,10}(%[0-9A-F]{2}){0,2}(\?[a-z0-9=&%2F+.,:/?-]{1,9})?", fullmatch=True
)
BODIES = st.binary(max_size=200) | st.binary(min_size=1, max_size=1).map(lambda byte: byte * 1_200_000)
METHODS = st.sampled_from(["POST", "GET", "PUT", "PATCH", "DELETE"])


async def arriving(way_of, *, method, target, headers, body) -> tuple[bytes, list[bytes], bytes]:
    """Return the request line, the headers and the body as they came in, without `connection`."""
    came = asyncio.get_running_loop().create_future()

    async def visit(reader, writer):
        head, *lines = (await reader.readuntil(b"\r\n\r\n"))[:-4].split(b"\r\n")
        length = [int(line.split(b":")[1]) for line in lines if line.lower().startswith(b"content-length:")]
        content = await reader.readexactly(length[0]) if length else b""
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        writer.close()
        came.set_result((head, lines, content))

    server = await asyncio.start_server(visit, "127.0.0.1", 0, limit=1 << 20)
    port = server.sockets[0].getsockname()[1]
    transport: Transport = way_of(port)
    async with Door(transport=transport) as door:
        permit = issue_permit(label=ANYWHERE, place=THERE, upstream="u", origin="http://127.0.0.1:9", body=body)
        if not isinstance(transport, AiohttpTransport) or transport._way.is_direct:
            permit = issue_permit(
                label=ANYWHERE, place=THERE, upstream="u", origin=f"http://127.0.0.1:{port}", body=body
            )
        response = await door.send(
            permit, method=method, target=target, headers=headers, body=body, timeouts=Timeouts(first_byte_s=5)
        )
        assert response.status == 204
    head, lines, content = await came
    server.close()
    # What is of one connection, and the port that differs, are left out.
    kept = sorted(
        name.lower() + b":" + value.replace(b"127.0.0.1:9", b"ORIGIN").replace(b"127.0.0.1:%d" % port, b"ORIGIN")
        for name, _, value in (line.partition(b":") for line in lines)
        if name.lower() != b"connection"
    )
    return head.replace(b"http://127.0.0.1:9", b""), kept, content


@settings(max_examples=40, deadline=None)
@given(METHODS, TARGETS, HEADERS, BODIES)
def test_the_same_request_arrives(method, target, headers, body):
    request = {"method": method, "target": target, "headers": headers, "body": body}

    async def main():
        ours = await arriving(lambda port: Http1Transport(), **request)
        theirs = await arriving(lambda port: AiohttpTransport(), **request)
        proxied = await arriving(
            lambda port: AiohttpTransport(Way(proxy=Proxy.parse(f"http://127.0.0.1:{port}"))), **request
        )
        assert ours == theirs == proxied
        assert ours[2] == body

    asyncio.run(main())
