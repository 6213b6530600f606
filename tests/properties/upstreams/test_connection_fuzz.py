"""The response parser under arbitrary bytes in arbitrary pieces: nothing escapes, nothing is mixed up."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ownward.core import BrokenStream
from ownward.upstreams import Response
from ownward.upstreams._alarm import Alarm
from ownward.upstreams._connection import Connection


class FakeTransport:
    """A transport that remembers what was done to it."""

    def __init__(self) -> None:
        self.is_aborted = self.is_paused = False
        self.written = b""

    def get_extra_info(self, name: str) -> None:
        return None

    def get_write_buffer_size(self) -> int:
        return 0

    def write(self, data: bytes) -> None:
        self.written += data

    def abort(self) -> None:
        self.is_aborted = True

    def pause_reading(self) -> None:
        assert not self.is_paused
        self.is_paused = True

    def resume_reading(self) -> None:
        assert self.is_paused
        self.is_paused = False


class NoLoop:
    """Stands for a loop that nothing here may use."""

    def is_closed(self) -> bool:
        return True


def converse(pieces: list[bytes], *, close: bool = True, head: bool = False) -> tuple[Response, Connection, bytes]:
    transport, freed = FakeTransport(), []
    connection = Connection(header_limit=4096, on_free=freed.append, alarm=Alarm(NoLoop()))
    connection.connection_made(transport)
    response = Response(upstream="u", origin="http://a", loop=NoLoop(), stall_s=1, buffer_bytes=64)
    connection.start(b"GET", response, is_head_request=head)
    for piece in pieces:
        if not transport.is_aborted:
            connection.data_received(piece)
    if close or transport.is_aborted:
        connection.connection_lost(None)
    assert transport.is_aborted == connection.is_closed or close
    return response, connection, b"".join(response._buffer)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    marks = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[marks[i] : marks[i + 1]] for i in range(len(marks) - 1)]


cuts = st.lists(st.integers(0, 5000), max_size=10)
bodies = st.lists(st.binary(min_size=1, max_size=40), max_size=5)


@st.composite
def answers(draw: st.DrawFn) -> tuple[bytes, bytes, bool]:
    """A well-formed answer, its body, and whether it ends only with its connection."""
    pieces = draw(bodies)
    body = b"".join(pieces)
    status = draw(st.sampled_from([b"200 OK", b"200", b"404 Not Found", b"503 x"]))
    headers = draw(
        st.lists(st.sampled_from([b"x-a: 1", b"Server: y", b"content-type: text/event-stream", b"x:"]), max_size=3)
    )
    before = draw(st.sampled_from([b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Hints\r\nlink: z\r\n\r\n"]))
    framing = draw(st.sampled_from(["length", "chunked", "close"]))
    if framing == "length":
        headers, wire = [*headers, b"Content-Length: %d" % len(body)], body
    elif framing == "chunked":
        trailer = draw(st.sampled_from([b"", b"x-t: 1\r\n"]))
        wire = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n" + trailer + b"\r\n"
        headers = [*headers, b"Transfer-Encoding: chunked"]
    else:
        wire = body
    head = b"\r\n".join([b"HTTP/1.1 " + status, *headers])
    return before + head + b"\r\n\r\n" + wire, body, framing == "close"


@given(answers(), cuts)
def test_a_good_answer_is_read_alike_however_it_is_cut(answer, places):
    wire, body, runs_to_the_end = answer
    response, connection, got = converse(cut(wire, places), close=runs_to_the_end)
    assert got == body
    assert response.is_complete
    assert response.bytes_received == len(body)
    assert response.header(b"x-t") is None
    assert connection.is_closed == runs_to_the_end
    assert not connection.is_busy()


@given(answers(), cuts, st.integers(1, 60))
def test_a_cut_answer_is_a_prefix_and_never_complete_unless_the_end_means_it(answer, places, missing):
    wire, body, runs_to_the_end = answer
    response, connection, got = converse(cut(wire[: max(0, len(wire) - missing)], places))
    assert body.startswith(got)
    assert connection.is_closed
    if not response.is_complete:
        assert isinstance(response._failure, BrokenStream)
    elif not runs_to_the_end:
        assert got == body


@given(st.lists(st.binary(max_size=60), max_size=8))
def test_garbage_ends_in_a_broken_stream(pieces):
    response, connection, _ = converse(pieces)
    assert connection.is_closed
    assert response.is_complete or isinstance(response._failure, BrokenStream)


@given(answers(), st.data())
def test_a_flipped_byte_never_escapes_as_another_exception(answer, data):
    wire = bytearray(answer[0])
    for _ in range(data.draw(st.integers(1, 4))):
        wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.integers(0, 255))
    response, connection, _ = converse(cut(bytes(wire), data.draw(cuts)))
    assert connection.is_closed
    assert response.is_complete or isinstance(response._failure, BrokenStream)


@given(answers(), answers(), cuts)
def test_what_follows_an_answer_closes_the_connection_and_joins_nothing(first, second, places):
    wire, body, runs_to_the_end = first
    if runs_to_the_end:
        return
    response, connection, got = converse(cut(wire + second[0], places), close=False)
    assert got == body
    assert response.is_complete
    assert connection.is_closed
