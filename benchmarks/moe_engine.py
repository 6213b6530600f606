"""One run of a GGUF file through the product's own engine child, inside a memory limit: started by `moe_memory`."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

_ANSWER_BYTES = 1 << 22


def main() -> None:
    """Come under the limit first, then load anything; print one JSON object."""
    spec = json.loads(sys.argv[1])
    if spec["procs"] is not None:
        Path(spec["procs"]).write_text(str(os.getpid()))
    print(json.dumps(asyncio.run(measure(spec))))


async def measure(spec: dict[str, Any]) -> dict[str, Any]:
    """Return load, decode rounds and the reading of one prompt, each with the bytes that came from the disk."""
    from ownward.core import EngineError
    from ownward.engines import EmbeddedEngine, EngineOptions
    from ownward.upstreams import Door

    options = EngineOptions(model_path=Path(spec["path"]), alias="moe", **spec["options"])
    engine = EmbeddedEngine(options)
    began = time.perf_counter()
    try:
        await engine.start()
    except EngineError as error:
        return {"failed": error.message}
    found: dict[str, Any] = {"load_s": time.perf_counter() - began}
    try:
        async with Door() as door:
            pid = engine.status.pid
            assert pid is not None
            found["load_read_bytes"] = _read(pid)["read_bytes"]
            for tokens in (spec["least_tokens"], spec["warm_tokens"]):  # the first shows whether more can be waited for
                warm = await _ask(door, engine.base_url, [17], tokens, 1)
                rate = warm["timings"]["predicted_per_second"]
                if rate * spec["round_s"] < spec["warm_tokens"]:
                    break
            tokens = int(min(max(rate * spec["round_s"], spec["least_tokens"]), spec["most_tokens"]))
            found["rounds"] = []
            for turn in range(spec["rounds"]):
                before = _read(pid)
                answer = await _ask(door, engine.base_url, [1000 + turn], tokens, turn)
                after = _read(pid)
                # The prompt is one token: as many steps as tokens.
                timings = answer["timings"]
                seconds = (timings["prompt_ms"] + timings["predicted_ms"]) / 1e3
                steps = timings["prompt_n"] + timings["predicted_n"] - 1
                found["rounds"].append(
                    {
                        "steps": steps,
                        "tokens_per_s": steps / seconds,
                        **{name: (after[name] - before[name]) / steps for name in before},
                        "text": answer["content"][:80],
                    }
                )
            if spec["prompt_tokens"]:
                before = _read(pid)
                prompt = [10 + 37 * index % 40_000 for index in range(spec["prompt_tokens"])]
                answer = await _ask(door, engine.base_url, prompt, 1, 0)
                found["prefill_tokens_per_s"] = answer["timings"]["prompt_per_second"]
                found["prefill_read_bytes"] = _read(pid)["read_bytes"] - before["read_bytes"]
            found["memory"] = _memory(pid)
            found["own_bytes"] = _memory(os.getpid())["RssAnon"]
    finally:
        await engine.stop()
    return found


async def _ask(door: Any, address: str, prompt: list[int], tokens: int, seed: int) -> dict[str, Any]:
    from ownward.policy import LOCAL_ONLY, Place, issue_permit

    asked = {
        "prompt": prompt,
        "n_predict": tokens,
        "ignore_eos": True,
        "cache_prompt": False,
        "temperature": 1.0,
        "seed": seed,
    }
    body = json.dumps(asked).encode()
    place = Place(is_local=True, region=None, provider=None)
    permit = issue_permit(label=LOCAL_ONLY, place=place, upstream="moe", origin=address, body=body)
    headers = [(b"content-type", b"application/json")]
    response = await door.send(permit, method="POST", target="/completion", headers=headers, body=body)
    answer: dict[str, Any] = json.loads(await response.read(_ANSWER_BYTES))
    return answer


def _read(pid: int) -> dict[str, int]:
    """Return bytes read from disks and page faults that waited for one, since the process began."""
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    io = dict(line.split(": ") for line in lines)
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return {"read_bytes": int(io["read_bytes"]), "major_faults": int(stat[9])}


def _memory(pid: int) -> dict[str, int]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.startswith(("Rss", "VmHWM"))}


if __name__ == "__main__":
    main()
