"""Feed damaged and lying model files to the anatomy room: it must answer or refuse, quickly and in little memory.

    python -m benchmarks.anatomy_fuzz --cases 100000 --seed 1

Each case damages a valid config, GGUF file, safetensors file or index, and reads it. A
case passes if it gives an anatomy or one of our errors within the time allowed. The result
is written to benchmarks/results/anatomy_fuzz-DATE.json.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.machine_facts import RESULTS

from ownward import anatomy
from ownward.core import OwnwardError

LONGEST_S = 0.1
MOST_MEMORY_BYTES = 2**30
EXTREMES = [0, 1, -1, 2, 3, 7, 2**16, 2**31, 2**32 - 1, 2**53, 2**60, 2**63 - 1, 2**64 - 1]
JSON_EXTREMES = [*EXTREMES, -(2**70), 1e300, 0.5, True, False, None, "", "x" * 200, [], {}, [1, 2], {"a": 1}, "auto"]
RESULT = RESULTS / f"anatomy_fuzz-{datetime.now(UTC):%Y-%m-%d}.json"

CONFIGS: list[dict[str, Any]] = [
    {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 100},
    {"model_type": "qwen3_moe", "num_hidden_layers": 4, "num_experts": 8, "quantization_config": {
        "quant_method": "fp8", "weight_block_size": [128, 128], "modules_to_not_convert": ["lm_head"]}},
    {"model_type": "deepseek_v3", "num_hidden_layers": 6, "num_nextn_predict_layers": 1},
    {"model_type": "deepseek_v4", "num_hidden_layers": 4, "compress_ratios": [0, 4, 128, 4, 0], "expert_dtype": "fp4",
     "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}},
    {"model_type": "glm_moe_dsa", "num_hidden_layers": 8, "index_topk_freq": 4},
    {"model_type": "gemma4", "text_config": {"num_hidden_layers": 12, "num_kv_shared_layers": 4},
     "vision_config": {"num_hidden_layers": 2}, "audio_config": {"num_hidden_layers": 2}},
    {"model_type": "qwen3_5", "text_config": {"num_hidden_layers": 8, "mtp_num_hidden_layers": 1}, "vision_config": {}},
    {"model_type": "qwen4_exp", "text_config": {"num_hidden_layers": 4, "ple_layer_ids": [2]}, "vision_config": {}},
    {"model_type": "nemotron_h", "hybrid_override_pattern": "ME*-M", "num_hidden_layers": 5},
    {"model_type": "kimi_k3", "text_config": {"num_hidden_layers": 4, "linear_attn_config": {
        "full_attn_layers": [4], "kda_layers": [1, 2, 3], "num_heads": 8, "head_dim": 64}},
     "vision_config": {"init_pos_emb_height": 8, "init_pos_emb_width": 8, "vt_num_hidden_layers": 2,
                       "vt_hidden_size": 64, "vt_intermediate_size": 128, "patch_size": 14}},
    {"model_type": "mimo_v2_flash", "num_hidden_layers": 4, "hybrid_layer_pattern": [0, 1, 1, 0]},
    {"model_type": "jamba", "num_hidden_layers": 8},
    {"model_type": "lfm2", "num_hidden_layers": 4, "full_attn_idxs": [1, 3]},
    {"model_type": "llama", "quantization_config": {"quant_method": "compressed-tensors", "config_groups": {"g": {
        "weights": {"num_bits": 4, "type": "int", "group_size": 32}, "targets": ["Linear"]}},
        "ignore": ["re:.*self_attn.*", "lm_head"]}},
    {"model_type": "llama", "quantization": {"group_size": 64, "bits": 4, "model.layers.0.mlp.up_proj": {"bits": 8}}},
]  # fmt: skip


@dataclass
class Report:
    """What a run of the fuzzer found."""

    cases: int = 0
    read: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    slow: list[str] = field(default_factory=list)
    slowest_s: float = 0.0


def make_gguf(tensor_count: int = 6, *, version: int = 3, order: str = "<") -> bytes:
    """Return a small valid GGUF file."""

    def text(value: str) -> bytes:
        raw = value.encode()
        return struct.pack(order + "Q", len(raw)) + raw

    def number(key: str, value: int) -> bytes:
        return text(key) + struct.pack(order + "II", 4, value)

    keys = [
        text("general.architecture") + struct.pack(order + "I", 8) + text("llama"),
        number("llama.block_count", 1),
        number("llama.context_length", 128),
        number("llama.embedding_length", 64),
        number("llama.attention.head_count", 4),
        number("llama.attention.head_count_kv", 2),
        text("tokenizer.ggml.tokens") + struct.pack(order + "IIQ", 9, 8, 3) + text("a") + text("bc") + text(""),
    ]
    names = ["token_embd.weight", "blk.0.attn_q.weight", "blk.0.attn_k.weight", "blk.0.attn_v.weight",
             "blk.0.attn_output.weight", "output_norm.weight"]  # fmt: skip
    infos, data = [], b""
    for name in names[:tensor_count]:
        sides = [64] if "norm" in name else [64, 32]
        size = 4 * 64 if "norm" in name else 34 * 64 * 32 // 32
        kind = 0 if "norm" in name else 8
        infos.append(
            text(name)
            + struct.pack(order + "I", len(sides))
            + b"".join(struct.pack(order + "Q", side) for side in sides)
            + struct.pack(order + "IQ", kind, len(data))
        )
        data += bytes(-(-size // 32) * 32)
    head = b"GGUF" + struct.pack(order + "IQQ", version, len(infos), len(keys)) + b"".join(keys) + b"".join(infos)
    return head + bytes(-len(head) % 32) + data


def make_safetensors(header: dict[str, Any] | None = None) -> bytes:
    """Return a small valid safetensors file."""
    header = header or {
        "__metadata__": {"format": "pt"},
        "model.embed_tokens.weight": {"dtype": "BF16", "shape": [10, 8], "data_offsets": [0, 160]},
        "model.layers.0.mlp.up_proj.weight": {"dtype": "F32", "shape": [4, 8], "data_offsets": [160, 288]},
        "model.norm.weight": {"dtype": "F16", "shape": [8], "data_offsets": [288, 304]},
    }
    raw = json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + bytes(304)


def damage_bytes(raw: bytes, rng: random.Random) -> bytes:
    """Return the bytes with one to four injuries."""
    data = bytearray(raw)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(data)) if data else 0
        match rng.randrange(6):
            case 0:
                data[place : place + 1] = bytes([rng.randrange(256)])
            case 1:
                del data[place:]
            case 2:
                data[place : place + 8] = struct.pack("<Q", rng.choice(EXTREMES) & (2**64 - 1))
            case 3:
                data[place : place + 4] = struct.pack("<I", rng.choice(EXTREMES) & (2**32 - 1))
            case 4:
                del data[place : place + rng.randrange(1, 64)]
            case _:
                data[place:place] = data[: rng.randrange(1, 256)]
    return bytes(data)


def damage_json(value: Any, rng: random.Random) -> Any:
    """Return a JSON value with one to four of its parts replaced, removed or nested."""
    copy = json.loads(json.dumps(value))
    for _ in range(rng.randint(1, 4)):
        holders = list(_holders(copy))
        if not holders:
            return copy
        holder, key = rng.choice(holders)
        match rng.randrange(5):
            case 0 if isinstance(holder, dict):
                del holder[key]
            case 1:
                holder[key] = json.loads(json.dumps([holder[key]] * rng.randrange(4)))
            case 2 if isinstance(holder[key], int):
                holder[key] = holder[key] * rng.choice([0, -1, 2, 3, 2**20, 2**45])
            case _:
                holder[key] = json.loads(json.dumps(rng.choice(JSON_EXTREMES)))
    return copy


def _holders(value: Any) -> Any:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield value, key
        yield from _holders(item)


def make_case(rng: random.Random, folder: Path) -> Path:
    """Write one damaged file and return its path."""
    kind = rng.randrange(10)
    if kind < 5:
        path = folder / "config.json"
        text = json.dumps(damage_json(rng.choice(CONFIGS), rng))
        raw = text.encode()
        path.write_bytes(damage_bytes(raw, rng) if rng.random() < 0.2 else raw)
    elif kind < 8:
        path = folder / "model.gguf"
        path.write_bytes(damage_bytes(make_gguf(version=rng.choice([2, 3]), order=rng.choice("<>")), rng))
    else:
        path = folder / "alone" / "model.safetensors"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(damage_bytes(make_safetensors(), rng))
        if kind == 9:
            names = rng.choice([["model.safetensors"], ["model.safetensors", "model.safetensors.index.json"], ["../x"]])
            index = {"weight_map": {f"model.layers.{i}.w": name for i, name in enumerate(names)}}
            path = path.with_name("model.safetensors.index.json")
            path.write_text(json.dumps(damage_json(index, rng)))
    return path


def fuzz(*, seed: int, cases: int, folder: Path, on_case: Callable[[int], None] | None = None) -> Report:
    """Run the fuzzer and return what it found."""
    rng = random.Random(seed)
    report = Report()
    for number in range(cases):
        path = make_case(rng, folder)
        start = time.perf_counter()
        try:
            found = anatomy.read(path)
            if number % 16 == 0:
                found.weights_bytes()
            report.read += 1
        except OwnwardError as error:
            report.refused[error.kind] = report.refused.get(error.kind, 0) + 1
            str(error)
        except Exception as error:  # noqa: BLE001 - any other error is what we look for
            report.failures.append(
                f"case {number}: {type(error).__name__}: {error!s:.120}: {path.read_bytes()[:200]!r}"
            )
        taken = time.perf_counter() - start
        report.slowest_s = max(report.slowest_s, taken)
        if taken > LONGEST_S:
            report.slow.append(f"case {number}: {taken:.3f} s: {path.name}: {path.read_bytes()[:200]!r}")
        report.cases += 1
        if on_case is not None:
            on_case(number)
    return report


def main() -> int:
    """Run, print and write the result; 1 if a case failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    anatomy.from_config(CONFIGS[0])
    # A case that asks for memory without end fails as a MemoryError instead of taking the machine along.
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY_BYTES, MOST_MEMORY_BYTES))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        report = fuzz(seed=options.seed, cases=options.cases, folder=Path(folder))
    result = {
        "cases": report.cases,
        "seed": options.seed,
        "read": report.read,
        "refused": dict(sorted(report.refused.items())),
        "failures": report.failures[:20],
        "failures_total": len(report.failures),
        "slower_than_100_ms": len(report.slow),
        "slow": report.slow[:5],
        "slowest_s": round(report.slowest_s, 4),
        "memory_growth_bytes": 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before),
        "total_s": round(time.perf_counter() - start, 1),
        "python": sys.version.split()[0],
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
