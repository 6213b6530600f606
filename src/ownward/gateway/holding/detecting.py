"""A workload's detectors run over a request, within a bound on processor time; others are served between pieces."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from ownward.gateway.placing.choice import Found
from ownward.gateway.placing.routing import Detection
from ownward.policy import UNEXAMINED_YET


async def detect(
    body: bytes, detections: Sequence[Detection], *, budget_s: float, cpu_s: Callable[[], float] = time.thread_time
) -> list[Found]:
    """Return what is found in a body.

    Texts can be made that take forty times as long as others. After `budget_s` of this thread's own time on the
    processor nothing more is looked for, and what is left of the body counts as if something had been found.
    """
    found: list[Found] = []
    spent_s = 0.0
    for detection in detections:
        pieces = detection.detectors.scan(body)
        is_over = False
        while not is_over:
            began_s = cpu_s()
            name = next(pieces, "")
            spent_s += cpu_s() - began_s
            if name is None and spent_s > budget_s:
                name = UNEXAMINED_YET
            if name is None:
                await asyncio.sleep(0)
                continue
            is_over = True
            if name:
                found.append(Found(name=name, label=detection.label))
    return found
