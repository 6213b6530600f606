"""A network in memory: names, and an event loop whose connections lead to hosts of ours, and to nothing else.

The gateway's own door, transport, pools and parser run unchanged on it. A host hears every byte that reaches its
address, and answers as it was told to.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn
from weakref import WeakKeyDictionary

Address = tuple[str, int]

BEHAVIOURS = (
    "ok", "echo", "odd_id", "500", "503", "429", "401", "403", "404", "400", "error_stream", "cut", "reset", "garbage",
    "redirect", "refused", "closes", "late",
)  # fmt: skip
"""What a host does with a request; those that fail quote the request where they can, as real ones do."""

LATE_S = 0.03
"""How long a host thinks that is late."""

HEALTHY = frozenset({"ok", "echo", "odd_id", "late"})
"""Not `closes`: of a real socket the kernel tells at once that its other end is gone, here it is told a turn later."""


@dataclass(slots=True, eq=False)
class Host:
    """A machine at an address; `names` are those its certificate bears, none where it speaks no TLS."""

    name: str
    address: Address
    names: frozenset[str] = frozenset()
    behaviour: str = "ok"
    leads_to: str = ""
    holds: bool = False
    held: list[Callable[[], None]] = field(default_factory=list)
    heard: int = 0


@dataclass(slots=True, kw_only=True)
class Heard:
    """One request that reached a host, whole or in part."""

    host: Host
    head: bytes
    body: bytes


class Network:
    """Who is where, under which name, and what they heard."""

    def __init__(
        self, hosts: list[Host], *, on_heard: Callable[[Heard], None], on_strayed: Callable[[str], None]
    ) -> None:
        """Start with every host answering; `on_strayed` is told of connections that must not be."""
        self.hosts = {host.name: host for host in hosts}
        self.by_address = {host.address: host for host in hosts}
        self.names: dict[str, list[str]] = {}
        self.on_heard = on_heard
        self.on_strayed = on_strayed

    def find(self, address: Address, *, tls: ssl.SSLContext | None, server_hostname: str | None) -> Host:
        """Return who answers at an address; raises OSError as the system would."""
        host = self.by_address.get(address)
        if host is None:
            self.on_strayed(f"a connection to {address[0]}:{address[1]}, where nobody of the plan is")
            raise ConnectionRefusedError(111, "Connection refused")
        if host.behaviour == "refused":
            raise ConnectionRefusedError(111, "Connection refused")
        if tls is not None:
            if not host.names:
                raise ssl.SSLError(1, "wrong version number")
            verifies = tls.verify_mode == ssl.CERT_REQUIRED and tls.check_hostname
            if verifies and server_hostname not in host.names:
                error = ssl.SSLCertVerificationError(1, "certificate verify failed")
                error.verify_message = "Hostname mismatch"
                raise error
        return host

    async def resolve(self, host: str, port: int) -> list[str]:
        """Return the addresses of a name; raises OSError where there are none."""
        del port
        found = self.names.get(host, [])
        if not found:
            raise socket.gaierror(-2, "Name or service not known")
        return found

    def stray(self, *asked: Any, **_: Any) -> NoReturn:
        """Stand where the system would look a name up: all are looked up here."""
        self.on_strayed(f"a lookup of {asked[0]} outside of this network")
        raise socket.gaierror(-2, "Name or service not known")


class NetworkLoop(asyncio.SelectorEventLoop):
    """An event loop that connects to a `Network`."""

    network: Network

    def __init__(self) -> None:
        """Start without connections."""
        super().__init__()
        self._connected: WeakKeyDictionary[socket.socket, Address] = WeakKeyDictionary()

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        """Connect a socket to a host of the network, and to nothing of the system's."""
        self.network.find(address, tls=None, server_hostname=None)
        self._connected[sock] = address

    async def create_connection(
        self, protocol_factory: Any, host: Any = None, port: Any = None, *, sock: Any = None, **more: Any
    ) -> Any:
        """Connect to a host of the network, or go on with a socket that is connected to one."""
        address = (host, port)
        if sock is not None:
            address = self._connected.pop(sock)
            sock.close()  # nothing of the system's is behind it
        found = self.network.find(address, tls=more.get("ssl"), server_hostname=more.get("server_hostname"))
        protocol = protocol_factory()
        transport = _Wire(self, protocol, found)
        protocol.connection_made(transport)
        return transport, protocol


class _Wire(asyncio.Transport):
    """The gateway's end of a connection, and the host behind it."""

    def __init__(self, loop: NetworkLoop, protocol: asyncio.Protocol, host: Host) -> None:
        super().__init__()
        self._loop = loop
        self._protocol = protocol
        self._host = host
        self._received = b""
        self._is_closed = False
        self._is_paused = False
        self._waiting: list[bytes | None] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._received += bytes(data)
        while not self._is_closed:
            head, end, rest = self._received.partition(b"\r\n\r\n")
            length = _length_in(head)
            if not end or len(rest) < length:
                return
            self._received = rest[length:]
            heard = Heard(host=self._host, head=head, body=rest[:length])
            self._host.heard += 1
            self._loop.network.on_heard(heard)
            if self._host.holds:
                self._host.held.append(lambda heard=heard: self._answer(heard))  # type: ignore[misc]
            elif self._host.behaviour == "late":
                self._loop.call_later(LATE_S, self._answer, heard)
            else:
                self._loop.call_soon(self._answer, heard)

    def _answer(self, heard: Heard) -> None:
        if not self._is_closed:
            for piece in _answer_of(heard, self._loop.network):
                self._give(piece)

    def _give(self, piece: bytes | None) -> None:
        if self._is_paused:
            self._waiting.append(piece)
        elif piece is None:
            self._lose(None)
        elif not self._is_closed:
            self._protocol.data_received(piece)

    def _lose(self, error: Exception | None) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._loop.call_soon(self._protocol.connection_lost, error)

    def pause_reading(self) -> None:
        self._is_paused = True

    def resume_reading(self) -> None:
        self._is_paused = False
        waiting, self._waiting = self._waiting, []
        for piece in waiting:
            self._give(piece)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        del name
        return default

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self._is_closed

    def close(self) -> None:
        self._lose(None)

    def abort(self) -> None:
        self._lose(None)


def _length_in(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.split(b":")[1])
    return 0


def _answer_of(heard: Heard, network: Network) -> list[bytes | None]:
    """Return what the host sends, piece by piece; None is the end of its connection."""
    host, asked = heard.host, _read(heard.body)
    path = heard.head.split(b" ", 2)[1].decode("latin-1")
    quoted = heard.body.decode("utf-8", "replace")
    is_stream = asked.get("stream") is True and "embeddings" not in path and "count_tokens" not in path
    match host.behaviour:
        case "500" | "503" | "429" | "401" | "403" | "404" | "400" as status:
            message = {"error": {"message": f"cannot do: {quoted}", "type": "invalid_request_error", "code": quoted}}
            extra = b"retry-after: 1\r\n" if status == "429" else b""
            return [_whole(message, status=int(status), extra=extra)]
        case "reset" | "refused":  # refused: it went down on a kept connection
            return [None]
        case "garbage":
            return [b"\x00\x01 what " + heard.body]
        case "redirect":
            place = network.hosts[host.leads_to] if host.leads_to else host
            location = f"http://{place.address[0]}:{place.address[1]}{path}".encode()
            return [_whole({"moved": quoted}, status=307, extra=b"location: " + location + b"\r\n")]
        case "error_stream" if is_stream:
            event = json.dumps({"type": "error", "error": {"message": f"cannot do: {quoted}", "type": "server_error"}})
            return [_STREAM_HEAD, _chunk(b"data: " + event.encode() + b"\n\n"), b"0\r\n\r\n"]
        case "error_stream":
            return [_whole({"error": {"message": f"cannot do: {quoted}", "code": 500}})]
        case _:
            pass
    says = quoted[:4000] if host.behaviour == "echo" else "done: 42"
    answer_id = quoted[:4000] if host.behaviour == "odd_id" else "a-1"
    extra = b"x-request-id: " + json.dumps(answer_id).encode()[:300] + b"\r\n"
    if is_stream:
        pieces = [_STREAM_HEAD_WITH % extra, *map(_chunk, _events(path, says, answer_id)), b"0\r\n\r\n"]
    else:
        pieces = [_whole(_object(path, says, answer_id), extra=extra)]
    if host.behaviour == "cut":
        return [*pieces[:-2], pieces[-2][:20], None] if is_stream else [pieces[0][:-5], None]
    return [*pieces, None] if host.behaviour == "closes" else pieces


_STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_STREAM_HEAD_WITH = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n%btransfer-encoding: chunked\r\n\r\n"


def _read(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _whole(answer: dict[str, Any], *, status: int = 200, extra: bytes = b"") -> bytes:
    body = json.dumps(answer).encode()
    head = b"HTTP/1.1 %d Said\r\ncontent-type: application/json\r\n%bcontent-length: %d\r\n\r\n"
    return head % (status, extra, len(body)) + body


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _object(path: str, says: str, answer_id: str) -> dict[str, Any]:
    usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    if "count_tokens" in path:
        return {"input_tokens": 5}
    if "messages" in path:
        return {
            "id": answer_id, "type": "message", "role": "assistant", "model": "m",
            "content": [{"type": "text", "text": says}], "stop_reason": "end_turn", "stop_sequence": None,
            "usage": {"input_tokens": 5, "output_tokens": 2},
        }  # fmt: skip
    if "embeddings" in path:
        return {"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}], "model": "m",
                "usage": {"prompt_tokens": 5, "total_tokens": 5}}  # fmt: skip
    if "responses" in path:
        part = {"type": "output_text", "text": says, "annotations": []}
        item = {"id": "i", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
        return {"id": answer_id, "object": "response", "created_at": 1, "status": "completed", "model": "m",
                "output": [item], "usage": {"input_tokens": 5, "output_tokens": 2, "total_tokens": 7}}  # fmt: skip
    choice = {"index": 0, "finish_reason": "stop"}
    if "chat" in path:
        message = {"message": {"role": "assistant", "content": says}}
        return {"id": answer_id, "object": "chat.completion", "created": 1, "model": "m",
                "choices": [choice | message], "usage": usage}  # fmt: skip
    return {"id": answer_id, "object": "text_completion", "created": 1, "model": "m",
            "choices": [choice | {"text": says}], "usage": usage}  # fmt: skip


def _events(path: str, says: str, answer_id: str) -> list[bytes]:
    whole = _object(path, says, answer_id)
    if "messages" in path:
        events = [
            {"type": "message_start", "message": {**whole, "content": [], "stop_reason": None}},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": says}},
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
            {"type": "message_stop"},
        ]
        return [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events]
    if "responses" in path:
        begun = {**whole, "status": "in_progress", "output": []}
        events = [
            {"type": "response.created", "response": begun},
            {"type": "response.output_text.delta", "delta": says, "item_id": "i", "output_index": 0},
            {"type": "response.completed", "response": whole},
        ]
        return [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events]
    frame = {"id": answer_id, "object": "chat.completion.chunk", "created": 1, "model": "m"}
    said = {"delta": {"content": says}} if "chat" in path else {"text": says}
    last = {"delta": {}} if "chat" in path else {"text": ""}
    chunks = [
        {**frame, "choices": [{"index": 0, "finish_reason": None, **said}]},
        {**frame, "choices": [{"index": 0, "finish_reason": "stop", **last}]},
        {**frame, "choices": [], "usage": whole["usage"]},
    ]
    return [*(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks), b"data: [DONE]\n\n"]
