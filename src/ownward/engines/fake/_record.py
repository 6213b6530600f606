"""What the fake served, counted so that nobody has to trust anybody: in memory, and in a file line by line."""

from __future__ import annotations

import json
import os
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ownward.core import BadInput
from ownward.engines.fake._wire import WireRequest

CallState = Literal["serving", "completed", "aborted", "cut", "garbled", "refused"]

_MAX_KEPT_BODY_BYTES = 256 * 1024


@dataclass(slots=True, kw_only=True)
class ServedCall:
    """One accepted call: its whole body arrived. What it is charged for grows while it is served.

    `aborted` means that the client left before the end, `cut` that the fake broke the answer off,
    `garbled` that it answered nonsense, `refused` that it answered an error and charged nothing.
    """

    serial: int
    endpoint: str
    request_id: str | None
    attempt: str | None
    state: CallState
    status: int | None
    input_tokens: int
    cached_input_tokens: int
    output_tokens: int  # generated so far, over all choices
    reported_input_tokens: int | None
    reported_output_tokens: int | None

    def as_record(self) -> dict[str, Any]:
        """Return the call as the JSON object of `GET /count` and of the count file."""
        return {name: getattr(self, name) for name in self.__slots__}


class Record:
    """Counts and keeps what arrives and how it ended."""

    def __init__(self, *, count_file: Path | None, kept_requests: int, kept_calls: int) -> None:
        """Begin at zero; append to `count_file` where one is given."""
        self._requests: deque[dict[str, Any]] = deque(maxlen=kept_requests)
        self._calls: deque[ServedCall] = deque(maxlen=kept_calls)
        self._totals: dict[str, int] = {}
        self._serving: dict[int, ServedCall] = {}
        self._serial = 0
        self._file = None if count_file is None else _open_append(count_file)
        self.reset()

    def reset(self) -> None:
        """Forget what was counted; calls being served stay."""
        self._requests.clear()
        self._calls.clear()
        names = ("accepted", "completed", "aborted", "cut", "garbled", "refused")
        self._totals = dict.fromkeys(
            (*names, "input_tokens", "output_tokens", "reported_input_tokens", "reported_output_tokens"), 0
        )

    @property
    def serving(self) -> int:
        """Calls accepted and not ended."""
        return len(self._serving)

    def keep_request(self, request: WireRequest) -> None:
        """Keep what arrived, for `GET /requests`; a body above 256 KiB is cut."""
        body = request.body[:_MAX_KEPT_BODY_BYTES]
        self._requests.append(
            {
                "method": request.method,
                "target": request.target,
                "headers": [list(pair) for pair in request.headers],
                "body": body.decode("utf-8", "replace"),
                "is_body_cut": len(body) < len(request.body),
            }
        )

    def accept(self, request: WireRequest, *, endpoint: str) -> ServedCall:
        """Count a call whose body is complete, and have it in the file before anything is answered."""
        self._serial += 1
        call = ServedCall(
            serial=self._serial,
            endpoint=endpoint,
            request_id=request.header("x-ownward-request-id"),
            attempt=request.header("x-ownward-attempt"),
            state="serving",
            status=None,
            input_tokens=0,
            cached_input_tokens=0,
            output_tokens=0,
            reported_input_tokens=None,
            reported_output_tokens=None,
        )
        self._calls.append(call)
        self._serving[call.serial] = call
        self._totals["accepted"] += 1
        self._write("accepted", call)
        return call

    def end(self, call: ServedCall, state: CallState, *, status: int | None) -> None:
        """Count how a call ended. Only the first end counts."""
        if self._serving.pop(call.serial, None) is None:
            return
        call.state = state
        call.status = status
        totals = self._totals
        totals[state] += 1
        totals["input_tokens"] += call.input_tokens
        totals["output_tokens"] += call.output_tokens
        totals["reported_input_tokens"] += call.reported_input_tokens or 0
        totals["reported_output_tokens"] += call.reported_output_tokens or 0
        self._write("ended", call)

    def totals(self) -> dict[str, int]:
        """Return the sums; tokens are those of ended calls plus those being served."""
        serving = self._serving.values()
        return {
            **self._totals,
            "serving": len(self._serving),
            "input_tokens": self._totals["input_tokens"] + sum(call.input_tokens for call in serving),
            "output_tokens": self._totals["output_tokens"] + sum(call.output_tokens for call in serving),
        }

    def count(self, *, with_calls: bool) -> dict[str, Any]:
        """Return the sums and, if asked, the calls kept, oldest first."""
        body: dict[str, Any] = {"schema": "ownward.fake_count/1", **self.totals()}
        if with_calls:
            body["calls"] = [call.as_record() for call in self._calls]
        return body

    def requests(self) -> dict[str, Any]:
        """Return the requests kept, oldest first."""
        return {"schema": "ownward.fake_requests/1", "requests": list(self._requests)}

    def close(self) -> None:
        """Close the count file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _write(self, event: str, call: ServedCall) -> None:
        if self._file is not None:
            line = json.dumps({"event": event, **call.as_record()}, separators=(",", ":"))
            os.write(self._file, line.encode() + b"\n")  # one write call a line: whole, and safe from our own death


def _open_append(path: Path) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    except OSError as error:
        raise BadInput(
            f"the count file cannot be opened: {error.strerror}",
            where=str(path),
            next_step="Give --count-file a path in a folder that exists and can be written",
        ) from error
