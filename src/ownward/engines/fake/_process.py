"""The fake upstream as a process: the side that serves, and the side that starts it and asks what it counted."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from ownward.core import BadInput, EngineExited, EngineNotReady
from ownward.engines._lifeline import die_with, may_bind_to_thread, read_lines
from ownward.engines.fake._flags import parse_fake_arguments, write_fake_arguments
from ownward.engines.fake._options import FakeOptions
from ownward.engines.fake._server import FakeServer

_CHILD_OF = "--child-of="  # for our own parent side; people use --exit-with-parent
_STOP_S = 10.0
_KEPT_FIELDS = ("host", "port", "count_file", "ready_file", "exit_with_parent", "kept_requests", "kept_calls")


def serve_fake(options: FakeOptions) -> None:
    """Serve until Ctrl-C, SIGTERM or, where asked, until standard input closes.

    Prints the ready line, a JSON object, on standard output.
    Raises: PortTaken, BadInput.
    """
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(options))


def _loop_factory() -> Any:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


async def _serve(options: FakeOptions) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    async with FakeServer(options) as server:
        ready = json.dumps(
            {
                "schema": "ownward.fake_ready/1",
                "base_url": server.base_url,
                "pid": os.getpid(),
                "models": list(options.models),
            }
        )
        if options.ready_file is not None:
            _write_ready(options.ready_file, ready + "\n")
        print(ready, flush=True)  # noqa: T201 - the ready line is this program's output
        if options.exit_with_parent:
            _obey_parent(server, loop, ended)
        await ended.wait()


def _write_ready(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        if path.exists() and not path.is_file():  # a pipe, or /dev/null, which stays what it is
            path.write_text(text)
            return
        part.write_text(text)
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise BadInput(
            f"the ready file cannot be written: {error.strerror}",
            where=str(path),
            next_step="Give --ready-file a path in a folder that exists and can be written",
        ) from error


def _obey_parent(server: FakeServer, loop: asyncio.AbstractEventLoop, ended: asyncio.Event) -> None:
    """Answer commands on standard input, one JSON line each way; leave when it closes."""

    def obey(line: bytes) -> None:
        print(json.dumps(_obey(server, json.loads(line))), flush=True)  # noqa: T201 - the answer to the parent

    def listen() -> None:
        def hand_over(line: bytes) -> None:
            loop.call_soon_threadsafe(obey, line)

        read_lines(hand_over)
        loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=listen, name="parent", daemon=True).start()


def _obey(server: FakeServer, command: dict[str, Any]) -> Any:
    match command["do"]:
        case "count":
            return server.record.count(with_calls=command.get("with_calls", True))
        case "requests":
            return server.record.requests()
        case "reset":
            server.reset()
            return {}
        case "options":
            kept = {name: getattr(server.options, name) for name in _KEPT_FIELDS}
            server.set_options(dataclasses.replace(parse_fake_arguments(command["arguments"]), **kept))
            return {}
        case unknown:
            return {"error": f"no command {unknown!r}"}


def main(arguments: Sequence[str]) -> None:
    """Run `python -m ownward.engines.fake`."""
    rest = list(arguments)
    if rest and rest[0].startswith(_CHILD_OF):
        die_with(int(rest.pop(0).removeprefix(_CHILD_OF)))
    serve_fake(parse_fake_arguments(rest))


class FakeProcess:
    """A fake upstream in a child process of its own, which dies with this one. Use it in a `with` statement."""

    def __init__(self, options: FakeOptions | None = None) -> None:
        """Start it and wait for its address.

        Raises: EngineExited, if it leaves at once, with what it said.
        """
        wanted = dataclasses.replace(options or FakeOptions(), exit_with_parent=True)
        bond = [f"{_CHILD_OF}{os.getpid()}"] if may_bind_to_thread() else []
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ownward.engines.fake", *bond, *write_fake_arguments(wanted)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        first = self._read_line()
        if not first:
            _, said = self._process.communicate()
            lines = said.decode("utf-8", "replace").strip().splitlines()
            raise EngineExited(
                f"the fake upstream exited with status {self._process.returncode}:"
                f" {lines[-1] if lines else 'no output'}"
            )
        ready = json.loads(first)
        self.base_url: str = ready["base_url"]
        self.pid: int = ready["pid"]

    def count(self, *, with_calls: bool = True) -> dict[str, Any]:
        """Return what `GET /count` answers: sums and, if asked, each call."""
        counted: dict[str, Any] = self._ask({"do": "count", "with_calls": with_calls})
        return counted

    def requests(self) -> list[dict[str, Any]]:
        """Return the requests that arrived, oldest first: method, target, headers, body."""
        kept: list[dict[str, Any]] = self._ask({"do": "requests"})["requests"]
        return kept

    def reset(self) -> None:
        """Forget what was counted, and begin the counts of faults anew."""
        self._ask({"do": "reset"})

    def set_options(self, options: FakeOptions) -> None:
        """Behave differently from the next request on; address and files stay."""
        self._ask({"do": "options", "arguments": write_fake_arguments(options)})

    def stop(self) -> None:
        """Stop it, and wait until it is gone."""
        process = self._process
        if process.poll() is None and process.stdin is not None:
            process.stdin.close()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()

    def kill(self) -> None:
        """Kill it as the kernel would: nothing is drained."""
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Self:
        """Return itself, started."""
        return self

    def __exit__(self, *_exc: object) -> None:
        """Stop it."""
        self.stop()

    def _ask(self, command: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(command).encode() + b"\n")
            self._process.stdin.flush()
            answer = self._read_line()
        except OSError:
            answer = b""
        if not answer:
            raise EngineNotReady(f"the fake upstream at {self.base_url} no longer answers")
        return json.loads(answer)

    def _read_line(self) -> bytes:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


def run_fake(options: FakeOptions | None = None) -> FakeProcess:
    """Start a fake upstream as a child process and return it, listening.

    Raises: EngineExited.
    """
    return FakeProcess(options)
