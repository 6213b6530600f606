"""A mixture of experts larger than memory: predicted, then measured, on this machine.

    python -m benchmarks.moe_memory                 # 8 layers, 4.0 GB; about five minutes
    python -m benchmarks.moe_memory --layers 16     # 7.8 GB
    python -m benchmarks.moe_memory --file F.gguf   # a file that `--keep` left, or a real one

Writes random weights in the shape of Qwen3.5-35B-A3B, checks that our own anatomy reads them, measures memory and disk,
predicts with `ownward.perf` and only then runs the file through the product's own engine child, with 100, 75, 50 and
25% of the file of memory beside what the engine needs for itself. Nothing of the file is in memory when a run begins.
Where the disk reads far ahead, the runs go over a read-only loop device that reads 128 KiB ahead (as root), and two
more show the disk as it is. Others show the other ways to hold weights, and twice the threads.
Writes results/moe_memory-DATE.json.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.machine_facts import new_record, write_record
from benchmarks.memory_limit import limited
from benchmarks.random_moe import Shape, write_random_moe

from ownward import anatomy, perf, probe
from ownward.cli._serving_choice import needs_of
from ownward.cli._weights import fetch_weights
from ownward.core import KIB, MIB
from ownward.engines import EMBEDDED_MODEL, Room, Stated, choose_serving

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "benchmarks.md"
SHARES = (1.0, 0.75, 0.5, 0.25)
_PLAIN: dict[str, Any] = {
    "warmup": False,
    "no_extra_bufts": True,
    "slots": 1,
    "context_tokens": 2048,
    "prompt_cache_bytes": 0,
}
_PROMPT_TOKENS = 256
_ROUNDS = 3
_SPARE_BYTES = 96 * MIB  # beside what the engine keeps: page tables, the kernel's own
_AHEAD_KIB = 128
_RUN_S = 240.0


def main() -> None:
    """Write, predict, measure, print, remove."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=8, help="of 0.48 GB each; a multiple of 4")
    parser.add_argument("--file", type=Path, help="run this GGUF file instead of writing one")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="on the disk to measure")
    parser.add_argument("--keep", action="store_true", help="leave the file there")
    parser.add_argument("--threads", type=int, help="of the engine; default: the cores we may use")
    parser.add_argument("--shares", type=float, nargs="*", default=SHARES)
    parser.add_argument("--plain", action="store_true", help="only the four shares of memory, no other settings")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that file, group and loop device are removed
    record = new_record("moe_memory")
    shape = Shape(layers=options.layers)
    path = options.file or options.folder / f"ownward-random-moe-{options.layers}.gguf"
    try:
        if options.file is None:
            began = time.perf_counter()
            write_random_moe(path, shape, tokenizer_of=fetch_weights(EMBEDDED_MODEL.id))
            print(f"wrote {path.stat().st_size / 1e9:.2f} GB in {time.perf_counter() - began:.0f} s", flush=True)
        with through_loop(path) as (device, loop):
            record |= run(path, device, loop, shape, options)
    finally:
        if options.file is None and not options.keep:
            path.unlink(missing_ok=True)
    record["machine"]["load_average_after"] = round(os.getloadavg()[0], 2)
    show(record)
    print(f"written to {write_record(record, options.out)}")
    if options.out is None:
        write_page(record)
        print(f"the table of {PAGE} is this one now; the texts around it are by hand")


def run(path: Path, device: Path, loop: dict[str, Any], shape: Shape, options: argparse.Namespace) -> dict[str, Any]:
    """Return what was found: the file, the machine, and each run with its prediction."""
    model = anatomy.read(path)
    threads = options.threads or probe.usable_cores()
    facts = probe.this_machine(path=path)
    bandwidth = probe.measure_memory_bandwidth(threads=threads)
    piece = shape.expert_slice_bytes
    places = {"loop": device} if device != path else {}
    places["disk"] = path
    reads = {
        name: probe.measure_fault_read(place, slice_bytes=piece, threads=threads) for name, place in places.items()
    }
    cases = ((4 * KIB, 1), (128 * KIB, 1), (piece, 1), (piece, 8))
    direct = probe.measure_disk_read(path, cases=cases)
    machine = probe.to_machines(facts, bandwidth=bandwidth)[-1]
    deployment = perf.deploy(
        model, machine=machine, machines_count=1, engine="llama.cpp", weights="native", kv_type="f16"
    )
    assert not isinstance(deployment, str), deployment
    best_disk = max(row.bytes_per_s for row in direct)
    found: dict[str, Any] = {
        "model": _describe(path, model, deployment, shape),
        "threads": threads,
        "memory_read": asdict(bandwidth),
        "read_ahead_bytes": {
            "disk": facts.disk.read_ahead_bytes.value if facts.disk and facts.disk.read_ahead_bytes else None,
            **loop,
        },
        "page_faults": {name: asdict(row) for name, row in reads.items()},
        "direct_reads": [asdict(row) for row in direct],
        "runs": [],
    }
    main_place = "loop" if "loop" in places else "disk"
    kept = 0
    in_memory_s: float | None = None
    for share, place, name, extra in _cases(options, main_place, places):
        weights = share * path.stat().st_size
        disk = perf.DiskReads(bytes_per_s=reads[place].bytes_per_s, over_read=reads[place].over_read or 1.0)
        said = predict(deployment, weights, disk, in_memory_s)
        # The first run shows what the engine keeps beside the weights; it has room for anything.
        limit = int(path.stat().st_size * 1.15 + 512 * MIB) if not kept else int(weights + kept + _SPARE_BYTES)
        settings = {**_PLAIN, "threads": threads, **extra}
        if settings["no_extra_bufts"] is False and settings.get("use_mmap", True):
            limit = int(2 * weights + kept + _SPARE_BYTES)
        measured = one_run(places[place], path, limit, settings, is_slow=place == "disk" and len(places) > 1)
        row = {"share": share, "place": place, "name": name, "options": settings, "limit_bytes": limit,
               "predicted": said, "measured": measured, "serve_chooses": _chosen(model, limit, facts)}  # fmt: skip
        if "rounds" in measured:
            row["limits"] = _limits(said, measured, bandwidth.median_bytes_per_s, best_disk)
            if not kept:
                kept = measured["memory"]["RssAnon"] + measured["own_bytes"]
                in_memory_s = 1 / statistics.median(turn["tokens_per_s"] for turn in measured["rounds"])
                found["kept_beside_weights_bytes"] = kept
        found["runs"].append(row)
        print(_line(row), flush=True)
    return found


def _chosen(model: anatomy.Anatomy, memory: int, facts: probe.MachineFacts) -> dict[str, Any]:
    """Return what `ownward serve` would choose with so much memory."""
    ahead = facts.disk.read_ahead_bytes.value if facts.disk and facts.disk.read_ahead_bytes else None
    room = Room(memory_bytes=memory, device=facts.disk.device if facts.disk else None, read_ahead_bytes=ahead)
    return asdict(choose_serving(needs_of(model), room, Stated(context_tokens=_PLAIN["context_tokens"])))


def _cases(
    options: argparse.Namespace, place: str, places: dict[str, Path]
) -> Iterator[tuple[float, str, str, dict[str, Any]]]:
    """Yield (share, where from, what is tried, settings that differ)."""
    for share in options.shares:
        yield share, place, "mapped", {}
    if options.plain:
        return
    yield 1.0, place, "mapped, repacked copy", {"no_extra_bufts": False}
    yield 1.0, place, "read, repacked in place", {"no_extra_bufts": False, "use_mmap": False}
    yield 0.75, place, "read (expected to be killed)", {"use_mmap": False}
    yield 0.25, place, "mapped, twice the threads", {"threads": 2 * (options.threads or probe.usable_cores())}
    if "loop" in places:
        for share in (0.5, 0.25):
            yield share, "disk", "mapped, the disk's own read-ahead", {}


def predict(
    deployment: perf.Deployment, weights_memory: float, disk: perf.DiskReads, in_memory_s: float | None
) -> dict[str, Any]:
    """Return what `ownward.perf` says of a share of memory, and the same with the in-memory speed measured before."""
    decode = perf.stream_decode(
        deployment, weights_memory_bytes=weights_memory, disk=disk, locality=perf.UNIFORM_LOCALITY
    )
    prompt = perf.stream_prefill(deployment, weights_memory_bytes=weights_memory, disk=disk, tokens=_PROMPT_TOKENS)
    return {
        "tokens_per_s": 1 / decode.step_s,
        "tokens_per_s_in_memory_known": None if in_memory_s is None else 1 / (in_memory_s + decode.disk_s),
        "read_bytes_per_token": decode.read_bytes,
        "missed_bytes_per_token": decode.missed_bytes,
        "used_bytes_per_token": decode.used_bytes,
        "hit_fraction": decode.hit_fraction,
        "prefill_tokens_per_s": _PROMPT_TOKENS / prompt.step_s,
        "prefill_read_bytes": prompt.read_bytes,
    }


def one_run(place: Path, file: Path, limit: int, options: dict[str, Any], *, is_slow: bool = False) -> dict[str, Any]:
    """Run the engine under a limit of memory with nothing of the file in memory before, and return what it did."""
    for forgotten in {place, file}:
        descriptor = os.open(forgotten, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)
    with limited(limit) as under:
        spec = {
            "path": str(place), "options": options, "procs": None if under.procs is None else str(under.procs),
            "warm_tokens": 4 if is_slow else 16, "round_s": 5.0, "least_tokens": 4 if is_slow else 8,
            "most_tokens": 96, "rounds": _ROUNDS, "prompt_tokens": 0 if is_slow else _PROMPT_TOKENS,
        }  # fmt: skip
        command = [sys.executable, "-m", "benchmarks.moe_engine", json.dumps(spec)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_RUN_S, check=False)
        except subprocess.TimeoutExpired:
            return {"failed": f"not done after {_RUN_S:.0f} s", "limited_by": under.kind}
        peak = under.peak_bytes
    if done.returncode != 0:
        return {"failed": f"status {done.returncode}: {done.stderr[-300:]}", "limited_by": under.kind}
    return {**json.loads(done.stdout.splitlines()[-1]), "limited_by": under.kind, "peak_bytes": peak}


def _limits(said: dict[str, Any], measured: dict[str, Any], memory: float, disk: float) -> dict[str, Any]:
    """Return the tokens a second that memory alone, the disk alone, and one after the other would allow."""
    memory_s = said["used_bytes_per_token"] / memory
    disk_s = statistics.median(turn["read_bytes"] for turn in measured["rounds"]) / disk
    return {
        "memory_tokens_per_s": 1 / memory_s,
        "disk_tokens_per_s": 1 / disk_s if disk_s > 0 else None,
        "one_after_the_other_tokens_per_s": 1 / (memory_s + disk_s),
    }


@contextlib.contextmanager
def through_loop(path: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Give a read-only loop device over the file that reads 128 KiB ahead, or the file itself where that is not needed.

    It is not needed where the disk reads no further ahead, and not possible without being root.
    """
    disk = probe.this_machine(path=path).disk
    ahead = None if disk is None or disk.read_ahead_bytes is None else disk.read_ahead_bytes.value
    if ahead is None or ahead <= probe.READ_AHEAD_LIMIT_BYTES:
        yield path, {}
        return
    command = ["losetup", "--find", "--show", "--read-only", "--direct-io=on", str(path)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        device = Path(done.stdout.strip())
        (Path("/sys/block") / device.name / "queue/read_ahead_kb").write_text(str(_AHEAD_KIB))
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"no loop device ({error}): all runs read as far ahead as the disk does, {ahead // KIB} KiB")
        yield path, {}
        return
    try:
        yield device, {"loop": _AHEAD_KIB * KIB}
    finally:
        subprocess.run(["losetup", "--detach", str(device)], check=True)


def _describe(path: Path, model: anatomy.Anatomy, deployment: perf.Deployment, shape: Shape) -> dict[str, Any]:
    active = deployment.counted.routed * model.experts_per_tok / model.experts
    return {
        "file_bytes": path.stat().st_size,
        "layers": {item.kind: item.count for item in model.layers},
        "experts": model.experts,
        "experts_per_token": model.experts_per_tok,
        "total_params": model.total_live_params,
        "active_params": model.active_params_per_token,
        "weights_bytes": deployment.counted.resident,
        "routed_bytes": deployment.counted.routed,
        "dense_bytes_per_token": deployment.counted.dense_read,
        "expert_bytes_per_token": active,
        "expert_slice_bytes": shape.expert_slice_bytes,
        "quantization": model.quantization,
    }


def _line(row: dict[str, Any]) -> str:
    """Return a run in one line, predicted before measured."""
    measured, said = row["measured"], row["predicted"]
    head = f"{row['share']:4.0%} {row['name']:33}"
    if "rounds" not in measured:
        return f"{head} {measured['failed']}"
    rates = sorted(turn["tokens_per_s"] for turn in measured["rounds"])
    read = statistics.median(turn["read_bytes"] for turn in measured["rounds"])
    known = said["tokens_per_s_in_memory_known"]
    parts = [
        f"{head} {said['tokens_per_s']:6.2f}" + (f" ({known:.2f})" if known else ""),
        f"-> {statistics.median(rates):.2f} ({rates[0]:.2f} to {rates[-1]:.2f}) tokens/s",
        f"{said['read_bytes_per_token'] / 1e6:.0f} -> {read / 1e6:.0f} MB a token",
    ]
    if "prefill_tokens_per_s" in measured:
        parts.append(f"prompt {said['prefill_tokens_per_s']:.0f} -> {measured['prefill_tokens_per_s']:.0f} tokens/s")
        parts.append(f"{said['prefill_read_bytes'] / 1e9:.2f} -> {measured['prefill_read_bytes'] / 1e9:.2f} GB")
    parts.append(f"load {measured['load_s']:.1f} s, peak {(measured['peak_bytes'] or 0) / 1e9:.2f} GB")
    return ", ".join(parts)


def table(record: dict[str, Any]) -> str:
    """Return the table of the page about benchmarks."""
    model, reads = record["model"], record["page_faults"]
    head = (
        "| memory, of the file | held | tokens/s predicted | with the speed in memory known | measured "
        "| MB a token predicted | read | limit by memory | limit by disk | prompt tokens/s | load s |\n"
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n"
    )
    rows = "\n".join(_cells(row) for row in record["runs"])
    direct = ", ".join(
        f"{row['block_bytes'] // KIB} KiB x {row['depth']}: {row['bytes_per_s'] / 1e6:,.0f}"
        for row in record["direct_reads"]
    )
    faults = "; ".join(
        f"{name}: {row['bytes_per_s'] / 1e6:,.0f} MB/s used, {row['over_read']:.1f} bytes read for each"
        for name, row in reads.items()
    )
    machine, memory = record["machine"], record["memory_read"]
    layers = sum(model["layers"].values())
    always, active = model["dense_bytes_per_token"] / 1e6, model["expert_bytes_per_token"] / 1e6
    low, median, high = (memory[f"{which}_bytes_per_s"] / 1e9 for which in ("low", "median", "high"))
    load = f"{machine['load_average_before']} to {machine['load_average_after']}"
    return (
        f"{head}{rows}\n\n"
        f"{model['file_bytes'] / 1e9:.2f} GB, {layers} layers of {model['experts']} experts; a token reads "
        f"{always:.0f} MB that every token reads and {active:.0f} MB of experts.\n"
        f"Memory read by {record['threads']} thread(s): {median:.1f} GB/s ({low:.1f} to {high:.1f}). "
        f"Direct reads of the disk, MB/s: {direct}. By page faults, {faults}.\n"
        f"{record['measured_at']}, {machine['cpu_cores']} cores of {machine['cpu']}, load average {load}."
    )


def _cells(row: dict[str, Any]) -> str:
    said, measured = row["predicted"], row["measured"]
    first = f"| {row['share']:.0%} | {row['name']} |"
    if "rounds" not in measured:
        failed = "killed: out of memory" if "SIGKILL" in measured["failed"] else measured["failed"][:60]
        return f"{first} | | {failed} | | | | | | |"
    rates = sorted(turn["tokens_per_s"] for turn in measured["rounds"])
    read = statistics.median(turn["read_bytes"] for turn in measured["rounds"])
    known, limits = said["tokens_per_s_in_memory_known"], row["limits"]
    by_disk = limits["disk_tokens_per_s"]
    cells = (
        f"{said['tokens_per_s']:.1f}",
        "" if known is None else f"{known:.1f}",
        f"{statistics.median(rates):.1f} ({rates[0]:.1f} to {rates[-1]:.1f})",
        f"{said['read_bytes_per_token'] / 1e6:.0f}",
        f"{read / 1e6:.0f}",
        f"{limits['memory_tokens_per_s']:.0f}",
        "" if by_disk is None else f"{by_disk:.1f}",
        f"{measured['prefill_tokens_per_s']:.0f}" if "prefill_tokens_per_s" in measured else "",
        f"{measured['load_s']:.1f}",
    )
    return f"{first} {' | '.join(cells)} |"


def write_page(record: dict[str, Any]) -> None:
    """Put the table into the page about benchmarks."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition("<!-- moe_memory -->\n")
    after = rest.partition("<!-- /moe_memory -->")[2]
    PAGE.write_text(f"{before}<!-- moe_memory -->\n{table(record)}\n<!-- /moe_memory -->{after}", encoding="utf-8")


def show(record: dict[str, Any]) -> None:
    """Print what memory and disk gave."""
    memory = record["memory_read"]
    print(f"memory read, {memory['threads']} threads: {memory['median_bytes_per_s'] / 1e9:.1f} GB/s")
    for name, row in record["page_faults"].items():
        rate, over = row["bytes_per_s"] / 1e6, row["over_read"]
        print(f"page faults, {name}: {rate:.0f} MB/s that are used, {over or float('nan'):.2f} bytes read for each")
    for row in record["direct_reads"]:
        print(f"direct, {row['block_bytes'] // KIB} KiB x {row['depth']}: {row['bytes_per_s'] / 1e6:.0f} MB/s")


if __name__ == "__main__":
    main()
