"""Rows of measured performance as prediction cases: which are asked, of which config, and why a row is not asked.

The rules are printed by `python -m benchmarks.accuracy --rules`. A row is never left out for its result.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RULES = """\
Row filter. A row is asked when its model has a config and its value is above 0. Nothing else leaves a row out:
hardware or a quantisation that is not known and a load that cannot be posed are refusals, and refusals are misses.
Loads. A number is the concurrency; `max`, `server`, `peak ...` ask for 1024 at once; `open-loop R req/s` asks for R
arrivals a second; an open-loop trace without a rate has no question in it, so it is refused. No number means 1.
Depth. Where the prompt and the depth are the same number (a decode after a prompt of that length), it is counted once.
Prompts of MLPerf rows, which their logs leave out, are the mean of the benchmark's published data set.
Parallelism. TPn, PPn, EP and `layer-split` as stated; `Ninst` are N replicas; `spec` asks with speculation, and
`cpu-offload`, `CPU experts` or `gpu_experts=P%` with weights over two memories (P% of the experts on the GPU).
Names. Case, organisation, folder, file suffix and everything after `:` but a size are dropped; a name is cut into words
at - _ / : and between a word and a version (gemma4 = gemma 4). Words of a format, a tuning or a date are dropped
(GGUF, Q4_K_M, AWQ, FP8, NVFP4, MLX, 4bit, UD, i1, Instruct, it, chat, hf, base, MTP, qat, 2507, v0.1, ...). Coder
models have the shape of their plain ones. A config is meant when its words stand in the name in a row; of several
the one that ends last, then the longest (a distillation names its student last), and none that stands before the
word `distill`. A mixture may leave its active size out (gemma4:26b).
Hardware. The catalogue's names; failing that the card in brackets or beside a `+`, without memory sizes or
repeated words; of several sizes of one chip the largest; a CPU by the memory of its platform.
"""

_FORMAT_WORDS = frozenset(
    re.findall(
        r"\S+",
        "gguf awq gptq fp8 fp4 nvfp4 mxfp4 bf16 fp16 f16 int4 int8 mlx ud i1 unsloth instruct it chat hf base mtp qat "
        "dynamic 4bit 8bit 6bit bit imatrix xl k m s l q4 q2 q3 q5 q6 q8 0 iq4 nl xs text latest thinking reasoning "
        "coder",
    )
)
_DROPPED = re.compile(r"^(v0\.\d+|v1|\d{4}|q\d(_\w+)?|iq\d(_\w+)?|int\d|w\d+a\d+)$")
_VERSIONED = re.compile(r"^([a-z]{3,})(\d+(?:\.\d+)?)$")
_ACTIVE = re.compile(r"^a\d+b$")
_SATURATED = 1024
# Mean prompts of MLPerf Inference v5.1 data sets, in tokens. Source: MLCommons task descriptions (OpenOrca; a mix of
# LongBench, RULER and GovReport; CNN/DailyMail).
_MLPERF_PROMPTS = {"Llama-2-70b-chat": 294, "Llama-3.1-405B-Instruct": 9428, "Llama-3.1-8B-Instruct": 778}


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredRow:
    """One measured number and the question it answers."""

    number: int
    pair: str
    tier: str
    metric: str
    value: float
    config: str | None
    hardware: str
    question: dict[str, Any]
    source: str

    @property
    def repeat_key(self) -> tuple[Any, ...]:
        """What rows that measure the same thing share."""
        asked = {key: value for key, value in self.question.items() if key not in {"id", "engine"}}
        family = str(self.question["engine"]).lower().split()[0] if self.question["engine"] else ""
        return self.pair, family, tuple(sorted((key, str(value)) for key, value in asked.items()))


def load_rows(path: Path, configs: Iterable[str]) -> Iterator[MeasuredRow]:
    """Yield every row of a file with the columns of measured.csv; `config` is None where no config fits its model."""
    index = ConfigNames(configs)
    with path.open(encoding="utf-8", newline="") as stream:
        for number, row in enumerate(csv.DictReader(stream), start=2):
            value = _number(row["value"])
            yield MeasuredRow(
                number=number,
                pair=row.get("pair") or f"{row['model']}@{row['hardware']}",
                tier=row.get("tier") or "C",
                metric=row["metric"],
                value=value or 0.0,
                config=index.find(row["model"]),
                hardware=row["hardware"],
                question=_question(number, row),
                source=row.get("source", ""),
            )


def _question(number: int, row: dict[str, str]) -> dict[str, Any]:
    parallel = row["parallelism"]
    prompt = _whole(row["prompt_tokens"])
    depth = _whole(row.get("context_depth") or "")
    if prompt is None and "MLPerf" in row["note"]:
        prompt = _MLPERF_PROMPTS.get(row["model"])
    instances = re.search(r"(\d+)inst", parallel)
    replicas = int(instances[1]) if instances else 1
    data_parallel = re.search(r"\bDP(\d+)", parallel)
    if data_parallel and row["batch_or_concurrency"].startswith("open-loop"):
        replicas = max(replicas, int(data_parallel[1]))
    load = _load(row["batch_or_concurrency"])
    shares = re.search(r"gpu_experts=(\d+)%", parallel)
    offload: Any = bool(re.search(r"cpu-offload|CPU experts|GPU/CPU", parallel))
    return {
        "id": str(number),
        "machines_count": max((_whole(row["n_devices"]) or 1) // replicas, 1),
        "replicas": replicas,
        "engine": row["engine"],
        "weights": row["quantization_weights"],
        "kv_type": row["kv_dtype"],
        "tensor_parallel": _degree("TP", parallel),
        "pipeline_parallel": _degree("PP", parallel),
        "expert_parallel": 1 if re.search(r"\bEP", parallel) else None,
        "cpu_offload": f"gpu_experts={shares[1]}%" if shares else offload,
        "speculative": parallel[parallel.index("spec") :] if "spec" in parallel else False,
        "on_cpu": row["parallelism"] == "CPU" or row["hardware"].startswith("CPU "),
        "concurrency": load,
        "input_tokens": prompt,
        "output_tokens": _whole(row["output_tokens"]),
        "context_depth": depth or 0,
        "metric": row["metric"],
    }


def _load(text: str) -> int | str:
    number = _whole(text)
    if number is not None:
        return max(number, 1)
    if re.search(r"max|server|peak|offline", text, re.IGNORECASE):
        return _SATURATED
    return text or 1


def _degree(letters: str, text: str) -> int | None:
    found = re.search(rf"{letters}(\d+)", text)
    return int(found[1]) if found else None


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _whole(text: str) -> int | None:
    value = _number(text)
    return None if value is None else round(value)


class ConfigNames:
    """Configs found by the names that people give to files, tags and tunings of a model."""

    def __init__(self, names: Iterable[str]) -> None:
        self._known: dict[tuple[str, ...], str] = {}
        for name in names:
            self._known.setdefault(_words(name), name)
        for words, name in list(self._known.items()):
            if _ACTIVE.match(words[-1]):
                self._known.setdefault(words[:-1], name)

    def find(self, name: str) -> str | None:
        """Return the config that `name` means, None where there is none."""
        words = _words(name)
        best: tuple[int, int, str] | None = None
        for known, config in self._known.items():
            length = len(known)
            for start in range(len(words) - length + 1):
                if words[start : start + length] == known:
                    if "distill" in words[start + length :]:
                        continue
                    found = (start + length, length, config)
                    if best is None or found[:2] > best[:2]:
                        best = found
        return best[2] if best else None


def _words(name: str) -> tuple[str, ...]:
    """Return the words of a name that tell its shape.

    >>> _words("unsloth/Qwen3.6-35B-A3B-MTP-GGUF"), _words("gemma4:12b-mlx")
    (('qwen', '3.6', '35b', 'a3b'), ('gemma', '4', '12b'))
    """
    bare = name.rsplit("/", maxsplit=1)[-1].lower().removesuffix(".gguf").replace("meta-llama", "llama")
    found: list[str] = []
    for word in re.split(r"[-_:\s()]+", bare):
        if not word or word in _FORMAT_WORDS or _DROPPED.match(word):
            continue
        versioned = _VERSIONED.match(word)
        found.extend(versioned.groups() if versioned else (word,))
    return tuple(found)
