"""The child process that holds llama.cpp: loads one model, prints its address, lives until standard input closes.

The first line of standard input is the request (JSON), the first line of standard output the answer. Nothing of
ours is imported but the lifeline, so that it starts fast and dies alone. Signals are the parent's to heed: a service
manager that stops all processes of a service at once would otherwise cut what the gateway lets end.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from typing import Any, NoReturn

from ownward.engines._lifeline import die_with, read_lines

_PARENTS_SIGNALS = ("SIGTERM", "SIGINT", "SIGHUP")
EXIT_LOAD_FAILED = 3
EXIT_WRONG_RELEASE = 4
EXIT_NOT_INSTALLED = 5
# llama.cpp writes its log, the reason of a failure among it, on a thread that leaving would cut off.
_LAST_WORDS_S = 0.2


def main() -> None:
    """Serve one model until the parent is gone or closes the pipe."""
    for name in _PARENTS_SIGNALS:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    request_came = threading.Event()
    received: list[bytes] = []

    def take(line: bytes) -> None:
        if not received:
            received.append(line)
            request_came.set()

    def listen() -> None:
        read_lines(take)
        os._exit(0)  # never by way of destructors: dropping a server just loaded can hang for ever

    threading.Thread(target=listen, name="parent", daemon=True).start()
    request_came.wait()
    request: dict[str, Any] = json.loads(received[0])
    if request["parent_pid"] is not None:
        die_with(request["parent_pid"])
    server = _load(request)
    print(json.dumps({"address": server.listening_address}), flush=True)  # noqa: T201 - the answer to the parent
    threading.Event().wait()


def _load(request: dict[str, Any]) -> Any:
    try:
        import xllamacpp
    except ImportError as error:
        _leave(EXIT_NOT_INSTALLED, f"error: xllamacpp cannot be imported: {error}")
    params = build_params(xllamacpp, request)
    try:
        return xllamacpp.Server(params)  # returns when the weights are loaded
    except RuntimeError as error:
        time.sleep(_LAST_WORDS_S)
        _leave(EXIT_LOAD_FAILED, f"worker: {error}")


def build_params(xllamacpp: Any, request: dict[str, Any]) -> Any:
    """Return the parameters of a server, field by field from the request.

    Field names move between releases: one that this release does not have ends
    the worker with its name, and is not silently set in the air.
    """
    params = xllamacpp.CommonParams()
    params.model.path = request["model_path"]
    params.model_alias = {request["alias"]}
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = request["threads"]
    fields = dict(request["fields"])
    for name, (enum, member) in request["enums"].items():
        fields[name] = getattr(getattr(xllamacpp, enum, None), member, None)
    for name, value in fields.items():
        if value is None or not hasattr(params, name):
            _leave(EXIT_WRONG_RELEASE, f"error: this xllamacpp ({xllamacpp.__version__}) has no {name!r} as asked for")
        setattr(params, name, value)
    return params


def _leave(status: int, message: str) -> NoReturn:
    sys.stderr.write(message + "\n")
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
